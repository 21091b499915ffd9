"""RankDistil: the teacher's best of a list in its order, and every other row pushed down.

    L_r = -1/K sum_{k <= K} log(e^{z_k} / sum_{i >= k} e^{z_i}) + push / (n - K) sum_{j > K} log(1 + e^{z_j})

Rows by the teacher's order, K = ceil(share n) of n. A list of one row has loss 0. The second part lowers the level of
what is not in the top, so it fights calibration.

Source: Reddi et al., RankDistil: Knowledge Distillation for Ranking (AISTATS 2021), whose aim this is: order in the
top, low scores below. Its losses were not at hand: the first part is rank.relaxed_ranking's, the second a smooth hinge
at 0. Differs: their variant that weighs by the teacher's scores is left out.

>>> rows = Batch.example(label=[0.0, 0.0, 0.0], request=[8, 8, 8])
>>> student = Scores(logit=torch.tensor([0.0, math.log(3.0), 0.0]))
>>> teacher = Scores(logit=torch.tensor([9.0, -1.0, -2.0]))
>>> rankdistil(student, teacher, rows, share=0.3, push=2.0).exp()  # 5 / 1 times ((1 + 3) (1 + 1)) ^ (2 / 2)
tensor([40.])
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from recdistill.distil.lists import chosen, num_top, relaxed_ranking
from recdistill.slates import ranks, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests"}


def rankdistil(
    student: Scores,
    teacher: Scores,
    batch: Batch,
    *,
    share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    push: Annotated[float, Field(ge=0)] = 0.5,
) -> Tensor:
    """[G] loss per request, ascending by request id, in nats."""
    view = slates(batch.request)
    mask_GL, student_GL, teacher_GL = chosen(view, batch.weight), view.pad(student.logit), view.pad(teacher.logit)
    tail_GL = mask_GL & (ranks(teacher_GL, mask_GL) >= num_top(mask_GL, share))
    pushed_G = (softplus(student_GL) * tail_GL).sum(dim=1) / tail_GL.sum(dim=1).clamp_min(1)
    return relaxed_ranking(student_GL, teacher_GL, mask_GL, share) + push * pushed_G
