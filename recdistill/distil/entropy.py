"""The entropy of a coin with a given logit, in nats, and how it stands to that of the base rate."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from recdistill.slates import log_softmax, slates


def coin_entropy(logit: Tensor) -> Tensor:
    """H(sigmoid(z)) = log(1 + e^z) - z sigmoid(z), in nats.

    >>> coin_entropy(torch.tensor([0.0])).exp()
    tensor([2.])
    """
    return softplus(logit) - torch.sigmoid(logit) * logit


def relative_entropy(logit: Tensor, base_rate: float) -> Tensor:
    """min(1, H(sigmoid(z)) / H(sigmoid(base_rate))): 1 for a row of which no more is known than of any."""
    return (coin_entropy(logit) / coin_entropy(torch.tensor(base_rate, dtype=torch.float64)).item()).clamp(0.0, 1.0)


def list_entropy(logit: Tensor, request: Tensor) -> Tensor:
    """[N] entropy of the list softmax of the row's request, over the log of its size; 0 for a request of one row.

    >>> list_entropy(torch.tensor([1.0, 1.0, 5.0]), torch.tensor([4, 4, 9])).abs()
    tensor([1., 1., 0.])
    """
    view = slates(request)
    log_GL = log_softmax(view.pad(logit), view.mask)
    entropy_G = -(log_GL.exp() * view.mask * log_GL).sum(dim=1) / view.sizes.clamp_min(2).to(logit.dtype).log()
    return view.flat(entropy_G.unsqueeze(1).expand_as(log_GL)).clamp(0.0, 1.0)
