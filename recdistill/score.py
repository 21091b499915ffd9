"""The score step: what the teacher says of every row of every window, segment by segment, in one process or several."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from recdistill.config import Run
from recdistill.data.scores import finish_store, is_segment, segment_path, write_segment
from recdistill.data.split import SPLITS
from recdistill.data.store import Rows, open_rows
from recdistill.files import digest, manifest, read_json
from recdistill.problems import BadInput, problem
from recdistill.train.device import choose_device, pin_threads, use_bf16
from recdistill.train.launch import launch
from recdistill.train.predict import num_passes, passes
from recdistill.train.progress import logger
from recdistill.train.shard import World, world
from recdistill.train.teacher import open_teacher
from recdistill.train.worker import work
from recdistill.types import Scores


def score(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write a score store for every window: row_id int64, logit float32 and what the config asks for beside them.

    Segments that were written when a run was killed are kept; metadata: teacher, data and encoder digests.
    """
    pin_threads(run.threads)
    if run.teacher.num_processes > 1:
        launch(__name__, run, inputs, out)
        return
    with world(choose_device(run.device)) as here:
        score_windows(run, inputs, out, here)


def score_windows(run: Run, inputs: Mapping[str, Path], out: Path, here: World) -> None:
    """All windows, by all ranks together, each its own segments; rank 0 puts them in their place."""
    about = _about(inputs)
    windows = {name: open_rows(inputs["prepare"], name) for name in SPLITS}
    work_in = _work_folder(run, about, here)
    bf16 = use_bf16(run.teacher.bf16, here.device)  # as it was trained: of a logit's spread, 0.3% is rounded away
    with (
        open_teacher(run, windows["train"].layout, inputs["train_teacher"]) as teacher,
        torch.autocast(here.device.type, torch.bfloat16, enabled=bf16),
    ):
        for name, rows in windows.items():
            score_window(run, teacher, rows, work_in / name, about, here)
    dist.barrier()
    if here.rank == 0:
        for name in windows:
            (work_in / name).rename(out / name)
        shutil.rmtree(work_in.parent)
        logger.info("score: %s rows of the teacher's scores stored", f"{sum(map(len, windows.values())):,}")


def _about(inputs: Mapping[str, Path]) -> dict[str, str]:
    data = read_json(inputs["prepare"] / "data.json")
    teacher = manifest(inputs["train_teacher"])
    assert teacher is not None
    return {"teacher": teacher["key"], "fingerprint": data["fingerprint"], "encoder": data["encoder"]}


def _work_folder(run: Run, about: Mapping[str, str], here: World) -> Path:
    """Where segments wait until all are there, by what they depend on; those of others are removed."""
    folder = Path(run.folder) / "scoring" / digest({"about": about, "score": run.section("score")})[:12]
    if here.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other)
    dist.barrier()
    return folder


def score_window(run: Run, teacher: nn.Module, rows: Rows, folder: Path, about: Mapping[str, str], here: World) -> None:
    """A whole store of the rows' scores in `folder`; every rank has to take part."""
    size = run.score.rows_per_segment
    spans = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)] or [range(0)]
    if here.rank == 0:
        folder.mkdir(exist_ok=True)
    dist.barrier()
    todo = [number for number in range(len(spans)) if not is_segment(segment_path(folder, number), about)]
    dist.barrier()  # nobody writes before all have looked
    for start in range(0, len(todo), here.size):
        turn = todo[start : start + here.size]
        most = max(num_passes(len(spans[number])) for number in turn)
        own = turn[here.rank] if here.rank < len(turn) else None
        span = range(0) if own is None else spans[own]
        asked = passes(teacher, rows, span, most, here.device)
        scores = _joined([_wanted(run, scores) for scores in asked])
        if own is not None:
            _check(scores, folder.name)
            row_id = np.asarray(rows["row_id"][span.start : span.stop])
            write_segment(folder, own, row_id, scores, run.score.hidden, about)
    dist.barrier()
    if here.rank == 0:
        finish_store(folder, len(spans), about)


def _wanted(run: Run, scores: Scores) -> Scores:
    """What of it is stored, so that nothing else waits in memory."""
    hidden = None if run.score.hidden == "none" or scores.hidden is None else scores.hidden.float()
    members = scores.members if run.score.members else None
    return Scores(logit=scores.logit.float(), hidden=hidden, members=members, variance=scores.variance)


def _joined(parts: Sequence[Scores]) -> Scores:
    """One after the other; of none, no rows."""
    if not parts:
        return Scores(logit=torch.empty(0), hidden=torch.empty((0, 1)))
    together: dict[str, Any] = {}
    for field in fields(Scores):
        values = [getattr(part, field.name) for part in parts]
        together[field.name] = None if values[0] is None else torch.cat(values)
    return Scores(**together)


def _check(scores: Scores, name: str) -> None:
    """BadInput for scores that are not finite."""
    broken = int((~torch.isfinite(scores.logit)).sum())
    if broken:
        remedy = "lower the teacher's learning rates"
        where = f"teacher: {name} window"
        raise BadInput(problem(where, wanted="finite scores", found=f"{broken} that are not", remedy=remedy))


if __name__ == "__main__":
    work(score_windows)
