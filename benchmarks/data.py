"""The data path's speed and memory as one JSON line: python benchmarks/data.py (`make bench-data`).

Every time is of one core, the median of REPEATS children that are pinned to it; ratios are of one run of this command.

    prepare_rows_per_s_per_core   read, check, encode and write 20 id and 13 number columns, no histories
    prepare_vs_scan               share of the speed of a bare pyarrow scan of the same columns
    batches_rows_per_s            shuffled batches of 4,096 out of the store
    batches_vs_memcpy             share of the speed of copying the same bytes in order
    peak_mib_1m, peak_mib_10m     peak anonymous memory of prepare and an epoch, so without what is mapped from files
    history_globo_s               prepare of globo with a history of 50, where ../shared/data has it
    vs_fuxictr                    with FUXICTR=DIR, a checkout, and FUXICTR_PYTHON, an interpreter that can import it:
                                  values of an id column -> our rows/s over its, each on all cores
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path("runs/bench-data")
GLOBO = Path("../shared/data/globo")
REPEATS = 3
NUM_IDS, NUM_NUMBERS, CARDINALITY = 20, 13, 20_000
ROWS, ROWS_LARGE, ROWS_FUXICTR = 5_000_000, 10_000_000, 300_000
BATCH = 4096


def wide_log(num_rows: int, cardinality: int, kind: str, num_numbers: int = NUM_NUMBERS) -> Path:
    """A generated log, kept from one call to the next."""
    from recdistill.data.synth.wide import wide

    folder = ROOT / f"log-{num_rows}-{cardinality}-{kind}-{num_numbers}"
    if not folder.exists():
        settings = {"num_ids": NUM_IDS, "num_numbers": num_numbers, "cardinality": cardinality}
        wide(folder, num_rows, **settings, seed=7, kind=kind)  # type: ignore[arg-type]
    return folder


def a_run(log: Path, root: Path, threads: int) -> Any:
    """A config over all id and number columns of a wide log."""
    import pyarrow.parquet as pq

    from recdistill.config.run import Run

    names = pq.read_schema(sorted(log.glob("*.parquet"))[0]).names
    dense = [{"column": name, "transform": "log1p"} for name in names if name.startswith("number_")]
    settings = {
        "name": "bench",
        "root": str(root),
        "threads": threads,
        "data": {"source": str(log), "time": "timestamp", "user": "user_id", "label": {"column": "label"}},
        "features": {"ids": [name for name in names if name.startswith("id_")], "dense": dense},
    }
    return Run.model_validate(settings)


def globo_run(root: Path) -> Any:
    """Every click of globo with its user's last 50; the label is only there to have one."""
    from recdistill.config.run import Run

    data = {"source": str(GLOBO), "time": "click_time", "user": "user_id", "time_unit": "ms"}
    data |= {"label": {"column": "click_deviceGroup", "at_least": 2}, "request": {"column": "session_id"}}
    data["contract"] = {"max_single_auc": 1.0}
    history = {"item": "click_article_id", "outcomes": ["click_environment"], "length": 50}
    features = {"ids": ["click_article_id", "click_country", "click_region"], "history": history}
    settings = {"name": "globo", "root": str(root), "threads": 1, "data": data, "features": features}
    return Run.model_validate(settings)


def prepared(run: Any) -> Path:
    """Prepare into an empty folder."""
    from recdistill.data.prepare import prepare  # `child` has imported it, so that no clock sees that

    shutil.rmtree(run.folder, ignore_errors=True)
    out = Path(run.folder) / "out"
    out.mkdir(parents=True)
    prepare(run, {}, out)
    return out


def epoch(folder: Path, repeats: int = 1) -> float:
    """Rows per second of a shuffled epoch, the best of some."""
    from recdistill.data.batches import Batches
    from recdistill.data.store import open_rows

    batches = Batches(rows=open_rows(folder, "train"), batch_size=BATCH, shuffle="rows", seed=1)
    found = []
    for number in range(repeats):
        began = time.perf_counter()
        num = sum(len(batch) for batch in batches.epoch(number))
        found.append(num / (time.perf_counter() - began))
    return max(found)


