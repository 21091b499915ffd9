"""The score step: what the teacher says of every row of every window, segment by segment, in one process or several."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from recdistill.config.run import Run
from recdistill.data.belonging import belonging
from recdistill.data.candidates import Pools, Seen, candidates_name
from recdistill.data.npy import NpyWriter
from recdistill.data.scores import finish_store, is_segment, segment_path, write_segment
from recdistill.data.split import SPLITS
from recdistill.data.store import ROWS, Rows, open_rows
from recdistill.files import digest, manifest, read_json
from recdistill.problems import BadInput, problem
from recdistill.shipped import Shipped, open_shipped, seen_by_student, shipped_digest
from recdistill.train.device import choose_device, ready_process, use_bf16
from recdistill.train.predict import num_passes, passes
from recdistill.train.progress import logger
from recdistill.train.teachers.folds import OUT_OF_FOLD, fold_of
from recdistill.train.teachers.launch import end_what_was_left, launch
from recdistill.train.teachers.shard import World, world
from recdistill.train.teachers.teacher import open_fold, open_teacher
from recdistill.train.teachers.worker import work
from recdistill.types import Scores


def score(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write a score store for every window: row_id int64, logit float32 and what the config asks for beside them.

    Segments that were written when a run was killed are kept; metadata: teacher, data and encoder digests.
    """
    ready_process(run.threads)
    end_what_was_left(run)
    with seen_by_student(run, inputs, out):
        if run.teacher.num_processes > 1:
            launch(__name__, run, inputs, out)
            return
        with world(choose_device(run.device)) as here:
            score_windows(run, inputs, out, here)


def score_windows(run: Run, inputs: Mapping[str, Path], out: Path, here: World) -> None:
    """All windows and their candidates, by all ranks, each its own segments; rank 0 puts them in their place."""
    about = _about(run, inputs)
    windows = {name: open_rows(inputs["prepare"], name) for name in SPLITS}
    work_in = _work_folder(run, about, here)
    pools, student = _pools(run, windows), open_shipped(run, inputs, out)
    bf16 = use_bf16(run.teacher.bf16, here.device)  # as it was trained: rounding is small beside the noise of seeds
    with (
        open_teacher(run, windows["train"].layout, inputs["train_teacher"]) as teacher,
        torch.autocast(here.device.type, torch.bfloat16, enabled=bf16),
    ):
        for name, rows in windows.items():
            score_window(run, teacher, rows, work_in / name, about, here)
        for name, made in pools.items():
            score_candidates(run, teacher, student, name, made, work_in / candidates_name(name), about, here)
    if run.teacher.folds is not None:
        score_folds(run, inputs, windows["train"], work_in / OUT_OF_FOLD, about, here)
    dist.barrier()
    if here.rank == 0:
        for folder in sorted(work_in.iterdir()):
            folder.rename(out / folder.name)
        shutil.rmtree(work_in.parent)
        logger.info("score: %s rows of the teacher's scores stored", f"{sum(map(len, windows.values())):,}")


def _pools(run: Run, windows: Mapping[str, Rows]) -> dict[str, Pools]:
    """Window -> its candidates, where the config wants some."""
    if run.score.candidates is None:
        return {}
    own = belonging(run, windows["train"].layout)
    every = list(windows.values())
    seen = Seen(every, own.item)
    return {name: Pools(run, every, rows, seen, own) for name, rows in windows.items()}


def _about(run: Run, inputs: Mapping[str, Path]) -> dict[str, str]:
    """Digests of all that a store hangs on. student: of the earlier one that candidates ask for, if they do."""
    data = read_json(inputs["prepare"] / "data.json")
    teacher = manifest(inputs["train_teacher"])
    assert teacher is not None
    student = shipped_digest(run)
    about = {"teacher": teacher["key"], "fingerprint": data["fingerprint"], "encoder": data["encoder"]}
    return about if student is None else {**about, "student": student}


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
    spans = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    for turn, own in _turns(folder, range(len(spans)), about, here):
        span = range(0) if own is None else spans[own]
        scores = _asked(run, teacher, rows, span, max(len(spans[number]) for number in turn), here)
        if own is not None:
            row_id = np.asarray(rows["row_id"][span.start : span.stop])
            write_segment(folder, own, row_id, scores, run.score.hidden, about)
    _finish(folder, len(spans), about, here)


