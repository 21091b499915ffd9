"""Only the share of a batch that the student is least sure of learns: with a live teacher, only they are scored.

    w_i = 1 for the ceil(share N) rows of the largest entropy, else 0;    the entropy of a coin, or of the row's request

Source: the choice of data of Li et al., Dynamic Knowledge Distillation for Pre-trained Language Models (EMNLP 2021,
section 3.2, share 0.5). Their three measures (entropy, confidence, margin) order the rows of one logit alike. As the
selection of a teacher's term it saves (1 - share) of the teacher's work; over = request keeps or drops requests whole.
Rows of one request that fall across the limit are ties: all of them learn.

>>> most_uncertain(Batch.example(label=[1.0, 0.0, 0.0]), Scores(logit=torch.tensor([-3.0, 0.1, 2.0])), share=0.5)
tensor([0., 1., 1.])
"""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from recdistill.distil.entropy import coin_entropy, list_entropy
from recdistill.types import Batch, Scores

NEEDS = {"student", "batch"}


def most_uncertain(
    batch: Batch,
    student: Scores,
    *,
    share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    over: Literal["row", "request"] = "row",
) -> Tensor:
    """[N] weights, 0 or 1."""
    entropy_N = coin_entropy(student.logit) if over == "row" else list_entropy(student.logit, batch.request)
    limit = entropy_N.topk(math.ceil(share * len(batch))).values[-1]
    return (entropy_N >= limit).to(batch.weight.dtype)
