"""Learn more, or less, from the rows that the student is unsure of.

    u_i = min(1, H(sigmoid(z_i)) / H(pi)),    H the entropy of a coin, pi the base rate    (over = row)
    u_i = H(softmax of the row's request) / log(rows of the request), 0 for one row    (over = request)
    w_i = u_i, or 1 - u_i where sure

Source: the choice of objectives of Li et al., Dynamic Knowledge Distillation for Pre-trained Language Models (EMNLP
2021, section 3.3): unsure rows follow the teacher's hidden layer, sure ones its logits. Differs: the entropy of a row
is measured against the base rate's, as on a log of few clicks it is tiny everywhere.

>>> unsure = StudentEntropy(Facts(base_rate=0.0), sure=True)
>>> unsure(Batch.example(label=[1.0, 0.0]), Scores(logit=torch.tensor([0.0, 60.0])))
tensor([0., 1.])
"""

from typing import Literal

from torch import Tensor

from recdistill.distil.entropy import list_entropy, relative_entropy
from recdistill.distil.facts import Facts
from recdistill.types import Batch, Scores

NEEDS = {"student", "requests"}


class StudentEntropy:
    """sure: whether sure rows weigh more."""

    def __init__(self, facts: Facts, *, over: Literal["row", "request"] = "row", sure: bool = False) -> None:
        self.base_rate, self.over, self.sure = facts.base_rate, over, sure

    def __call__(self, batch: Batch, student: Scores) -> Tensor:
        """[N] weights in [0, 1]."""
        if self.over == "row":
            unsure_N = relative_entropy(student.logit, self.base_rate)
        else:
            unsure_N = list_entropy(student.logit, batch.request)
        return 1 - unsure_N if self.sure else unsure_N
