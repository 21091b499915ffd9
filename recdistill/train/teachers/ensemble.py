"""Several teachers as one ranker: the mean of their logits, or a weighted one, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.types import Scores

_ROUNDS = 100


class Ensemble(nn.Module):
    """Looks like one teacher. weights: of the members, adding up to 1; None takes all alike."""

    def __init__(self, members: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.weights = list(weights or [1 / len(members)] * len(members))

    def forward(self, ids: Tensor, dense: Tensor) -> Scores:
        """ids: [N, K] int64, dense: [N, D] float32 -> Scores of N rows, with the variance between members."""
        return combined([member(ids, dense) for member in self.members], self.weights)


def combined(scores: Sequence[Scores], weights: Sequence[float]) -> Scores:
    """logit = sum_m w_m z_m,    variance = sum_m w_m (z_m - logit)^2; hidden vectors side by side, where all have one.

    Source: Lakshminarayanan et al., Deep Ensembles (NeurIPS 2017, section 2.4), whose members are weighed alike.
    Differs: logits are averaged instead of probabilities, because a student is taught by logits.

    >>> members = [Scores(logit=torch.tensor([2.0, 1.0])), Scores(logit=torch.tensor([6.0, 1.0]))]
    >>> scores = combined(members, [0.25, 0.75])
    >>> scores.logit, scores.variance  # 0.25 * 3^2 + 0.75 * 1^2
    (tensor([5., 1.]), tensor([3., 0.]))
    """
    weight_M = torch.tensor(weights, dtype=torch.float32, device=scores[0].logit.device)
    logit_NM = torch.stack([member.logit for member in scores], dim=1)
    logit_N = (logit_NM * weight_M).sum(dim=1)  # not a matrix product, which autocast would round
    variance_N = ((logit_NM - logit_N.unsqueeze(1)).square() * weight_M).sum(dim=1)
    hidden = [member.hidden for member in scores if member.hidden is not None]
    tasks = [member.tasks for member in scores if member.tasks is not None]
    return Scores(
        logit=logit_N,
        members=logit_NM,
        variance=variance_N,
        hidden=torch.cat(hidden, dim=1) if len(hidden) == len(scores) else None,
        tasks=(torch.stack(tasks, dim=-1) * weight_M).sum(dim=-1) if len(tasks) == len(scores) else None,
    )


def gate(logit_NM: Tensor, label_N: Tensor, offset_N: Tensor) -> list[float]:
    """The weights w = softmax(a) of M members that give the least log loss on some rows, by L-BFGS from equal ones.

    logit_NM: [N, M] of the members. offset_N: added to the logit before it meets the label. Source: stacked
    generalisation with weights that are not negative (Breiman, Stacked regressions, 1996). Differs: log loss instead of
    squares, and weights that add up to 1, so that the members' scale stays.
    """
    a_M = torch.zeros(logit_NM.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([a_M], max_iter=_ROUNDS, line_search_fn="strong_wolfe")
    logit_NM, label_N, offset_N = logit_NM.double(), label_N.double(), offset_N.double()

    def loss() -> Tensor:
        optimiser.zero_grad()
        mixed_N = logit_NM @ torch.softmax(a_M, dim=0) + offset_N
        value = binary_cross_entropy_with_logits(mixed_N, label_N)
        value.backward()
        return value

    optimiser.step(loss)
    return [float(weight) for weight in torch.softmax(a_M.detach(), dim=0)]
