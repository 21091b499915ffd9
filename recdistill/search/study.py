"""The search itself: trials by Optuna under a budget, kept in sqlite, so that a killed search goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.files import digest, manifest
from recdistill.pipeline import run_all
from recdistill.problems import BadInput, problem
from recdistill.search.report import CHOSEN, CSV, PLOT, Budget, plot, table_of, write_config
from recdistill.search.space import Space, first_choice, settings, space_of
from recdistill.search.trial import outcome
from recdistill.ship.parity import Replayed, replayed_rows
from recdistill.train.device import ready_process
from recdistill.train.progress import logger

_OUTCOME, _CHOICE, _OVERRUN = "outcome", "choice", "overrun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A finished search. table: every trial. chosen: the best that fits, as a line of it; config: where it is."""

    folder: Path
    table: pd.DataFrame
    chosen: dict[str, Any]
    config: Path


def search(run: Run, budget: Budget, trials: int, candidates: int = 500) -> Found:
    """Try students until there are `trials` of them, all on the teacher's scores of this run's score step.

    Another call with the same run goes on with the same trials, whatever the budget; candidates: rows of a request that
    is timed. Writes trials.csv, pareto.svg and chosen.yaml: the best AUC on the validation window that fits. BadInput
    where none does.
    """
    ready_process(run.threads)
    folders = run_all(run, until="score").folders
    encoder = Encoder.open(folders["prepare"] / "encoder")
    space = space_of(run, encoder.layout)
    folder = Path(run.folder) / f"search-{_key(run, folders, candidates)[:12]}"
    folder.mkdir(exist_ok=True)
    study = _study(folder, run.seed)
    if not study.trials and (first := first_choice(run, space)) is not None:
        study.enqueue_trial(first)
    if len(_done(study)) < trials:
        _try(study, trials, run, folders, encoder, space, budget, candidates)
    return _report(folder, run, space, budget, study)


def _key(run: Run, folders: Mapping[str, Path], candidates: int) -> str:
    """Of all that an outcome depends on, but for the budget and the number of trials."""
    upstream = [manifest(folders[name]) for name in ("prepare", "score")]
    keys = [about["key"] for about in upstream if about is not None]
    return digest({"upstream": keys, "candidates": candidates, **run.section("student", "export", "recipe", "seed")})


def _study(folder: Path, seed: int) -> optuna.Study:
    """The study in the folder; trials that a dead process left half-done count as failed. One process at a time."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
    study = optuna.create_study(
        study_name="search", storage=storage, load_if_exists=True, directions=["maximize", "minimize", "minimize"]
    )
    study.sampler = optuna.samplers.TPESampler(
        seed=seed + len(study.trials), constraints_func=lambda trial: trial.user_attrs.get(_OVERRUN, [1.0, 1.0])
    )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _done(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _try(
    study: optuna.Study,
    trials: int,
    run: Run,
    folders: Mapping[str, Path],
    encoder: Encoder,
    space: Space,
    budget: Budget,
    candidates: int,
) -> None:
    replayed: Replayed = replayed_rows(run, folders, encoder)

    def objective(trial: optuna.Trial) -> tuple[float, float, float]:
        choice = space.sample(trial)
        known = _known(study, choice)
        chosen = Run.model_validate(settings(run, space, choice))
        found = known or outcome(chosen, folders, encoder, replayed, candidates).to_json()
        trial.set_user_attr(_CHOICE, choice)
        trial.set_user_attr(_OUTCOME, found)
        trial.set_user_attr(_OVERRUN, list(budget.overruns(found)))
        said = "" if known is None else ", as before"
        text = "search: %d of %d: auc %.4f, p99 %.2f ms, %s bytes%s: %s"
        logger.info(
            text, len(_done(study)) + 1, trials, found["auc"], found["p99_ms"], f"{found['bytes']:,}", said, choice
        )
        return found["auc"], found["p99_ratio"], found["bytes"]

    while len(_done(study)) < trials:
        study.optimize(objective, n_trials=1)


def _known(study: optuna.Study, choice: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier trial of the same choice found: sampling may repeat itself, training need not."""
    return next((t.user_attrs[_OUTCOME] for t in _done(study) if t.user_attrs[_CHOICE] == choice), None)


def _report(folder: Path, run: Run, space: Space, budget: Budget, study: optuna.Study) -> Found:
    done = [(trial.number, trial.user_attrs[_CHOICE], trial.user_attrs[_OUTCOME]) for trial in _done(study)]
    table = table_of(done, budget)
    table.to_csv(folder / CSV, index=False)
    plot(table, budget, folder / PLOT)
    fitting = table[table["fits"]]
    if fitting.empty:
        least = f"{table['p99_ms'].min():.2f} ms and {table['bytes'].min() / 1e6:.3f} MB at the least"
        remedy = f"allow more, or more trials; all are in {folder / CSV}"
        wanted = f"one of {len(table)} students within {budget.p99_ms:g} ms and {budget.megabytes:g} MB"
        raise BadInput(problem("search", wanted=wanted, found=least, remedy=remedy))
    best: dict[str, Any] = json.loads(fitting.iloc[0].to_json())
    choice = next(choice for number, choice, _ in done if number == best["trial"])
    path = folder / CHOSEN
    said = f"trial {best['trial']}: auc {best['auc']:.4f}, p99 {best['p99_ms']:.2f} ms, {best['bytes']:,} bytes"
    write_config(settings(run, space, choice), f"recdistill run {path}", f"Chosen by a search: {said}", path)
    return Found(folder=folder, table=table, chosen=best, config=path)
