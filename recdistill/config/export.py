"""The export section of a run: how the bundle is written and when it is refused."""

from __future__ import annotations

from recdistill.config.sections import Count, Fraction, Section
from recdistill.config.student import Precision


class Export(Section):
    quantise: Precision = "none"
    """Bits of every table that does not say its own: row-wise codes with a scale of 16 bits a row."""
    least_share: Fraction = 0.999
    """AUC and NDCG of the quantised student on the validation window, as shares of the float one's: less is refused."""
    golden: Count = 64
    """How many raw requests go into the bundle with their scores."""
