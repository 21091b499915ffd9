"""A run in MLflow: a parent with children for teacher, student and control; parameters, curves, inputs, artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill import __version__
from recdistill.config.run import Run
from recdistill.data.watch.drift import drift_files, drift_summary
from recdistill.files import read_json
from recdistill.promotion.gate_table import log_gates
from recdistill.promotion.registry import Registry, experiment_id
from recdistill.promotion.seeds import log_seeds
from recdistill.tracking.deliver import deliver
from recdistill.tracking.early import KEY, identity, points_there, unfinished
from recdistill.tracking.owner import this_process

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

_BATCH = 500  # entries of one log_batch call
Point = tuple[str, float, int]  # metric, value, step


def log_run(run: Run, registry: Registry, inputs: Mapping[str, Path], key: str) -> tuple[str, str]:
    """Write everything about a run that has been decided: (parent run id, artifact URI of its bundle).

    The parent is found again by its key: logging twice leaves one parent and one child of each kind. It is left
    RUNNING for the caller to end.
    """
    experiment = experiment_id(registry.client, run.experiment, artifacts_of(run))
    deliver(Path(run.folder))
    live = identity(run)
    parent = find_or_create(registry, experiment, key, run.name, parent=None, live=live)
    report = read_json(inputs["evaluate"] / "report.json")
    decision = read_json(inputs["decide"] / "decision.json")
    exported = read_json(inputs["export"] / "export.json")
    at = int(
        (inputs["decide"] / "decision.json").stat().st_mtime * 1000
    )  # the same on a repeat, which then adds nothing
    _log_data(registry, parent, inputs)
    points = [*_result_metrics(report), *_drift_metrics(inputs["prepare"])]
    _log(registry, parent, _flat(run.model_dump(mode="json")), points, at)
    registry.client.set_tag(parent.info.run_id, "verdict", decision["verdict"])
    for name, params, metrics in _children(run, inputs, report):
        whose = {"parent": parent.info.run_id, "live": f"{live}-{name}"}
        child = find_or_create(registry, experiment, f"{key}-{name}", name, **whose)
        there = points_there(registry, child)
        _log(registry, child, params, [point for point in metrics if (point[0], point[2]) not in there], at)
        registry.client.set_terminated(child.info.run_id)
    run_id = parent.info.run_id
    for path in (
        inputs["evaluate"] / "report.json",
        inputs["decide"] / "decision.json",
        inputs["prepare"] / "data.json",
        *drift_files(inputs["prepare"]),
    ):
        registry.client.log_artifact(run_id, str(path))
    registry.client.log_artifacts(run_id, str(inputs["export"] / exported["shipped"]), "bundle")
    log_seeds(registry, run_id, inputs["export"])
    log_gates(registry, run_id, decision)
    return run_id, f"{parent.info.artifact_uri}/bundle"


def artifacts_of(run: Run) -> str | None:
    """Where a new experiment keeps its artifacts, as a URI; None leaves it to the tracking server."""
    if run.registry.artifacts is None or run.registry.tracking_uri.startswith(("http:", "https:")):
        return None
    return Path(run.registry.artifacts).resolve().as_uri()


def find_or_create(
    registry: Registry, experiment: str, key: str, name: str, *, parent: str | None, live: str | None = None
) -> MlflowRun:
    """The run that carries a key; else the one opened early as `live`, which gets it; else a new one."""
    found = registry.client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
    if found:
        return found[0]
    early = None if live is None else unfinished(registry, experiment, live)
    if early is None:
        tags = {KEY: key, "recdistill.version": __version__, **this_process()}
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        return registry.client.create_run(experiment, tags=tags, run_name=name)
    registry.client.set_tag(early.info.run_id, KEY, key)
    return registry.client.get_run(early.info.run_id)


def _log(registry: Registry, run: MlflowRun, params: Mapping[str, Any], points: Iterable[Point], at: int) -> None:
    from mlflow.entities import Metric, Param

    entries = [Param(name, str(value)) for name, value in params.items()]
    for start in range(0, len(entries), 100):
        registry.client.log_batch(run.info.run_id, params=entries[start : start + 100])
    metrics = [Metric(name, value, timestamp=at, step=step) for name, value, step in points]
    for start in range(0, len(metrics), _BATCH):
        registry.client.log_batch(run.info.run_id, metrics=metrics[start : start + _BATCH])


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested sections -> section.field, lists as text."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat


def _log_data(registry: Registry, run: MlflowRun, inputs: Mapping[str, Path]) -> None:
    """The data window as a dataset input, found again by its digest (the first 36 digits of the fingerprint)."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if run.inputs is not None and run.inputs.dataset_inputs:
        return
    data = read_json(inputs["prepare"] / "data.json")
    dataset = Dataset(
        name=Path(data["source"]).name,
        digest=data["fingerprint"][:36],
        source_type="local",
        source=f'{{"uri": "{data["source"]}"}}',
        profile=f'{{"num_rows": {sum(data[name]["rows"] for name in ("train", "valid", "test"))}}}',
    )
    tags = [InputTag(f"window_{name}", str(value)) for name, value in data["windows"].items()]
    tags += [
        InputTag("mlflow.data.context", "train, valid and test"),
        InputTag("fingerprint", data["fingerprint"]),
    ]
    registry.client.log_inputs(run.info.run_id, datasets=[DatasetInput(dataset, tags)])


