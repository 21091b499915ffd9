"""The teacher's choice of dynamic distillation: the surer the student, the more it hears the large teacher.

    t_i <- u_i t'_i + (1 - u_i) t_i
    u_i = min(1, H(sigmoid(s_i)) / H(pi))                                       (over = row)
    u_i = H(softmax of the row's request) / log(rows of the request)            (over = request)

H is the entropy of a coin, pi the base rate, t' the small teacher: the first generation of the student itself, trained
on the labels alone. Source: Li et al., Dynamic Knowledge Distillation for Pre-trained Language Models (EMNLP 2021,
section 3.1, soft choice). Differs: their small teacher lies between student and large teacher in size; the entropy is
measured against that of the base rate, as on a log of few clicks it is tiny everywhere; logits are mixed instead of
losses.

>>> small = RowLogits(row_id=torch.tensor([0, 1]), logit=torch.tensor([1.0, 1.0]))
>>> mix = TwoTeachers(Facts(others={"first_generation": small}))
>>> student = Scores(logit=torch.tensor([0.0, 60.0]))  # knows nothing; is sure
>>> mix(Scores(logit=torch.tensor([3.0, 3.0])), Batch.example(label=[1.0, 0.0]), student).logit
tensor([1., 3.])
"""

from dataclasses import replace
from typing import Literal

from recdistill.distil.entropy import list_entropy, relative_entropy
from recdistill.distil.facts import Facts
from recdistill.types import Batch, Scores

NEEDS = {"student", "first_generation", "batch"}


class TwoTeachers:
    """Mixes the teacher with the student's first generation."""

    def __init__(self, facts: Facts, *, over: Literal["row", "request"] = "row") -> None:
        self.small, self.base_rate, self.over = facts.others["first_generation"], facts.base_rate, over

    def __call__(self, teacher: Scores, batch: Batch, student: Scores) -> Scores:
        """The teacher's scores, mixed row by row."""
        small_N, _ = self.small.of(batch.row_id)
        by_row = self.over == "row"
        share_N = (
            relative_entropy(student.logit, self.base_rate) if by_row else list_entropy(student.logit, batch.request)
        )
        return replace(teacher, logit=share_N * small_N + (1 - share_N) * teacher.logit)
