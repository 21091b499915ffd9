"""Relaxed ranking distillation: the teacher's best of a list in the teacher's order, all the rest below, unordered.

    L_r = -1/K sum_{k <= K} log(e^{z_k} / sum_{i >= k} e^{z_i}),    rows by the teacher's order, K = ceil(share n) of n

Source: Kang et al., DE-RRD (CIKM 2020, arXiv 2012.04357), section 4.2. Differs: the whole top list instead of a sample
of it, as its authors advise since and do in HetComp (WWW 2023); the uninteresting are all other rows of the list, so
what was drawn is what the list holds; divided by K, so that a long list does not pull harder; log-sum-exp instead of
scores cut off at 80. Only the teacher's order enters. Rows that the term's selection gives the weight 0 take no part. A
list of one row has loss 0.

>>> rows = Batch.example(label=[0.0, 0.0, 0.0], request=[8, 8, 8])
>>> student = Scores(logit=torch.tensor([math.log(2.0), 0.0, 0.0]))
>>> teacher = Scores(logit=torch.tensor([0.0, -5.0, 9.0]))  # the order 2, 0, 1
>>> relaxed_ranking(student, teacher, rows, share=0.6).exp()  # sqrt(4 / 1 * 3 / 2)
tensor([2.4495])
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from recdistill.distil import lists
from recdistill.slates import slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests"}


def relaxed_ranking(
    student: Scores, teacher: Scores, batch: Batch, *, share: Annotated[float, Field(gt=0, le=1)] = 0.5
) -> Tensor:
    """[G] loss per request, ascending by request id, in nats. share: of a list that is its top."""
    view = slates(batch.request)
    mask_GL = lists.chosen(view, batch.weight)
    return lists.relaxed_ranking(view.pad(student.logit), view.pad(teacher.logit), mask_GL, share)