def memcpy(folder: Path) -> float:
    """Rows per second when the bytes of a batch are copied, in order, from memory that the cache does not hold."""
    import numpy as np

    from recdistill.data.batches import Batches
    from recdistill.data.store import open_rows

    batches = Batches(rows=open_rows(folder, "train"), batch_size=BATCH)
    first = next(batches.epoch(0))
    tensors = (first.ids, first.dense, first.label, first.weight, first.offset, first.request, first.row_id)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    source, target = np.ones((1 << 28) // size * size, np.uint8), np.empty(size, np.uint8)
    began = time.perf_counter()
    for start in range(0, len(source), size):
        np.copyto(target, source[start : start + size])
    return BATCH * (len(source) // size) / (time.perf_counter() - began)


def scan(log: Path) -> float:
    """Rows per second of pyarrow alone over the columns that prepare reads."""
    import pyarrow.dataset as ds

    began = time.perf_counter()
    num = sum(batch.num_rows for batch in ds.dataset(log, format="parquet").to_batches(use_threads=False))
    return num / (time.perf_counter() - began)


def child(what: str, log: str, threads: int) -> dict[str, float]:
    """One measurement in this process."""
    import torch

    import recdistill.data.prepare  # noqa: F401

    torch.set_num_threads(threads)
    folder = ROOT / f"run-{os.getpid()}"
    try:
        return dict(_MEASURED[what](Path(log), folder, threads))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(log: Path, folder: Path, threads: int) -> Iterator[tuple[str, float]]:
    import pyarrow.dataset as ds

    run = a_run(log, folder, threads)
    num_rows = ds.dataset(log, format="parquet").count_rows()
    began = time.perf_counter()
    prepared(run)
    yield "rows_per_s", num_rows / (time.perf_counter() - began)
    if threads == 1:
        yield "scan", scan(log)


def _batches(log: Path, folder: Path, threads: int) -> Iterator[tuple[str, float]]:
    out = prepared(a_run(log, folder, threads))
    yield "rows_per_s", epoch(out, repeats=3)
    yield "memcpy", memcpy(out)


def _memory(log: Path, folder: Path, threads: int) -> Iterator[tuple[str, float]]:
    run = a_run(log, folder, threads)
    with _Peak() as peak:
        epoch(prepared(run))
    yield "mib", peak.mib


def _globo(log: Path, folder: Path, threads: int) -> Iterator[tuple[str, float]]:
    run = globo_run(folder)
    began = time.perf_counter()
    prepared(run)
    yield "s", time.perf_counter() - began


_MEASURED: dict[str, Callable[[Path, Path, int], Iterator[tuple[str, float]]]] = {
    "prepare": _prepare,
    "batches": _batches,
    "memory": _memory,
    "globo": _globo,
}


class _Peak:
    """The greatest anonymous memory of this process while it is open, looked at every few milliseconds."""

    def __enter__(self) -> _Peak:
        self.mib, self.done = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.005):
            with open("/proc/self/status") as status:
                line = next(line for line in status if line.startswith("RssAnon"))
            self.mib = max(self.mib, int(line.split()[1]) / 1024)

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def measure(what: str, log: Path, threads: int = 1, repeats: int = REPEATS) -> dict[str, float]:
    """Medians over children, each on one core where threads is 1."""
    cores = {min(os.sched_getaffinity(0))} if threads == 1 else os.sched_getaffinity(0)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    found = []
    for _ in range(repeats):
        command = [sys.executable, __file__, "--child", what, "--log", str(log), "--threads", str(threads)]
        os.sched_setaffinity(0, cores)  # which the child inherits
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


_FUXICTR = """
import sys, time, glob, logging
sys.path.insert(0, sys.argv[1])
from fuxictr.preprocess import FeatureProcessor, build_dataset
names = sys.argv[4].split(",")
cols = [{"name": names, "active": True, "dtype": "str", "type": "categorical"}]
began = time.perf_counter()
processor = FeatureProcessor(feature_cols=cols, label_col={"name": "label", "dtype": "float"}, dataset_id="x",
                             data_root=sys.argv[3])
build_dataset(processor, train_data=sys.argv[2], data_format="parquet", min_categr_count=1)
print(time.perf_counter() - began)
"""


def fuxictr_rows_per_s(checkout: str, log: Path) -> float:
    """Of FuxiCTR's own preprocessing of the id columns, all rows as train data, Parquet in and out."""
    python = os.environ.get("FUXICTR_PYTHON", sys.executable)
    out = ROOT / "fuxictr"
    shutil.rmtree(out, ignore_errors=True)
    names = ",".join(f"id_{n:02d}" for n in range(NUM_IDS))
    command = [python, "-c", _FUXICTR, checkout, str(log), str(out), names]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return ROWS_FUXICTR / float(done.stdout.splitlines()[-1])


def against_fuxictr(checkout: str) -> dict[str, float]:
    """By the number of values: our rows per second over theirs, on the same columns, both with every core."""
    every, found = os.sched_getaffinity(0), {}
    for cardinality in (2_000, 200_000):
        small = wide_log(ROWS_FUXICTR, cardinality, "string", 0)
        large = wide_log(ROWS, cardinality, "string", 0)
        os.sched_setaffinity(0, every)
        ours = measure("prepare", large, threads=len(every))["rows_per_s"]
        os.sched_setaffinity(0, every)
        theirs = statistics.median(fuxictr_rows_per_s(checkout, small) for _ in range(REPEATS))
        print(f"{cardinality} values: ours {ours:,.0f} rows/s, FuxiCTR {theirs:,.0f} rows/s", file=sys.stderr)
        found[str(cardinality)] = round(ours / theirs, 1)
    return found


def main() -> None:
    """Measure everything and print it."""
    every = os.sched_getaffinity(0)
    log = wide_log(ROWS, CARDINALITY, "int64")
    prepare, batches = measure("prepare", log), measure("batches", log)
    found: dict[str, Any] = {
        "prepare_rows_per_s_per_core": round(prepare["rows_per_s"]),
        "prepare_vs_scan": round(prepare["rows_per_s"] / prepare["scan"], 3),
        "batches_rows_per_s": round(batches["rows_per_s"]),
        "batches_vs_memcpy": round(batches["rows_per_s"] / batches["memcpy"], 3),
    }
    for name, num_rows in (("peak_mib_1m", 1_000_000), ("peak_mib_10m", ROWS_LARGE)):
        found[name] = round(measure("memory", wide_log(num_rows, CARDINALITY, "int64"), repeats=1)["mib"])
    if GLOBO.exists():
        found["history_globo_s"] = round(measure("globo", GLOBO)["s"], 2)
    os.sched_setaffinity(0, every)
    if checkout := os.environ.get("FUXICTR"):
        found["vs_fuxictr"] = against_fuxictr(checkout)
    print(json.dumps(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", choices=[*_MEASURED])
    parser.add_argument("--log", default="")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.child, given.log, given.threads)))
    else:
        main()
