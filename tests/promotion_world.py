"""What tests of promotion share: a store with registered bundles, and a candidate that has come as far as publish."""

import os
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path

from conftest import make_run

from recdistill.files import whole_folder, write_json
from recdistill.promotion import promote
from recdistill.promotion.registry import Registry, open_registry

PROMOTION = str(Path(promote.__file__).parent)


def register(registry: Registry, sha: str, verdict: str = "PASS", **tags: str) -> int:
    """A version of a bundle that is one small file."""
    experiment = registry.client.create_experiment(f"e-{sha}", artifact_location=registry.artifacts)
    run = registry.client.create_run(experiment)
    registry.client.log_text(run.info.run_id, sha, "bundle/graph")
    about = {"bundle_sha256": sha, "verdict": verdict, **tags}
    return int(registry.register(f"{run.info.artifact_uri}/bundle", run.info.run_id, about).version)


def candidate(root: Path, sha: str, baseline: str | None, verdict: str = "PASS"):
    """(run, inputs, out) of publish, as the steps before it leave them."""
    run = make_run(root / "log", root)
    key = (sha * 32)[:64]
    facing = None if baseline is None else {"version": baseline, "bundle_sha256": ""}
    windows = {"start": 1_700_000_000_000_000, "end": 1_700_600_000_000_000}
    files = {
        "export": ("export.json", {"bundle_sha256": sha}),
        "prepare": ("data.json", {"fingerprint": "f" * 64, "windows": windows, "source": "log"}),
        "decide": ("decision.json", {"verdict": verdict, "baseline": facing, "frozen": None}),
    }
    inputs = {step: root / f"{step}-{sha}" for step in files}
    for step, (name, value) in files.items():
        if not inputs[step].exists():
            with whole_folder(inputs[step], {"step": step, "key": key}) as folder:
                write_json(folder / name, value)
    out = root / "out"
    out.mkdir(exist_ok=True)
    return run, inputs, out


def uploaded(run, registry, inputs, key):
    """What log_run leaves: a run with the bundle's artifact, found again by its key."""
    name = f"tiny-{key[:8]}"
    experiment = registry.client.get_experiment_by_name(name)
    if experiment is None:
        registry.client.create_experiment(name, artifact_location=registry.artifacts)
        experiment = registry.client.get_experiment_by_name(name)
    found = registry.client.search_runs([experiment.experiment_id]) or [
        registry.client.create_run(experiment.experiment_id)
    ]
    registry.client.log_text(found[0].info.run_id, "graph", "bundle/graph")
    return found[0].info.run_id, f"{found[0].info.artifact_uri}/bundle"


def publish(root: Path, sha: str, baseline: str | None) -> None:
    """The publish step of a candidate; the upload before it is `uploaded`."""
    promote.log_run = uploaded
    promote.publish(*candidate(root, sha, baseline))


def forked(work) -> int:
    """Run `work` in a process of its own, which this one is copied to; its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(point: tuple[str, int] | None, work, root: Path) -> list[tuple[str, int, list]]:
    """Run `work`, and kill -9 this process before a line of the promotion code is met for the so many-th time.

    point: FILE:LINE and which time. None does not kill: the points then, in order, with what was on disk before each.
    """
    met: list[tuple[str, int, list]] = []
    times: Counter[str] = Counter()

    def local(frame, event, _):
        if event == "line":
            name = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            times[name] += 1
            if (name, times[name]) == point:
                os.kill(os.getpid(), signal.SIGKILL)
            if point is None:
                met.append((name, times[name], on_disk(root)))
        return local

    sys.settrace(lambda frame, *_: local if frame.f_code.co_filename.startswith(PROMOTION) else None)
    try:
        work()
    finally:
        sys.settrace(None)
    return met


def on_disk(root: Path) -> list:
    """Of every file its name, size and time of change: the store's, the artifacts' and the run's."""
    found = [(path, path.stat()) for path in root.rglob("*") if path.is_file()]
    return sorted([str(path), stat.st_size, stat.st_mtime_ns] for path, stat in found)


def opened(root: Path) -> Registry:
    return open_registry(make_run(root / "log", root))
