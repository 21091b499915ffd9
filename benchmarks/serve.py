"""Serving's speed as one JSON line: python benchmarks/serve.py (`make bench-serve`, minutes).

A student of 20 id features (10 of the user, 10 of the item) of 50,000 rows x 16 and a tower of 256-64. Server on one
core, load from another; every ratio is of one run of this command. MLflow's own server runs the same scorer.

    split_vs_plain, cached_vs_plain, varying_vs_plain   500 candidates, from the raw request to scores, over the plain
                            graph's time from encoded ids (plain_ms); item_cache_bytes: the price of the second
    http_rps_100, _500      requests/s in a closed loop of 16 connections; http_cpu_us_*: the server's CPU a request
    http_p99_ms_half_load   open loop at half of http_rps_100, from the intended send time
    overload_*              open loop at twice of it: p99 of what was accepted, share refused, seconds until all is well
    mlflow_rps_100, _500    `mlflow models serve`, one process; http_vs_mlflow_*: ours over it;
                            mlflow_cpu_vs_http_*: its CPU a request over ours
    teacher_vs_student      500 candidates: torch's time over the scorer's, items known
    int8_*, int4_*          bytes of student.onnx over those in float, and 1 - AUC / AUC in float, of a trained run
    batch_rows_per_s_per_core   score-file, reading and writing included, on rows that have nothing in common
    batch_slates_*          the same on users with 100 candidates each, next to each other
    batch_dense_rows_per_s  the bare limit of the first: the dense layers alone, in NumPy on one core
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from serve_bundle import ITEM, NUM_KNOWN, ROOT, TOWER, USER, WIDTH, items, rows, slates, write
from serve_load import Seen, closed, cpu_s, http_request, opened

CANDIDATES, ROUNDS, BLOCK = 500, 15, 20
SERVER_CORE, CLIENT_CORE = 0, 1
CONNECTIONS, QUEUE = 16, 16
BATCH_ROWS, BATCH_CANDIDATES = 2_000_000, 100


def requests_of(num: int, how_many: int = 50) -> list[tuple[dict[str, int], list[int]]]:
    """Random (user, item keys)."""
    generator = np.random.default_rng(num)
    return [
        (
            {name: int(generator.integers(0, NUM_KNOWN)) for name in USER},
            generator.integers(0, NUM_KNOWN, num).tolist(),
        )
        for _ in range(how_many)
    ]


def medians(calls: dict[str, Callable[[int], Any]]) -> dict[str, float]:
    """Median seconds of a call, in blocks that take turns: neighbours on the machine meet all of them alike."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(0)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for number in range(BLOCK):
                began = time.perf_counter()
                call(number)
                found[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in found.items()}


def in_process(bundle: Path) -> dict[str, Any]:
    """The keys of the scorer in this process."""
    from recdistill.serve import Scorer

    scorer = Scorer(bundle, items=items(), item_key="item_id")
    columns = {name: items().column(name).to_numpy() for name in ITEM}
    asked = []
    for user, keys in requests_of(CANDIDATES):
        each = {name: columns[name][keys] for name in ITEM}
        every = {**{name: np.full(CANDIDATES, value) for name, value in user.items()}, **each}
        ids = np.stack([every[name] + 2 for name in (*USER, *ITEM)], axis=1)
        asked.append((user, keys, each, every, ids))
    plain = scorer.forms.planner.plain
    names = {value.name for value in plain.get_inputs()}
    nothing = np.zeros((CANDIDATES, 0), np.float32)

    def as_it_is(number: int) -> Any:
        given = {"ids": asked[number][4], "dense": nothing}
        return plain.run(None, {name: value for name, value in given.items() if name in names})[0]

    calls: dict[str, Callable[[int], Any]] = {
        "plain": as_it_is,
        "split": lambda number: scorer.score(asked[number][0], candidates=asked[number][2]),
        "cached": lambda number: scorer.score(asked[number][0], items=asked[number][1]),
        "varying": lambda number: scorer.score({}, candidates=asked[number][3]),
    }
    gap = max(float(np.abs(call(number) - as_it_is(number)).max()) for call in calls.values() for number in range(5))
    assert gap < 1e-6, gap
    found = medians(calls)
    about = scorer.about
    ratios = {f"{name}_vs_plain": round(found[name] / found["plain"], 3) for name in ("split", "cached", "varying")}
    sizes = {name: about[name] for name in ("item_cache_bytes", "table_bytes")}
    return {**ratios, "plain_ms": round(found["plain"] * 1e3, 3), "largest_difference": gap, **sizes}