def score_folds(
    run: Run, inputs: Mapping[str, Path], rows: Rows, folder: Path, about: Mapping[str, str], here: World
) -> None:
    """A whole store of the train window, every row scored by the teacher that did not see it."""
    assert run.teacher.folds is not None
    fold, size = fold_of(rows, run.teacher.folds), run.score.rows_per_segment
    done = 0
    for number in range(run.teacher.folds.count):
        places = np.flatnonzero(fold == number)
        cuts = [places[start : start + size] for start in range(0, len(places), size)]
        bf16 = use_bf16(run.teacher.bf16, here.device)
        with (
            open_fold(run, rows.layout, inputs["train_teacher"], number) as teacher,
            torch.autocast(here.device.type, torch.bfloat16, enabled=bf16),
        ):
            for turn, own in _turns(folder, range(done, done + len(cuts)), about, here):
                index = places[:0] if own is None else cuts[own - done]
                cut = replace(rows, records=rows.take(index))
                most = max(len(cuts[place - done]) for place in turn)
                scores = _asked(run, teacher, cut, range(len(cut)), most, here)
                if own is not None:
                    write_segment(folder, own, cut["row_id"], scores, run.score.hidden, about)
        done += len(cuts)
    _finish(folder, done, about, here)


def score_candidates(
    run: Run,
    teacher: nn.Module,
    student: Shipped | None,
    window: str,
    pools: Pools,
    folder: Path,
    about: Mapping[str, str],
    here: World,
) -> None:
    """A whole store of a window's candidates in `folder`: those that the config wants of each pool, with their scores.

    student: whose best are among them; None where they are not wanted.
    """
    for _, own in _turns(folder, range(len(pools)), about, here):
        pick = pools.pick(own or 0)
        rows = pools.rows_of(pick)
        scores = _asked(run, teacher, rows, range(0 if own is None else len(rows)), pools.most_rows, here)
        if own is not None:
            theirs = None if student is None else student.logits(pools, window, pick)
            best = pools.best(pick, scores.logit.numpy(), theirs)
            chosen = scores.at(torch.from_numpy(best))
            np.save(folder / f"{own:06d}.npy", rows.records[best])  # before the segment, which says that both are there
            write_segment(folder, own, rows["row_id"][best], chosen, run.score.hidden, about)
    _finish(folder, len(pools), about, here)
    if here.rank == 0:
        _bring_together(folder, len(pools), pools.rows.records.dtype)
    dist.barrier()


def _bring_together(folder: Path, num_segments: int, kind: np.dtype[np.void]) -> None:
    """The rows of all segments in one file, as the rows of a window are."""
    writer = NpyWriter(folder / ROWS, kind)
    for number in range(num_segments):
        writer.add(np.load(folder / f"{number:06d}.npy"))
    writer.close()
    for path in folder.glob("[0-9]*.npy"):
        path.unlink()


def _turns(
    folder: Path, numbers: range, about: Mapping[str, str], here: World
) -> Iterator[tuple[list[int], int | None]]:
    """Segments that are not there yet, as many at a time as there are ranks, and this rank's own among them."""
    if here.rank == 0:
        folder.mkdir(exist_ok=True)
    dist.barrier()
    todo = [number for number in numbers if not is_segment(segment_path(folder, number), about)]
    dist.barrier()  # nobody writes before all have looked
    for start in range(0, len(todo), here.size):
        turn = todo[start : start + here.size]
        yield turn, turn[here.rank] if here.rank < len(turn) else None


def _finish(folder: Path, num_segments: int, about: Mapping[str, str], here: World) -> None:
    """Say that all segments of a store are there."""
    dist.barrier()
    if here.rank == 0:
        finish_store(folder, num_segments, about)


def _asked(run: Run, teacher: nn.Module, rows: Rows, span: range, most_rows: int, here: World) -> Scores:
    """Scores of the rows of a span, checked. most_rows: the longest span of any rank, as all have to ask alike."""
    parts = list(map(partial(_wanted, run), passes(teacher, rows, span, num_passes(most_rows), here.device)))
    scores = _joined(parts)
    broken = int((~torch.isfinite(scores.logit)).sum())
    if broken:
        remedy = "lower the teacher's learning rates"
        raise BadInput(problem("teacher", wanted="finite scores", found=f"{broken} that are not", remedy=remedy))
    return scores


def _wanted(run: Run, scores: Scores) -> Scores:
    """What of it is stored, so that nothing else waits in memory, hidden vectors as they are stored."""
    kind = torch.float16 if run.score.hidden == "float16" else torch.float32
    hidden = None if run.score.hidden == "none" or scores.hidden is None else scores.hidden.to(kind)
    members = scores.members if run.score.members else None
    return Scores(logit=scores.logit.float(), hidden=hidden, members=members, variance=scores.variance)


def _joined(parts: Sequence[Scores]) -> Scores:
    """One after the other; of none, no rows."""
    if not parts:
        return Scores(logit=torch.empty(0), hidden=torch.empty((0, 1)))
    together: dict[str, Any] = {}
    with torch.autocast("cpu", enabled=False):  # which does not know float16
        for field in fields(Scores):
            values = [getattr(part, field.name) for part in parts]
            together[field.name] = None if values[0] is None else torch.cat(values)
    return Scores(**together)


if __name__ == "__main__":
    work(score_windows)
