"""Bayesian personalised ranking: in every request, the rows that were acted on above those that were not.

    L_r = -mean over positives p and negatives n of request r of log sigmoid(z_p - z_n)

Source: Rendle et al., BPR (UAI 2009, equation of BPR-Opt), without its prior on the weights. With one positive and one
drawn negative a request it is theirs; of a larger request every pair counts alike. A request of one class has loss 0.
Adding a constant to a request's scores changes nothing, so it cannot calibrate.

>>> student = Scores(logit=torch.tensor([2.0, 0.0, -1.0, 5.0]))
>>> rows = Batch.example(label=[1.0, 0.0, 0.0, 1.0], request=[8, 8, 8, 9])
>>> want = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-3))) / 2
>>> torch.allclose(bpr(student, None, rows), torch.tensor([want, 0.0]))
True
"""

from torch import Tensor
from torch.nn.functional import softplus

from recdistill.slates import slates
from recdistill.types import Batch, Scores

NEEDS = {"requests"}


def bpr(student: Scores, teacher: Scores | None, batch: Batch) -> Tensor:
    """[G] loss per request, ascending by request id, in nats."""
    view = slates(batch.request)
    logit_GL = view.pad(student.logit)
    positive_GL = view.mask & (view.pad(batch.label) > 0)
    pair_GLL = (positive_GL.unsqueeze(2) & (view.mask & ~positive_GL).unsqueeze(1)).to(logit_GL.dtype)
    loss_GLL = softplus(logit_GL.unsqueeze(1) - logit_GL.unsqueeze(2)) * pair_GLL
    return loss_GLL.sum(dim=(1, 2)) / pair_GLL.sum(dim=(1, 2)).clamp_min(1.0)
