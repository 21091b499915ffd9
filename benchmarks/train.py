"""The speed of teacher training as one JSON line, also put into docs/speed.md: `make bench-train` (ten minutes).

DCNv2 with 3 full cross layers and a [256, 128] tower over 20 features of one id, batches of 4,096 out of the real store
through the real step, on all cores. Rows/s are medians of repeats in which all rivals take turns; ratios are of those.

    rows_per_s       features x rows per table x width -> of the whole step, input included
    vs_dense_layers  share of the speed of the layers alone on random input, in the same number type
    vs_dense_adam    times as fast as the same model over nn.EmbeddingBag with Adam over whole tables, in float32
    vs_fuxictr       times as fast as FuxiCTR's DCNv2, whose batch comes from memory: with FUXICTR=DIR, a checkout, and
                     FUXICTR_PYTHON, an interpreter that can import it
    score_vs_train   rows/s of a scoring pass over those of training
    growth           rows per table -> rows/s, 20 tables of width 16
    growth_rows      rows of the log -> rows/s and peak anonymous GiB, 20 tables of 2,000 x 16
    ranks_2_vs_1     rows/s of two processes of one thread each over those of one, 20 x 200,000 x 16, equal global batch
    peak_gib_40m     peak resident memory of training 20 tables of 2,000,000 x 64
    auc              of a generated log: mean of three seeds in float32 and bf16, largest difference between a pair
    gflops           of a matrix product of 2,048 in float32 and bf16: the most that the layers can reach
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import train_rivals as rivals

ROOT = Path("runs/bench-train")
PAGE, BEGIN, END = (
    Path("docs/speed.md"),
    "<!-- figures, written by `make bench-train` -->\n",
    "<!-- end of figures -->\n",
)
NUM_FIELDS, BATCH = 20, rivals.BATCH
SHAPES = ((200_000, 64), (2_000, 64), (200_000, 16))
GROWTH = (2_000, 20_000, 200_000, 2_000_000)
ROWS, ROWS_FEW, ROWS_MANY = BATCH * 64, 1_000_000, 10_000_000
REPEATS, TURN_S = 5, 2.0
CPU = torch.device("cpu")
Seconds = Callable[[int], float]


def settings(width: int, bf16: str = "auto") -> Any:
    """The teacher section of the benchmark."""
    from recdistill.config.teacher import Teacher

    dcnv2 = {"use": "dcnv2", "layers": 3, "hidden": [256, 128]}
    return Teacher.model_validate({"width": width, "batch_size": BATCH, "interaction": dcnv2, "bf16": bf16})


def random_rows(table_rows: int, num_rows: int = ROWS) -> Any:
    """A window of random ids and labels, written to disk once and opened as training opens it."""
    from recdistill.data.store import ROWS as FILE
    from recdistill.data.store import open_rows, record_type
    from recdistill.types import IdFeature, Layout

    names = [f"id_{n:02d}" for n in range(NUM_FIELDS)]
    ids = tuple(
        IdFeature(name=name, table=name, start=n, width=1, num_rows=table_rows, kind="single")
        for n, name in enumerate(names)
    )
    folder = ROOT / f"store-{table_rows}-{num_rows}"
    path = folder / "rows/train" / FILE
    if not path.exists():
        path.parent.mkdir(parents=True)
        kind = record_type(NUM_FIELDS, 0, table_rows, past=False)
        records = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(num_rows,))
        generator = np.random.default_rng(7)
        for start in range(0, num_rows, 1 << 20):
            part = records[start : start + (1 << 20)]
            part["row_id"] = np.arange(start, start + len(part))
            part["ids"] = generator.integers(2, table_rows, part["ids"].shape)
            part["label"] = generator.random(len(part)) < 0.3
        records.flush()
    return open_rows(folder, "train", Layout(ids=ids, dense=()))


@contextmanager
def training(table_rows: int, width: int, num_rows: int = ROWS) -> Iterator[tuple[Any, Seconds]]:
    """The sharded model, and a function: so many training steps -> seconds."""
    from recdistill.train.teachers.probe import pace
    from recdistill.train.teachers.probe import training as start
    from recdistill.train.teachers.shard import world

    with world(CPU) as here:
        model, steps = start(settings(width), random_rows(table_rows, num_rows), here, seed=1)
        yield model, lambda num: pace(steps, num, CPU)[1]


def timed(step: rivals.Step) -> Seconds:
    """A function: so many steps -> seconds."""

    def seconds(num: int) -> float:
        began = time.perf_counter()
        for _ in range(num):
            step()
        return time.perf_counter() - began

    return seconds


def scoring(model: Any, table_rows: int) -> Seconds:
    """A function: a scoring pass over so many times BATCH rows -> seconds."""
    from recdistill.data.store import Rows
    from recdistill.train.device import use_bf16
    from recdistill.train.predict import predict

    rows = random_rows(table_rows)

    def score(num: int) -> float:
        records = np.resize(rows.records, num * BATCH)
        part = Rows(layout=rows.layout, records=records, events={})
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bf16("auto", CPU)):
            predict(model, part, CPU)
        return time.perf_counter() - began

    return score


def rates(found: dict[str, Seconds], repeats: int, turn_s: float) -> dict[str, float]:
    """Rows/s of each, the median of repeats; in every repeat each has one turn of about turn_s seconds."""
    nums = {}
    for name, seconds in found.items():
        seconds(2)
        nums[name] = max(1, round(turn_s / seconds(1)))
    turns: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(repeats):
        for name, seconds in found.items():
            turns[name].append(nums[name] * BATCH / seconds(nums[name]))
    return {name: statistics.median(values) for name, values in turns.items()}


def shape(table_rows: int, width: int, repeats: int, turn_s: float) -> dict[str, float]:
    """Rows/s of the whole step and of all its rivals."""
    from recdistill.train.device import use_bf16

    bf16 = use_bf16("auto", CPU)
    with ExitStack() as stack:
        model, ours = stack.enter_context(training(table_rows, width))
        found = {"rows_per_s": ours, "score": scoring(model, table_rows)}
        found["dense_layers"] = timed(rivals.dense_layers(settings(width), NUM_FIELDS, bf16))
        found["dense_adam"] = timed(rivals.dense_adam(settings(width), NUM_FIELDS, table_rows, bf16=False))
        if checkout := os.environ.get("FUXICTR"):
            found["fuxictr"] = stack.enter_context(rivals.fuxictr(checkout, NUM_FIELDS, table_rows, width))
        return rates(found, repeats, turn_s)


def grow(table_rows: int, num_rows: int, repeats: int, turn_s: float) -> dict[str, float]:
    """Rows/s and peak anonymous memory of one model alone."""
    with _Peak() as peak, training(table_rows, 16, num_rows) as (_, ours):
        found = rates({"rows_per_s": ours}, repeats, turn_s)
    return {**found, "gib": peak.gib}


def peak_40m(num_steps: int = 20) -> dict[str, float]:
    """Peak resident memory of some steps over 40 million rows of tables."""
    with training(2_000_000, 64) as (_, ours):
        ours(num_steps)
    return {"gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def ranks(repeats: int, turn_s: float) -> dict[str, float]:
    """In each of some processes of one thread: rows/s of all of them together."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    with training(200_000, 16) as (_, ours):
        ours(3)
        num = torch.tensor(max(1, round(turn_s / ours(1))))
        dist.broadcast(num, 0)
        found = [int(num) * BATCH / ours(int(num)) for _ in range(repeats)]
        return {"rows_per_s": statistics.median(found), "rank": dist.get_rank()}


