"""A list softmax over the teacher's top, the student's top and some chance rows: a set that hides no mistake.

    L_r = (1 - g) KL(P_T || P_S over S) + g KL(P_T || P_S over S + T + R)
    S, T: the K = ceil(share n) best of n rows by student and teacher; R: others by chance; g = |T - S| / K

Over the teacher's top alone, what the student wrongly puts first is never in the sum, so it is never pushed down. Where
the student knows the teacher's top, its own is put in order; the more it lacks, the more is learnt over the union.

Source: rejuvenating cross-entropy for recommenders (RCE-KD, ICLR 2026): cross-entropy on a subset bounds NDCG only if
the subset holds the student's top items; the teacher's top is split by what the student ranks high too, with a weight
that adapts. Its text was not at hand: the two sets and g are our reading. R is the same for a row at every step, by a
hash. A request of one row has loss 0. What was not shown joins the list by `unlabelled: true`.

>>> rows = Batch.example(label=[0.0, 0.0, 0.0], request=[8, 8, 8])
>>> student = Scores(logit=torch.tensor([1.0, 0.0, -9.0]))
>>> teacher = Scores(logit=torch.tensor([0.0, math.log(3.0), -9.0]))  # S = {0}, T = {1}: the second part alone
>>> s, t = (torch.softmax(scores.logit[:2], 0) for scores in (student, teacher))
>>> loss = closure(student, teacher, rows, share=0.3, chance=0.0)
>>> torch.allclose(loss, (t * (t / s).log()).sum())
True
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from recdistill.distil.hashed import uniform
from recdistill.distil.lists import num_top
from recdistill.slates import log_softmax, ranks, slates
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "requests"}


def closure(
    student: Scores,
    teacher: Scores,
    batch: Batch,
    *,
    share: Annotated[float, Field(gt=0, le=1)] = 0.3,
    chance: Annotated[float, Field(ge=0, le=1)] = 0.3,
) -> Tensor:
    """[G] loss per request, ascending by request id, in nats. chance: that another row is taken in."""
    view = slates(batch.request)
    student_GL, teacher_GL = view.pad(student.logit), view.pad(teacher.logit)
    kept_G1 = num_top(view.mask, share)
    own_GL, theirs_GL = (
        view.mask & (ranks(logit_GL, view.mask) < kept_G1) for logit_GL in (student_GL.detach(), teacher_GL)
    )
    drawn_GL = view.pad(uniform(batch.row_id, 5), fill=1.0) < chance
    missed_G = ((theirs_GL & ~own_GL).sum(dim=1, keepdim=True) / kept_G1).squeeze(1).to(student_GL.dtype)
    closed_GL = own_GL | theirs_GL | (drawn_GL & view.mask)
    inner_G, outer_G = (_divergence(student_GL, teacher_GL, mask_GL) for mask_GL in (own_GL, closed_GL))
    return (1 - missed_G) * inner_G + missed_G * outer_G


def _divergence(student_GL: Tensor, teacher_GL: Tensor, mask_GL: Tensor) -> Tensor:
    """[G] KL(P_T || P_S) over the rows of the mask."""
    log_S, log_T = log_softmax(student_GL, mask_GL), log_softmax(teacher_GL, mask_GL)
    return (log_T.exp() * mask_GL * (log_T - log_S)).sum(dim=1)