@contextmanager
def our_server(bundle: Path) -> Iterator[tuple[str, int]]:
    """(address, process that answers), on its core."""
    command = [sys.executable, "-m", "recdistill", "serve", str(bundle), "--port", "0", "--workers", "1"]
    command += ["--items", str(bundle.parent / "items.parquet"), "--item-key", "item_id", "--queue", str(QUEUE)]
    command += ["--state", str(bundle.parent / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        ready(f"{address}/health/ready")
        (pid,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        pin(pid)
        yield address, pid
        process.terminate()


def ready(url: str, seconds: float = 120.0) -> None:
    """Wait until a server answers with 200."""
    import urllib.request

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


def pin(pid: int) -> None:
    """A process with all its threads on the server's core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {SERVER_CORE})


def bodies(num: int) -> list[bytes]:
    """Requests by items, ready to send."""
    return [http_request("/score", json.dumps({"user": u, "items": k}).encode()) for u, k in requests_of(num)]


def http(bundle: Path, seconds: float) -> dict[str, Any]:
    """The keys of the server over a loopback socket."""
    found: dict[str, Any] = {}
    with our_server(bundle) as (address, pid):
        for num in (100, CANDIDATES):
            closed(address, bodies(num), CONNECTIONS, 1.0)
            before = cpu_s(pid)
            seen = closed(address, bodies(num), CONNECTIONS, seconds)
            assert not seen.failed
            assert seen.ok_ms
            found[f"http_rps_{num}"] = round(len(seen.ok_ms) / seen.seconds)
            answered = len(seen.ok_ms) + len(seen.refused_ms)
            found[f"http_cpu_us_{num}"] = round((cpu_s(pid) - before) / answered * 1e6, 1)
        rate = found["http_rps_100"]
        half = opened(address, bodies(100), rate / 2, seconds)
        found["http_p99_ms_half_load"] = round(half.quantile(0.99), 2)
        found["http_p50_ms_half_load"] = round(half.quantile(0.5), 2)
        found |= overload(address, rate, seconds)
    return found


def overload(address: str, rate: float, seconds: float) -> dict[str, Any]:
    """Twice what it can do; then at half of it again, second by second."""
    over = opened(address, bodies(100), rate * 2, seconds)
    total = len(over.ok_ms) + len(over.refused_ms)
    found: dict[str, Any] = {"overload_p99_ms": round(over.quantile(0.99), 2)}
    found["overload_refused"] = round(len(over.refused_ms) / total, 3)
    after = 0
    while recovered(opened(address, bodies(100), rate / 2, 1.0)) is False and after < 10:
        after += 1
    return found | {"overload_recovery_s": after, "overload_failed": over.failed}


def recovered(seen: Seen) -> bool:
    """Whether nobody is turned away."""
    return not seen.refused_ms and not seen.failed


def with_mlflow(bundle: Path, seconds: float) -> dict[str, Any]:
    """The same scorer behind `mlflow models serve`, one process on the same core."""
    folder = bundle.parent / "mlflow"
    shutil.rmtree(folder, ignore_errors=True)
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{bundle.parent}/mlflow.db"}
    made = (
        "import mlflow; mlflow.pyfunc.save_model("
        f"{str(folder)!r}, python_model={str(Path(__file__).with_name('serve_mlflow.py'))!r}, pip_requirements=[], "
        f"artifacts={{'bundle': {str(bundle)!r}, 'items': {str(bundle.parent / 'items.parquet')!r}}})"
    )
    subprocess.run([sys.executable, "-c", made], check=True, env=environment, stderr=subprocess.DEVNULL)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "-p", str(port)]
    command += ["--env-manager", "local", "--workers", "1"]
    found: dict[str, Any] = {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, start_new_session=True, **quiet) as process:  # type: ignore[call-overload]
        try:
            ready(f"http://127.0.0.1:{port}/ping")
            for pid in family(process.pid):
                pin(pid)
            for num in (100, CANDIDATES):
                asked = [
                    http_request(
                        "/invocations", json.dumps({"inputs": {"user": list(user.values()), "items": keys}}).encode()
                    )
                    for user, keys in requests_of(num)
                ]
                closed(f"http://127.0.0.1:{port}", asked, CONNECTIONS, 1.0)
                before = sum(map(cpu_s, family(process.pid)))
                seen = closed(f"http://127.0.0.1:{port}", asked, CONNECTIONS, seconds)
                assert not seen.failed
                spent = sum(map(cpu_s, family(process.pid))) - before
                found[f"mlflow_rps_{num}"] = round(len(seen.ok_ms) / seen.seconds)
                found[f"mlflow_cpu_us_{num}"] = round(spent / len(seen.ok_ms) * 1e6, 1)
        finally:
            os.killpg(process.pid, 15)
    return found


def family(pid: int) -> list[int]:
    """A process and all that came of it."""
    below = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [pid, *(member for child in below for member in family(child))]


def free_port() -> int:
    """A port of the loopback interface."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def teacher_vs_student(bundle: Path) -> dict[str, Any]:
    """The default teacher, 64 wide, on the same features in torch on one thread; the scorer with known items."""
    import torch
    from serve_bundle import encoder

    from recdistill.config.teacher import Teacher
    from recdistill.serve import Scorer
    from recdistill.train.teachers.fit import build_teacher

    torch.set_num_threads(1)
    teacher = build_teacher(Teacher(width=64), encoder().layout, "cpu").eval()
    scorer = Scorer(bundle, items=items(), item_key="item_id")
    asked = requests_of(CANDIDATES)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, NUM_KNOWN, (BLOCK, CANDIDATES, len(USER) + len(ITEM)), generator=generator)
    dense = torch.zeros((CANDIDATES, 0))

    def teach(number: int) -> Any:
        with torch.inference_mode():
            return teacher(ids[number], dense).logit

    found = medians(
        {"teacher": teach, "student": lambda number: scorer.score(asked[number][0], items=asked[number][1])}
    )
    times = {f"{name}_ms": round(seconds * 1e3, 3) for name, seconds in found.items()}
    return {"teacher_vs_student": round(found["teacher"] / found["student"], 1), **times}


def quantised() -> dict[str, Any]:
    """int8 and int4 of a student that was trained: bytes as shares of those in float, and what they cost in AUC."""
    from recdistill.config.load import load
    from recdistill.data.synth.generate import World, synth
    from recdistill.pipeline import run_all
    from recdistill.ship.cost import quantised_sizes

    log = ROOT / "log-40000"
    if not log.exists():
        synth(log, 60_000, World(num_users=2000, num_items=40_000, num_days=10, seed=7))
    more = ["teacher.epochs=1", "student.seeds=1", "student.width=16", "student.epochs=2", "name=bench-serve"]
    run = load("configs/demo.yaml", [f"data.source={log}", f"root={ROOT / 'run'}", *more])
    found = quantised_sizes(run, run_all(run, until="distil").folders)
    whole = found["float_bytes"]
    shares = {f"{name}_bytes_vs_float": round(found[f"{name}_bytes"] / whole, 3) for name in ("int8", "int4")}
    losses = {f"{name}_auc_loss": round(found[f"{name}_auc_loss"], 6) for name in ("int8", "int4")}
    return {"float_bytes": whole, **{n: found[n] for n in ("int8_bytes", "int4_bytes")}, **shares, **losses}


def batch(bundle: Path) -> dict[str, Any]:
    """score-file in a process of its own on one core: random rows; users with BATCH_CANDIDATES each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = {
        "batch": lambda generator: rows(generator, BATCH_ROWS),
        "batch_slates": lambda generator: slates(generator, BATCH_ROWS, BATCH_CANDIDATES),
    }
    found: dict[str, Any] = {}
    for name, rows_of in made.items():
        source = bundle.parent / f"{name}.parquet"
        if not source.exists():
            pq.write_table(pa.table(rows_of(np.random.default_rng(5))), source, row_group_size=131_072)
        command = [sys.executable, "-c", _BATCH, str(bundle), str(source), str(bundle.parent / "scored.parquet")]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        speed, mib = done.stdout.split()
        found |= {f"{name}_rows_per_s_per_core": round(float(speed)), f"{name}_peak_mib": int(mib)}
    return found | {"batch_dense_rows_per_s": dense_rows_per_s()}


def dense_rows_per_s(num_rows: int = 1024) -> int:
    """Of the dense layers alone, in NumPy: no score is found sooner, but for what is computed once for many rows."""
    sizes = [WIDTH * len([*USER, *ITEM]), *TOWER, 1]
    weights = [np.ones(shape, np.float32) for shape in itertools.pairwise(sizes)]
    inputs = np.ones((num_rows, sizes[0]), np.float32)

    def layers(_: int) -> None:
        hidden = inputs
        for weight in weights:
            hidden = np.maximum(hidden @ weight, 0)

    return round(num_rows / medians({"dense": layers})["dense"])


_BATCH = """
import os, resource, sys
from pathlib import Path
os.sched_setaffinity(0, {0})
from recdistill.score_file import score_file
done = score_file(*map(Path, sys.argv[1:]))
print(done.rows_per_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


def main() -> None:
    """Measure what is asked for, and print it."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--only", nargs="*", default=None, help="in_process http mlflow teacher quantised batch")
    given = parser.parse_args()
    bundle = ROOT / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.rmtree(ROOT / "encoder", ignore_errors=True)
    write(ROOT)
    bundle = bundle.resolve()
    parts = {
        "in_process": lambda: in_process(bundle),
        "http": lambda: http(bundle, given.seconds),
        "mlflow": lambda: with_mlflow(bundle, given.seconds),
        "teacher": lambda: teacher_vs_student(bundle),
        "quantised": quantised,
        "batch": lambda: batch(bundle),
    }
    found: dict[str, Any] = {}
    os.sched_setaffinity(0, {CLIENT_CORE})
    for name, part in parts.items():
        if given.only is None or name in given.only:
            began = time.perf_counter()
            found |= part()
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    for num in (100, CANDIDATES):
        if f"http_rps_{num}" in found and f"mlflow_rps_{num}" in found:
            found[f"http_vs_mlflow_{num}"] = round(found[f"http_rps_{num}"] / found[f"mlflow_rps_{num}"], 2)
            found[f"mlflow_cpu_vs_http_{num}"] = round(found[f"mlflow_cpu_us_{num}"] / found[f"http_cpu_us_{num}"], 2)
    print(json.dumps({**found, "cores": os.cpu_count(), "load_average": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