def auc(seeds: int) -> dict[str, Any]:
    """Of the teacher of configs/demo.yaml on its own generated log, by number type."""
    from recdistill.config.load import load
    from recdistill.data.synth.generate import World, synth
    from recdistill.pipeline import run_all
    from recdistill.train.teachers.fit import fit_teacher
    from recdistill.train.teachers.shard import world

    log = ROOT / "log"
    if not log.exists():
        synth(log, 240_000, World(num_users=2_000, num_items=500, num_days=20, seed=7))
    run = load(Path("configs/demo.yaml"), [f"root={ROOT / 'demo'}", f"data.source={log}"])
    folder = run_all(run, until="prepare").folders["prepare"]
    found: dict[str, list[float]] = {"off": [], "on": []}
    for seed in range(seeds):
        for bf16, aucs in found.items():
            teacher = run.teacher.model_copy(update={"bf16": bf16})
            with world(CPU) as here:
                aucs.append(fit_teacher("teacher", teacher, seed, folder, here).best.valid_auc)
    pairs = [abs(one - other) for one, other in zip(found["off"], found["on"], strict=True)]
    means = {"float32": statistics.mean(found["off"]), "bf16": statistics.mean(found["on"])}
    return {name: round(value, 5) for name, value in {**means, "largest_difference": max(pairs)}.items()}