def _result_metrics(report: Mapping[str, Any]) -> Iterator[Point]:
    """MODEL.METRIC with its two ends, and the recovery."""
    groups = {
        **report["models"],
        "gain": report["gain"],
        "gap": report["gap"],
        "recovery": {"": report["recovery"]},
    }
    for group, values in groups.items():
        for metric, found in values.items():
            for end, value in zip(("", "_low", "_high"), found, strict=True):
                if value is not None:
                    yield (f"{group}.{metric}{end}" if metric else f"{group}{end}"), value, 0


def _drift_metrics(folder: Path) -> Iterator[Point]:
    """drift.max_psi and drift.max_unknown of the test window, where they were measured."""
    found = drift_summary(folder) or {}
    return ((f"drift.{name}", found[name], 0) for name in ("max_psi", "max_unknown") if found.get(name) is not None)


def _children(
    run: Run, inputs: Mapping[str, Path], report: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any], list[Point]]]:
    """(name, parameters, metrics) of teacher, student and control."""
    teacher = read_json(inputs["train_teacher"] / "teacher.json")
    students = read_json(inputs["distil"] / "students.json")
    results = report["models"]
    params = {
        **_flat(run.teacher.model_dump(mode="json")),
        "parameters": teacher["parameters"],
        "device": teacher["device"],
    }
    yield "teacher", params, [*_curve("", teacher["curve"]), *_final(results["teacher"])]
    recipe = {"recipe": run.recipe.model_dump(mode="json"), "parameters": students["parameters"]}
    for arm in ("student", "control"):
        params = {
            **_flat(run.student.model_dump(mode="json")),
            **(recipe if arm == "student" else {}),
            "arm": arm,
        }
        curves = [m for number, curve in enumerate(students["curves"][arm]) for m in _curve(f"seed_{number}.", curve)]
        yield arm, params, [*curves, *_final(results[arm])]


def _curve(prefix: str, checks: list[dict[str, Any]]) -> Iterator[Point]:
    for check in checks:
        for name, value in {
            **check["losses"],
            "valid_auc": check["valid_auc"],
            "rows_per_s": check["rows_per_s"],
        }.items():
            yield (f"{prefix}{name}", value, check["step"])


def _final(values: Mapping[str, list[float | None]]) -> Iterator[Point]:
    return ((f"test.{name}", found[0], 0) for name, found in values.items() if found[0] is not None)
