"""Experts that each map the student's vectors to the teacher's, and a selector that gives every vector one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.distil.hashed import uniform


class Experts(nn.Module):
    """E_m: own -> (own + theirs) / 2 -> theirs with a ReLU between, m = 1..number; the selector reads the teacher's.

        a = softmax(W h' + c),    s = softmax((log a + gumbel) / temperature)

    Source: Kang et al., DE-RRD (CIKM 2020, arXiv 2012.04357), section 4.1. The Gumbel noise is a hash of the row, the
    expert and how often this was called in training, so that a training can be taken up again; none in evaluation.
    """

    calls: Tensor

    def __init__(self, own: int, theirs: int, number: int) -> None:
        super().__init__()
        middle = (own + theirs) // 2
        self.into, self.out = (
            nn.ModuleList(nn.Linear(a, b) for _ in range(number)) for a, b in _pairs(own, middle, theirs)
        )
        self.selector = nn.Linear(theirs, number)
        self.number = number
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def shares(self, theirs_NH: Tensor, row_id: Tensor, temperature: float) -> Tensor:
        """[N, M] how much of each expert a row gets; one of them nearly all where the temperature is low."""
        log_NM = torch.log_softmax(self.selector(theirs_NH), dim=1)
        if self.training:
            self.calls += 1
            place_NM = row_id.unsqueeze(1) * self.number + torch.arange(self.number, device=row_id.device)
            chance_NM = uniform(place_NM.reshape(-1), int(self.calls)).view_as(log_NM)
            log_NM = log_NM - (-chance_NM.log()).log().to(log_NM.dtype)
        return torch.softmax(log_NM / temperature, dim=1)

    def forward(self, own_NH: Tensor, share_NM: Tensor) -> Tensor:
        """[N, H'] sum_m s_m E_m(h)."""
        mapped = [out(torch.relu(into(own_NH))) for into, out in zip(self.into, self.out, strict=True)]
        return (torch.stack(mapped, dim=1) * share_NM.unsqueeze(2)).sum(dim=1)


def _pairs(own: int, middle: int, theirs: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (own, middle), (middle, theirs)