class _Peak:
    """The greatest anonymous memory of this process while it is open, looked at every few milliseconds."""

    def __enter__(self) -> _Peak:
        self.gib, self.done = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.01):
            with open("/proc/self/status") as status:
                line = next(line for line in status if line.startswith("RssAnon"))
            self.gib = max(self.gib, int(line.split()[1]) / 2**20)

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


_MEASURED: dict[str, Callable[..., Any]] = {
    "shape": shape,
    "grow": grow,
    "peak_40m": peak_40m,
    "ranks": ranks,
    "auc": auc,
}


def child(what: str, *, processes: int = 0, **arguments: Any) -> Any:
    """One measurement in a process of its own, or in several under torchrun."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes else []
    command = [sys.executable, *launch, __file__, "--child", what, "--arguments", json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    print(f"{what} {arguments}: {found}", file=sys.stderr, flush=True)
    return found


def gflops(kind: torch.dtype, size: int = 2048) -> int:
    """The best of some products of two square matrices."""
    one, other = (torch.randn(size, size).to(kind) for _ in range(2))
    product = timed(lambda: torch.mm(one, other))
    return round(2 * size**3 / min(product(1) for _ in range(10)) / 1e9)


def main(quick: bool) -> None:
    """Measure everything and print it."""
    pace = {"repeats": 2, "turn_s": 0.5} if quick else {"repeats": REPEATS, "turn_s": TURN_S}
    found: dict[str, Any] = {name: {} for name in ("rows_per_s", "vs_dense_layers", "vs_dense_adam")}
    found |= {"vs_fuxictr": {}} if "FUXICTR" in os.environ else {}
    found["score_vs_train"] = {}
    for table_rows, width in SHAPES:
        title, seen = f"{NUM_FIELDS}x{table_rows}x{width}", child("shape", table_rows=table_rows, width=width, **pace)
        ours = seen["rows_per_s"]
        found["rows_per_s"][title] = round(ours)
        found["score_vs_train"][title] = round(seen["score"] / ours, 2)
        for rival in ("dense_layers", "dense_adam", "fuxictr"):
            if rival in seen:
                found[f"vs_{rival}"][title] = round(ours / seen[rival], 2)
    sizes, logs = (GROWTH[:2], (ROWS_FEW,)) if quick else (GROWTH, (ROWS_FEW, ROWS_MANY))
    alone = {n: child("grow", table_rows=n, num_rows=ROWS, **pace) for n in sizes}
    found["growth"] = {str(n): round(seen["rows_per_s"]) for n, seen in alone.items()}
    logged = {n: child("grow", table_rows=2_000, num_rows=n, **pace) for n in logs}
    found["growth_rows"] = {str(n): [round(seen["rows_per_s"]), round(seen["gib"], 2)] for n, seen in logged.items()}
    one, two = (child("ranks", processes=n, **pace)["rows_per_s"] for n in (1, 2))
    found["ranks_2_vs_1"] = round(two / one, 2)
    found["auc"] = child("auc", seeds=1 if quick else 3)
    if not quick:
        found["peak_gib_40m"] = round(child("peak_40m")["gib"], 1)
    found["gflops"] = {"float32": gflops(torch.float32), "bf16": gflops(torch.bfloat16)}
    shutil.rmtree(ROOT)
    if not quick:
        document(found)
    print(json.dumps(found))


def document(found: dict[str, Any]) -> None:
    """Put the figures into the page, shapes as columns."""
    titles = list(found["rows_per_s"])
    by_shape = {name: value for name, value in found.items() if isinstance(value, dict) and list(value) == titles}
    lines = [f"| figure | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{v:,}' for v in value.values())} |" for name, value in by_shape.items()]
    rest = [f"- `{name}`: {json.dumps(value)}" for name, value in found.items() if name not in by_shape]
    before, after = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n".join([*lines, "", *rest, ""]) + END + after.split(END)[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer repeats, smaller tables, no peak of memory")
    parser.add_argument("--child", choices=[*_MEASURED])
    parser.add_argument("--arguments", default="{}")
    given = parser.parse_args()
    if given.child:
        from recdistill.heap import keep_freed_memory

        keep_freed_memory()  # as every training does; what is measured beside it in the same process gains as much
        answer = _MEASURED[given.child](**json.loads(given.arguments))
        if answer.pop("rank", 0) == 0:
            print(json.dumps(answer))
    else:
        main(given.quick)
