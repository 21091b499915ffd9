"""Candidates that a request did not show, put beside the rows that it did: scored by the teacher, without a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill.config.run import Run
from recdistill.data.batches import Batches
from recdistill.data.candidates import candidates_name, open_candidates
from recdistill.data.scores import open_scores
from recdistill.problems import BadInput, problem
from recdistill.types import Batch, Scores


class Unlabelled:
    """The stored candidates of the train window. BadInput where the score step stored none.

    scored: whether their stored scores are wanted; not so of a teacher in the loop.
    """

    def __init__(self, run: Run, inputs: Mapping[str, Path], *, scored: bool) -> None:
        if run.score.candidates is None:
            where, remedy = (
                "score.candidates",
                "write score: {candidates: {per_request: 10}}, or recipe.unlabelled=false",
            )
            raise BadInput(problem(where, wanted="candidates to learn from", found="none", remedy=remedy))
        rows = open_candidates(inputs["score"], "train", inputs["prepare"])
        teacher = open_scores(inputs["score"], candidates_name("train"), rows, inputs["prepare"]) if scored else None
        self.batches = Batches(rows=rows, batch_size=1, teacher=teacher)
        self.order = np.argsort(rows["request"], kind="stable")
        self.request = np.asarray(rows["request"])[self.order]

    def beside(self, batch: Batch) -> Batch:
        """The batch, then the candidates of its requests, whose labels are NaN."""
        wanted = np.unique(batch.request.numpy())
        starts, ends = (np.searchsorted(self.request, wanted, side=side) for side in ("left", "right"))
        places = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)]).astype(np.int64)
        if not len(places):
            return batch
        more = self.batches.batch(self.order[places])
        return joined(batch, replace(more, label=torch.full_like(more.label, float("nan"))))


def joined(one: Batch, other: Batch) -> Batch:
    """The rows of both, one after the other; what only one of them has is left out."""
    return replace(one, **_both(one, other), teacher=_scores(one.teacher, other.teacher))


def _scores(one: Scores | None, other: Scores | None) -> Scores | None:
    return None if one is None or other is None else replace(one, **_both(one, other))


def _both(one: Batch | Scores, other: Batch | Scores) -> dict[str, Any]:
    pairs = {field.name: (getattr(one, field.name), getattr(other, field.name)) for field in fields(one)}
    return {
        name: torch.cat([a, b]) if isinstance(a, Tensor) and isinstance(b, Tensor) else None
        for name, (a, b) in pairs.items()
        if name != "teacher"
    }
