"""The line for a notebook: open a config, do its steps, compare recipes, read what MLflow keeps as pandas frames.

Every function is a thin call of what the command line calls. BadInput (recdistill.problems) says what to mend.

    run = open_run("configs/demo.yaml", "teacher.epochs=2")
    done = do(run)
    metrics_frame(done).loc["student"]
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from recdistill.compare.league import compare
from recdistill.compare.publish import log_comparison
from recdistill.compare.table import plot, write_csv
from recdistill.config.load import load
from recdistill.config.run import Run
from recdistill.files import read_json
from recdistill.pipeline import STEPS, Done, run_all
from recdistill.problems import BadInput, guess, problem
from recdistill.promotion.registry import Registry, open_registry

_PARENT = "mlflow.parentRunId"
_COMPARISON = "comparison.csv"
_ENDS = ["value", "low", "high"]


def open_run(config: str | Path, *overrides: str) -> Run:
    """The run of a YAML file; overrides as on the command line: "teacher.epochs=2"."""
    return load(config, overrides)


def do(run: Run, until: str = "publish") -> Done:
    """Do the steps up to `until`, those that are up to date aside: its `folders` by step, and the steps it `did`."""
    known = [step.name for step in STEPS]
    if until not in known:
        remedy = guess(until, known) or "the last is publish"
        raise BadInput(problem("until", wanted=f"one of {', '.join(known)}", found=repr(until), remedy=remedy))
    return run_all(run, until=until)


def metrics_frame(done: Done) -> pd.DataFrame:
    """value, low and high (95%, over users and seeds) by model and metric, on the test window; of an evaluated run.

    Models are teacher, student, control and shipped; beside them stand gain (student - control) and gap (teacher -
    control).
    """
    report = read_json(done.folders["evaluate"] / "report.json")
    groups = {**report["models"], "gain": report["gain"], "gap": report["gap"]}
    rows = {(model, metric): ends for model, found in groups.items() for metric, ends in found.items()}
    index = pd.MultiIndex.from_tuples(list(rows), names=["model", "metric"])
    return pd.DataFrame(list(rows.values()), index=index, columns=_ENDS, dtype="float64")


def gates_frame(done: Done) -> pd.DataFrame:
    """name, verdict, found and wanted of every gate; of a run that was decided."""
    return pd.DataFrame(read_json(done.folders["decide"] / "decision.json")["gates"])


def compare_recipes(
    config: str | Path,
    recipes: Sequence[str],
    *overrides: str,
    seeds: int = 3,
    processes: int = 1,
    trials: int = 0,
    bigger: bool = True,
) -> str:
    """`recdistill compare`: train every recipe and the controls, judge them, log it; the id of the run in MLflow.

    A recipe that the config cannot give what it needs has a line in comparison.json that says why. BadInput where none
    can run. What is trained already is not trained again. trials: of every model's settings; 0 tunes none.
    bigger: False leaves out the control that is twice as wide.
    """
    run, runs, refused = load(config, overrides), dict[str, Run](), dict[str, str]()
    for name in recipes:
        try:
            runs[name] = load(config, [*overrides, f"recipe={name}"])
        except BadInput as error:
            refused[name] = "; ".join(error.problems)
    if not runs:
        raise BadInput(
            [f"recipe {name}: {why}" for name, why in refused.items()] or ["recipes: wanted some, found none"]
        )
    found = compare(run, runs, refused, num_seeds=seeds, processes=processes, trials=trials, bigger=bigger)
    folder = Path(run.folder) / "compare"
    write_csv(found, folder / _COMPARISON)
    plot(found, run.gates.metric, folder / "comparison.svg")
    (folder / "comparison.json").write_text(json.dumps(found, indent=1) + "\n")
    return log_comparison(run, found, folder)


def comparison_frame(run: Run, run_id: str) -> pd.DataFrame:
    """A logged comparison, a line per model (its name is the index): parameters, cost, p, and every metric, gain and
    the recovery with its low and high end, as metric, metric_low and metric_high."""
    with tempfile.TemporaryDirectory() as folder:
        path = open_registry(run).client.download_artifacts(run_id, _COMPARISON, folder)
        return pd.read_csv(path, index_col="name")


def runs_frame(run: Run) -> pd.DataFrame:
    """A line per run of the experiment, the newest first, by its id: name, started (UTC), status, verdict, version, and
    every metric, such as student.auc or recovery_low. Comparisons stand among them."""
    registry = open_registry(run)
    rows = [_line(found) for found in _runs(registry, run) if _PARENT not in found.data.tags]
    frame = pd.DataFrame(rows, columns=None if rows else ["run_id", "name", "started", "status", "verdict", "version"])
    return frame.set_index("run_id")


def curves_frame(run: Run, run_id: str) -> pd.DataFrame:
    """model, metric, step and value of every training curve of a run: of its teacher, student and control."""
    registry = open_registry(run)
    children = [found for found in _runs(registry, run) if found.data.tags.get(_PARENT) == run_id]
    rows = [
        {"model": child.info.run_name, "metric": name, "step": point.step, "value": point.value}
        for child in children
        for name in child.data.metrics
        for point in registry.client.get_metric_history(child.info.run_id, name)
    ]
    return pd.DataFrame(rows, columns=["model", "metric", "step", "value"])


def history_frame(run: Run) -> pd.DataFrame:
    """Every version that became champion or reached another stage, oldest first: action, version, replaced, at (UTC),
    who, why."""
    rows = [asdict(event) for event in open_registry(run).history()]
    frame = pd.DataFrame(rows, columns=["action", "version", "replaced", "at", "who", "why"])
    return frame.assign(at=pd.to_datetime(frame["at"], unit="s", utc=True))


def _runs(registry: Registry, run: Run) -> Iterator[Any]:
    """All runs of the experiment, the newest first; none where there is no experiment."""
    experiment = registry.client.get_experiment_by_name(run.experiment)
    token: str | None = None
    while experiment is not None:
        page = registry.client.search_runs([experiment.experiment_id], page_token=token)
        yield from page
        token = page.token
        if not token:
            break


def _line(found: Any) -> dict[str, Any]:
    about = {"run_id": found.info.run_id, "name": found.info.run_name, "status": found.info.status}
    about["started"] = pd.to_datetime(found.info.start_time, unit="ms", utc=True)
    return {**about, **{name: found.data.tags.get(name) for name in ("verdict", "version")}, **found.data.metrics}
