"""What it saves a training to keep the memory that a step frees, as one JSON line: python benchmarks/heap.py

CPU seconds and page faults of the same steps of the teacher of configs/demo.yaml, batches of 2,048 rows with a history
of 50, in processes of one thread with and without it, in turn; medians of the repeats.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time

import torch

REPEATS, WARM_UP, STEPS = 3, 3, 20
NUM_FIELDS, LENGTH, NUM_VALUES = 6, 50, 2_000


def steps(keep: bool) -> dict[str, float]:
    """CPU seconds and page faults of a step."""
    from recdistill.config.teacher import Teacher
    from recdistill.heap import keep_freed_memory
    from recdistill.train.device import use_bf16
    from recdistill.train.teachers.fit import build_teacher
    from recdistill.types import IdFeature, Layout

    if keep:
        keep_freed_memory()
    torch.set_num_threads(1)
    names = [f"id_{n}" for n in range(NUM_FIELDS)]
    ids = [
        IdFeature(name=name, table=name, start=n, width=1, num_rows=NUM_VALUES, kind="single")
        for n, name in enumerate(names)
    ]
    past = IdFeature(
        name="history.id_0", table="id_0", start=NUM_FIELDS, width=LENGTH, num_rows=NUM_VALUES, kind="history"
    )
    layout = Layout(ids=(*ids, past), dense=())
    teacher = build_teacher(Teacher(), layout, "cpu")
    batch = torch.randint(2, NUM_VALUES, (2_048, layout.num_id_columns))
    bf16 = use_bf16("auto", torch.device("cpu"))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = teacher(batch, torch.zeros((2_048, 0))).logit.square().mean()
        loss.backward()

    for _ in range(WARM_UP):
        step()
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(STEPS):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_s": (time.process_time() - began) / STEPS,
        "faults": (after.ru_minflt - before.ru_minflt) / STEPS,
        "peak_mib": after.ru_maxrss / 1024,
    }


def main() -> None:
    found: dict[str, list[dict[str, float]]] = {"kept": [], "given_back": []}
    for _ in range(REPEATS):
        for name, seen in found.items():
            command = [sys.executable, __file__, name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            seen.append(json.loads(done.stdout.splitlines()[-1]))
    line = {name: {key: statistics.median(one[key] for one in seen) for key in seen[0]} for name, seen in found.items()}
    ratio = round(line["given_back"]["cpu_s"] / line["kept"]["cpu_s"], 2)
    print(json.dumps({"cpu_given_back_vs_kept": ratio, **line}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(steps(sys.argv[1] == "kept")))
    else:
        main()
