"""Only the rows that the teacher puts on the right side of all rows of the other label in their request, or the others.

    m_i = 1 if t_i > t_j for all rows j with y_j < y_i and t_i < t_j for all with y_j > y_i in the request, else 0
    w_i = m_i, or 1 - m_i where right is false

Source: the split into right and wrong knowledge of Zhang et al., Can Students Beyond the Teacher? Distilling Knowledge
from Teacher's Bias (AAAI 2025, arXiv 2412.09874), here by order in a request, as a probability below one half is not
wrong where clicks are rare. A tie is wrong. A request of one label has no wrong row.

>>> rows = Batch.example(label=[1.0, 0.0, 0.0], request=[5, 5, 5], teacher=Scores(logit=torch.tensor([1.0, 2.0, 0.0])))
>>> teacher_right(rows)
tensor([0., 0., 1.])
"""

from torch import Tensor

from recdistill.slates import slates
from recdistill.types import Batch

NEEDS = {"teacher", "requests"}


def teacher_right(batch: Batch, *, right: bool = True) -> Tensor:
    """[N] weights, 0 or 1."""
    assert batch.teacher is not None
    view = slates(batch.request)
    positive_GL = view.pad(batch.label) > 0.5
    negative_GL = view.mask & ~positive_GL
    logit_GL = view.pad(batch.teacher.logit)
    best_G1 = logit_GL.masked_fill(~negative_GL, float("-inf")).amax(dim=1, keepdim=True)
    worst_G1 = logit_GL.masked_fill(~positive_GL, float("inf")).amin(dim=1, keepdim=True)
    right_GL = (positive_GL & (logit_GL > best_G1)) | (negative_GL & (logit_GL < worst_G1))
    return (view.flat(right_GL) == right).to(batch.weight.dtype)
