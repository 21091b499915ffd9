"""Experts that each map the student's vectors to the teacher's, and a selector that gives every vector one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.distil.gram import principal
from recdistill.distil.hashed import uniform

NEGLIGIBLE = 1e-8


class Experts(nn.Module):
    """E_m: own -> (own + theirs) / 2 -> theirs with a ReLU between, m = 1..number; the selector reads the teacher's.

        a = softmax(W h' + c),    s = softmax((log a + gumbel) / temperature)

    theirs: [N, H'] in coordinates along `directions` of their own, the principal ones of the first batch in training,
    where H' is more than that: a map's cost grows with the square of the width, and what a wide teacher's vector says
    lies in few directions. None keeps all. What the others hold is in the loss, as no expert can tell it.

    length: the mean squared length of that batch's vectors, H' before it; losses are divided by it, so that a weight
    hangs neither on the width nor on the scale of a teacher.

    Source: Kang et al., DE-RRD (CIKM 2020, arXiv 2012.04357), section 4.1; there all directions. The Gumbel noise is a
    hash of the key, the expert and how often this was called in training, so that a training can be taken up again;
    none in evaluation.
    """

    calls: Tensor
    basis: Tensor
    length: Tensor

    def __init__(self, own: int, theirs: int, number: int, directions: int | None = None) -> None:
        super().__init__()
        self.register_buffer("length", torch.tensor(float(theirs)))
        self.cut = directions is not None and directions < theirs
        if self.cut:
            assert directions is not None
            self.register_buffer("basis", torch.eye(theirs, directions))
            theirs = directions
        middle = (own + theirs) // 2
        self.into, self.into_bias = _layers(number, own, middle)
        self.out, self.out_bias = _layers(number, middle, theirs)
        self.selector = nn.Linear(theirs, number)
        self.number = number
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def loss(self, own_NH: Tensor, theirs_NH: Tensor, key_N: Tensor, temperature: float) -> Tensor:
        """[N] how far what their experts make of the student's vectors is from the teacher's; see misfit."""
        short_NH = self.short(theirs_NH)
        mapped_NH = self(own_NH, self.shares(short_NH, key_N, temperature))
        return self.misfit(mapped_NH, short_NH, theirs_NH)

    def short(self, theirs_NH: Tensor) -> Tensor:
        """[N, K] their vectors in the experts' coordinates, which the first batch in training says, as their length."""
        first = self.training and not self.calls
        if first:
            self.length.copy_(theirs_NH.square().sum(dim=1).mean().clamp_min(NEGLIGIBLE))
        if not self.cut:
            return theirs_NH
        if first:
            self.basis.copy_(principal(theirs_NH, self.basis.shape[1]))
        return theirs_NH @ self.basis

    def misfit(self, mapped_NK: Tensor, short_NK: Tensor, theirs_NH: Tensor) -> Tensor:
        """[N] squared length of what the experts leave, inside their coordinates and outside, over that of a vector."""
        inside = (mapped_NK - short_NK).square().sum(dim=1)
        if self.cut:
            inside = inside + (theirs_NH.square().sum(dim=1) - short_NK.square().sum(dim=1)).clamp_min(0.0)
        return inside / self.length

    def shares(self, theirs_NH: Tensor, key_N: Tensor, temperature: float) -> Tensor:
        """[N, M] how much of each expert a vector gets; one of them nearly all where the temperature is low."""
        log_NM = torch.log_softmax(self.selector(theirs_NH), dim=1)
        if self.training:
            self.calls += 1
            place_NM = key_N.unsqueeze(1) * self.number + torch.arange(self.number, device=key_N.device)
            chance_NM = uniform(place_NM.reshape(-1), int(self.calls)).view_as(log_NM)
            log_NM = log_NM - (-chance_NM.log()).log().to(log_NM.dtype)
        return torch.softmax(log_NM / temperature, dim=1)

    @torch.no_grad()
    def group(self, theirs_NH: Tensor) -> Tensor:
        """[N] the expert that the selector gives each vector most of, without noise."""
        return self.selector(self.short(theirs_NH)).argmax(dim=1)

    def forward(self, own_NH: Tensor, share_NM: Tensor) -> Tensor:
        """[N, H'] sum_m s_m E_m(h); shares that a float32 would not show are left out."""
        heard_MN = (share_NM > NEGLIGIBLE).T
        if int(heard_MN.sum()) > share_NM.numel() / 4:
            return self._all(own_NH, share_NM)
        expert, row = heard_MN.nonzero(as_tuple=True)
        share = share_NM[row, expert].unsqueeze(1)
        size_M = torch.bincount(expert, minlength=self.number).tolist()
        own_M = own_NH.index_select(0, row).split(size_M)
        mapped = [torch.relu(own @ self.into[m] + self.into_bias[m]) @ self.out[m] for m, own in enumerate(own_M)]
        bias = self.out_bias.squeeze(1).index_select(0, expert)
        mapped_NH = own_NH.new_zeros(len(own_NH), self.out.shape[2])
        return mapped_NH.index_add(0, row, (torch.cat(mapped) + bias) * share)

    def _all(self, own_NH: Tensor, share_NM: Tensor) -> Tensor:
        """All experts as two products."""
        number, own, middle = self.into.shape
        into_HK = self.into.transpose(0, 1).reshape(own, number * middle)
        middle_NK = torch.relu(torch.addmm(self.into_bias.reshape(-1), own_NH, into_HK))
        shared_NK = (middle_NK.view(-1, number, middle) * share_NM.unsqueeze(2)).flatten(1)
        return shared_NK @ self.out.flatten(0, 1) + share_NM @ self.out_bias.squeeze(1)


def _layers(number: int, own: int, other: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights [M, own, other] and biases [M, 1, other] of as many linear layers, drawn as torch draws one."""
    limit = own**-0.5
    weight, bias = torch.empty(number, own, other), torch.empty(number, 1, other)
    return nn.Parameter(weight.uniform_(-limit, limit)), nn.Parameter(bias.uniform_(-limit, limit))
