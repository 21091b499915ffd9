"""A comparison in the shape of pairs: one training as its users' metrics, and their means with the shared draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recdistill.config.run import Run
from recdistill.metrics.bootstrap import Bootstrap, Draws, bootstrap
from recdistill.metrics.full_ranking import full_ranking, weighted
from recdistill.metrics.rows import Floats
from recdistill.pairs.evaluate import judged_for
from recdistill.pairs.lists import open_teacher
from recdistill.pairs.student import fit_student
from recdistill.train.engine.course import Trained
from recdistill.train.students.student import Arm


@dataclass(frozen=True, slots=True, kw_only=True)
class PairJudge:
    """names: of the metrics, in the order of a training's columns. drawn: the draws that all models share."""

    names: tuple[str, ...]
    drawn: Bootstrap

    def __call__(self, judged: Sequence[Floats]) -> Draws:
        """Metric -> [B + 1], the mean over the drawn seeds; judged: [U, metrics] per seed, or one for all."""
        each = [weighted(dict(zip(self.names, one.T, strict=True)), self.drawn.weights) for one in judged]
        return self.drawn.over_seeds(each)


def pair_judge(run: Run, inputs: Mapping[str, Path], num_seeds: int) -> tuple[PairJudge, Floats, int, int]:
    """(the judge, the teacher's [U, metrics], test pairs, users)."""
    judged = judged_for(run, inputs["prepare"])
    teacher = open_teacher(inputs["score"], inputs["prepare"])
    found = full_ranking(teacher.user, teacher.item, judged, run.evaluate.at)
    drawn = bootstrap(len(judged.user), run.evaluate.draws, num_seeds, np.random.default_rng([run.seed, 3]))
    at = PairJudge(names=tuple(found), drawn=drawn)
    return at, _columns(found), len(judged.relevant[0]), len(judged.user)


def train_pairs(run: Run, inputs: Mapping[str, Path], seed: int, arm: Arm) -> tuple[Trained, NDArray[Any]]:
    """One training, and its [U, metrics] on the test window."""
    trained = fit_student(run, inputs, run.recipe, seed, arm=arm)
    user, item = (trained.weights[name] for name in ("user", "item"))
    return trained, judged_by(run, inputs["prepare"], user, item)


def judged_by(run: Run, prepared: Path, user: Tensor, item: Tensor) -> Floats:
    """[U, metrics] of vectors on the test window."""
    return _columns(full_ranking(user, item, judged_for(run, prepared), run.evaluate.at))


def _columns(found: Mapping[str, Floats]) -> Floats:
    return np.column_stack(list(found.values()))
