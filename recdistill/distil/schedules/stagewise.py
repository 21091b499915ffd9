"""Stage by stage from the tables to the head: the layers mimic the teacher's, then the head alone learns the labels.

    stage = floor(progress / (1 - head) * (K + 1)) while progress < 1 - head, for K hidden layers;    then the head

In stage k the teacher's terms count, the setting `block` is k and part k of the student learns (0 the tables, k >= 1
the k-th layer); with below = trained the parts below it go on learning. In the last stage the label's terms count.

Source: below = frozen is Kulkarni et al., Data Efficient Stagewise Knowledge Distillation (2019, arXiv 1911.06786);
below = trained is Gao et al., An Embarrassingly Simple Approach for Knowledge Distillation (2018, arXiv 1812.01819).
Differs from both: stages share one training budget instead of having one each, and the weights of a stage's best check
are not put back before the next.

>>> stages = Stagewise(Facts(student=Widths(fields=(), field=0, pooled=3, blocks=(8,), hidden=8)), head=0.5)
>>> [(sorted(now.trains), now.label, dict(now.settings)) for now in map(stages, (0.1, 0.3, 0.8))]
[([0], 0.0, {'block': 0}), ([1], 0.0, {'block': 1}), ([2], 1.0, {'block': 1})]
"""

from typing import Annotated, Literal

from pydantic import Field

from recdistill.distil.facts import Facts
from recdistill.distil.multipliers import Multipliers

NEEDS = {"blocks"}


class Stagewise:
    """head: the share of the training that the last stage takes."""

    def __init__(
        self,
        facts: Facts,
        *,
        below: Literal["frozen", "trained"] = "frozen",
        head: Annotated[float, Field(gt=0, lt=1)] = 0.4,
    ) -> None:
        assert facts.student is not None
        self.num_blocks = len(facts.student.blocks)
        self.below, self.head = below, head

    def __call__(self, progress: float) -> Multipliers:
        """Multipliers at a progress in [0, 1]."""
        if progress >= 1 - self.head:
            last = frozenset({self.num_blocks + 1})
            return Multipliers(label=1.0, teacher=0.0, settings={"block": self.num_blocks}, trains=last)
        stage = int(progress / (1 - self.head) * (self.num_blocks + 1))
        parts = range(stage + 1) if self.below == "trained" else (stage,)
        return Multipliers(label=0.0, teacher=1.0, settings={"block": stage}, trains=frozenset(parts))
