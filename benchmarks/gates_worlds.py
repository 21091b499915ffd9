"""Models for benchmarks/gates.py: the demo's student under many seeds, and scores that behave like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recdistill.config.load import load
from recdistill.config.run import Run
from recdistill.data.scores import open_scores
from recdistill.data.store import Rows as Stored
from recdistill.data.store import open_rows
from recdistill.data.synth.generate import World, synth
from recdistill.evaluate import judged_rows
from recdistill.files import read_json, write_json
from recdistill.metrics.ranking import plain_auc
from recdistill.metrics.rows import Rows
from recdistill.pipeline import run_all
from recdistill.train.device import choose_device
from recdistill.train.predict import predict
from recdistill.train.students.look_ups import look_ups
from recdistill.train.students.shape import trained_student
from recdistill.train.students.student import Arm, fit_student

Floats = NDArray[np.float64]
WORLD = World(num_users=2_000, num_items=500, num_days=20, seed=7)  # the demo's
_STEPS = 14  # of a bisection


def share_for(effect: float, gained: Callable[[float], float], most: float) -> float:
    """The share in [0, most] of the true logit that gains so much AUC, by bisection; 0 for no effect."""
    low, high = 0.0, most if effect else 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if gained(middle) < effect else (low, middle)
    return high


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained:
    """students: [N] logits of each seed on the test window, best on validation first. truth: [N] true logits."""

    rows: Rows
    students: Sequence[Floats]
    truth: Floats
    teacher_auc: float
    student_auc: float
    control_auc: float

    def better(self, effect: float) -> list[Floats]:
        """The students, each with the same share of the truth added, so that their mean AUC is higher by `effect`."""

        def gained(share: float) -> float:
            aucs = [plain_auc(logit + share * self.truth, self.rows.label) for logit in self.students]
            return float(np.mean(aucs)) - self.student_auc

        share = share_for(effect, gained, 1.0)
        return [logit + share * self.truth for logit in self.students]


def retrained_students(folder: Path, num: int) -> Retrained:
    """The demo's world, teacher and `num` students; goes on where it was. Two controls say where the gap begins."""
    if not (folder / "log").is_dir():
        synth(folder / "log", 240_000, WORLD, with_truth=True)
    run = load(Path("configs/demo.yaml"), [f"data.source={folder}/log", f"root={folder}/run", "threads=1"])
    inputs = _steps(run, folder / "steps.json")
    rows = open_rows(inputs["prepare"], "test")
    label = rows["label"].astype(np.float64)
    found = sorted((_trained(run, inputs, rows, "student", n, folder) for n in range(num)), key=lambda one: -one[0])
    controls = [_trained(run, inputs, rows, "control", number, folder)[1] for number in range(2)]
    students = [logit for _, logit in found]
    teacher = open_scores(inputs["score"], "test", rows, inputs["prepare"]).logit
    return Retrained(
        rows=judged_rows(run, rows),
        students=students,
        truth=_truth(folder / "log")[rows["row_id"]],
        teacher_auc=plain_auc(teacher, label),
        student_auc=float(np.mean([plain_auc(logit, label) for logit in students])),
        control_auc=float(np.mean([plain_auc(logit, label) for logit in controls])),
    )


def _steps(run: Run, kept: Path) -> dict[str, Path]:
    """The folders up to score, made once: a later change of the code does not throw away the seeds trained on them."""
    if not kept.is_file():
        folders = run_all(run, until="score").folders
        write_json(kept, {name: str(folder) for name, folder in folders.items()})
    return {name: Path(folder) for name, folder in read_json(kept).items()}


def _trained(
    run: Run, inputs: Mapping[str, Path], rows: Stored, arm: Arm, number: int, folder: Path
) -> tuple[float, Floats]:
    """(validation AUC, [N] logits of the test window) of one seed, trained unless it was."""
    kept = folder / f"{inputs['score'].name}-{arm}-{number}.npy"
    if not kept.with_suffix(".json").is_file():
        trained = fit_student(run, inputs, run.recipe, run.seed + number, arm=arm)
        counts = look_ups(open_rows(inputs["prepare"], "train"), run.student.counted(rows.layout.tables))
        shape = [run.recipe.student] if arm == "student" else []
        model = trained_student(run, rows.layout, counts, trained.weights, *shape)
        np.save(kept, predict(model, rows, choose_device("cpu")))
        write_json(kept.with_suffix(".json"), {"valid_auc": trained.best.valid_auc})
    return read_json(kept.with_suffix(".json"))["valid_auc"], np.load(kept).astype(np.float64)


def _truth(log: Path) -> Floats:
    """The true logit of every row, in the order of the log."""
    files = sorted(log.rglob("*.parquet"))
    return np.concatenate([pq.ParquetFile(path).read(["true_logit"]).column(0).to_numpy() for path in files])


class Simulated:
    """Scores = truth + what no model sees + what a seed makes of an item and of a row; the better one sees more.

    544 users of 44 rows, as the demo's test window has; 500 items, the k-th drawn as often as 1 / k.
    """

    USERS, EACH, ITEMS = 544, 44, 500

    def __init__(self, effect: float) -> None:
        """effect: by how much the candidate's AUC is higher."""
        self.items = np.random.default_rng(1).normal(0, 0.7, self.ITEMS)
        chance = 1 / np.arange(1, self.ITEMS + 1)
        self.chance = chance / chance.sum()
        self.share = 0.0
        if effect:
            rows, item, truth = self._rows(8000, np.random.default_rng(2))
            seen = self._seen(item, truth, np.random.default_rng(3))
            plain = plain_auc(seen, rows.label)
            self.share = share_for(effect, lambda share: plain_auc(seen + share * truth, rows.label) - plain, 1.0)

    def drawn(self, seeds: int, generator: np.random.Generator) -> tuple[Rows, list[Floats], list[Floats]]:
        """(rows, logits of the candidate's seeds, logits of the champion's seeds), of new users and new seeds."""
        rows, item, truth = self._rows(self.USERS, generator)
        seen = self._seen(item, truth, generator)
        made = [seen + self._of_seed(item, generator) for _ in range(2 * seeds)]
        return rows, [logit + self.share * truth for logit in made[:seeds]], made[seeds:]

    def _rows(self, users: int, generator: np.random.Generator) -> tuple[Rows, NDArray[np.int64], Floats]:
        user = np.repeat(np.arange(users), self.EACH)
        item = generator.choice(self.ITEMS, len(user), p=self.chance)
        truth = self.items[item] + generator.normal(0, 0.5, users)[user] + generator.normal(0, 1.0, len(user))
        label = (generator.random(len(user)) < 1 / (1 + np.exp(0.7 - truth))).astype(np.float64)
        return Rows(label=label, user=user, request=np.arange(len(user))), item, truth

    def _seen(self, item: NDArray[np.int64], truth: Floats, generator: np.random.Generator) -> Floats:
        return self.items[item] + 0.15 * truth + generator.normal(0, 0.5, len(truth))

    def _of_seed(self, item: NDArray[np.int64], generator: np.random.Generator) -> Floats:
        return generator.normal(0, 0.22, self.ITEMS)[item] + generator.normal(0, 0.03, len(item))
