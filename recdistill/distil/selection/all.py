"""Learn from every row with the weight that it has.

    w_i = 1

>>> all(Batch.example(label=[1.0, 0.0, 1.0]))
tensor([1., 1., 1.])
"""

import torch
from torch import Tensor

from recdistill.types import Batch


def all(batch: Batch) -> Tensor:
    """[N] ones."""
    return torch.ones_like(batch.weight)
