"""Only rows that are not positives: what was shown and not clicked, candidates that were not shown, unseen items.

    w_i = 1 for y_i < 1/2 or unknown, else 0

Source: the unobserved items on which Tang & Wang, Ranking Distillation (KDD 2018), and most after them, follow the
teacher, the positives being the label's business.

>>> unobserved(Batch.example(label=[1.0, 0.0, 0.0]))
tensor([0., 1., 1.])
"""

from torch import Tensor

from recdistill.types import Batch


def unobserved(batch: Batch) -> Tensor:
    """[N] weights, 0 or 1."""
    return (batch.label < 0.5).to(batch.weight.dtype)
