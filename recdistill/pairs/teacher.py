"""The train_teacher and score steps of pairs: a wide model by labels alone, its vectors, every user's top list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from recdistill.config.run import Run
from recdistill.data.store import open_rows
from recdistill.distil.recipe import Recipe, Term
from recdistill.files import digest, read_json, write_json
from recdistill.metrics.full_ranking import Judged
from recdistill.pairs.fit import Given, Pupil, fit
from recdistill.pairs.judged import judged_users
from recdistill.pairs.lists import VECTORS, top_of, write_lists
from recdistill.pairs.store import open_acts
from recdistill.plugins import choose
from recdistill.problems import BadInput, problem
from recdistill.train.device import ready_process
from recdistill.train.engine.course import Trained
from recdistill.train.predict import WEIGHTS, load_weights, save_weights
from recdistill.train.progress import logger

MOST_JUDGED = 10_000  # users of the validation window while training


def train_teacher(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write weights-0.safetensors (user and item vectors) and teacher.json, as the other shape does."""
    ready_process(run.threads)
    pupil = Pupil(
        title="teacher",
        settings=run.teacher,
        width=run.teacher.width,
        spec=run.teacher.pairs,
        recipe=labels_alone(),
        seed=run.seed,
        metric=run.gates.metric,
    )
    trained = fit(pupil, given(run, inputs["prepare"]))
    save_weights(trained.weights, out / WEIGHTS)
    about = {"parameters": parameters(trained), "device": "cpu", "best": trained.best.to_json()}
    write_json(out / "teacher.json", {**about, "curve": [check.to_json() for check in trained.curve]})


def labels_alone() -> Recipe:
    """The recipe of a teacher: label.bce, which stands for the loss that its section names."""
    every, constant = choose("selection", "all", {}), choose("schedules", "constant", {})
    term = Term(objective=choose("objectives", "label.bce", {}), weight=1.0)
    return Recipe(targets=(), terms=[term], selection=every, schedule=constant)


def given(run: Run, prepared: Path) -> Given:
    """What a model without a teacher is trained on and judged by."""
    return Given(rows=open_rows(prepared, "train"), acts=open_acts(prepared, "train"), valid=validated(run, prepared))


def validated(run: Run, prepared: Path) -> Judged:
    """The users of the validation window, MOST_JUDGED of them where there are more."""
    return judged_users(prepared, "valid", most=MOST_JUDGED, seed=run.seed)


def parameters(trained: Trained) -> int:
    """Numbers of the two tables."""
    return sum(value.numel() for value in trained.weights.values())


def score(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write the teacher's vectors, and every user's score.top first items without its train pairs, once."""
    ready_process(run.threads)
    weights = load_weights(inputs["train_teacher"])
    broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        remedy = "lower teacher.learning_rate"
        found = f"others in {', '.join(broken)}"
        raise BadInput(problem("teacher", wanted="vectors of finite numbers", found=found, remedy=remedy))
    place, logit = top_of(weights["user"], weights["item"], open_acts(inputs["prepare"], "train"), run.score.top)
    data = read_json(inputs["prepare"] / "data.json")
    about = {key: str(data[key]) for key in ("fingerprint", "encoder")}
    write_lists(out, place, logit, {**about, "teacher": digest(read_json(inputs["train_teacher"] / "teacher.json"))})
    save_weights(weights, out / VECTORS)
    logger.info("score: the first %d items of %s users", place.shape[1], f"{len(place):,}")
