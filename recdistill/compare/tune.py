"""The same number of trials for every arm, controls too: learning rates, and of recipes weights and temperatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from recdistill.compare.arms import Arm, Task, changed, finished
from recdistill.compare.training import train_one
from recdistill.config.run import Run
from recdistill.train.progress import logger

_TIMES = {"learning_rate": 4.0, "embedding_learning_rate": 4.0, "weight": 8.0, "temperature": 8.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A setting by its path in the run, as in recipe.terms.1.weight; tried between low and high on a log scale."""

    place: str
    value: float
    low: float
    high: float


def space_of(arm: Arm) -> list[Range]:
    """Both learning rates of the student, and of an arm with a teacher every weight but the first and temperature.

    The first term's weight is left alone, for only the ratios of weights matter beside a learning rate.
    """
    rates = [
        _range(f"student.{name}", getattr(arm.run.student, name))
        for name in ("learning_rate", "embedding_learning_rate")
    ]
    return rates if arm.kind == "control" else [*rates, *_of_recipe(arm.run)]


def _of_recipe(run: Run) -> Iterator[Range]:
    recipe = run.recipe
    for number, target in enumerate(recipe.targets):
        yield from _temperature(f"recipe.targets.{number}", target.choice().settings)
    for number, term in enumerate(recipe.terms):
        if number and term.weight > 0:
            yield _range(f"recipe.terms.{number}.weight", term.weight)
        yield from _temperature(f"recipe.terms.{number}", term.choice().settings)


def _temperature(place: str, settings: Mapping[str, Any]) -> Iterator[Range]:
    value = settings.get("temperature")
    if isinstance(value, int | float) and value > 0:
        yield _range(f"{place}.temperature", float(value))


def _range(place: str, value: float) -> Range:
    times = _TIMES[place.rpartition(".")[2]]
    return Range(place=place, value=value, low=value / times, high=value * times)


def tune_all(
    arms: Sequence[Arm], trials: int, seed: int, root: Path, inputs: Mapping[str, Path], processes: int
) -> tuple[list[Arm], dict[str, str]]:
    """(every arm with the settings of its best validation AUC, name -> why of arms that were refused).

    trials: trainings of each arm with `seed`, the first with the settings as they are. A killed search goes on where it
    was: what it tries hangs on the seed and on what the trainings found, and those are kept.
    """
    with ThreadPoolExecutor(processes) as pool:
        found = list(pool.map(lambda arm: tuned(arm, trials, seed, root, inputs), arms))
    pairs = list(zip(arms, found, strict=True))
    return (
        [better for _, better in pairs if not isinstance(better, str)],
        {arm.name: why for arm, why in pairs if isinstance(why, str)},
    )


def tuned(arm: Arm, trials: int, seed: int, root: Path, inputs: Mapping[str, Path]) -> Arm | str:
    """The arm with its best settings; the reason where it cannot be trained here."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    space = space_of(arm)
    study.enqueue_trial({each.place: each.value for each in space})
    best: tuple[float, Arm] | None = None
    for number in range(trials):
        trial = study.ask()
        values = {each.place: trial.suggest_float(each.place, each.low, each.high, log=True) for each in space}
        tried = with_settings(arm, values)
        out = tried.folder(root, seed, inputs)
        why = None if finished(out) else train_one(Task(arm=tried, seed=seed, out=out), inputs)
        trained = finished(out)
        if trained is None:
            return why or "it left nothing"
        study.tell(trial, trained.valid_auc)
        logger.info("compare: %s, trial %d of %d: valid auc %.4f", arm.name, number + 1, trials, trained.valid_auc)
        if best is None or trained.valid_auc > best[0]:
            best = trained.valid_auc, tried
    assert best is not None, "wanted at least one trial"
    return best[1]


def with_settings(arm: Arm, values: Mapping[str, float]) -> Arm:
    """The arm with these settings of its run, by their places."""
    run = arm.run
    for place, value in values.items():
        run = changed(run, place, value)
    return replace(arm, run=run, tuned=dict(values))
