"""What a run would take, before anything is booked: rows, memory, operations, time and disk of its teacher."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from recdistill.config.run import Run
from recdistill.config.teacher import Teacher
from recdistill.data.estimate import Estimate, estimate
from recdistill.data.prepare import open_checked
from recdistill.data.random_rows import random_rows
from recdistill.data.split import SPLITS
from recdistill.data.store import Rows, open_rows, record_type
from recdistill.pipeline import prepared
from recdistill.train.device import choose_device, ready_process
from recdistill.train.teachers.fit import build_teacher
from recdistill.train.teachers.flops import DenseCost, dense_cost
from recdistill.train.teachers.memory import Need, needs, state_bytes
from recdistill.train.teachers.placement import Part, hosts_like_this, planned
from recdistill.train.teachers.probe import Speed, speed_of
from recdistill.train.teachers.shard import world
from recdistill.train.teachers.teacher import members, placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of teacher. num: how many seeds of it. needs: of all ranks together, but for activations.

    parts: of its tables on the ranks. rank_bytes: what each rank holds: its tables and their optimiser's state, the
    dense layers with theirs, and the activations of its part of a batch. speed: None without a probe, and where this
    machine has not the memory for one.
    """

    settings: Teacher
    num: int
    cost: DenseCost
    needs: list[Need]
    parts: list[Part]
    rank_bytes: list[int]
    speed: Speed | None

    def epoch_s(self, rows: dict[str, int]) -> float | None:
        """Seconds to train all seeds of it for an epoch, checks not among them."""
        return None if self.speed is None else self.num * rows["train"] / self.speed.train_rows_per_s

    def whole_s(self, rows: dict[str, int]) -> float | None:
        """Seconds to train all seeds of it for all epochs with their checks, and to score every window."""
        epoch_s = self.epoch_s(rows)
        if epoch_s is None or self.speed is None:
            return None
        epochs = 1 if self.settings.one_pass else self.settings.epochs
        checked = epochs * self.settings.checks_per_epoch * rows["valid"]
        return epochs * epoch_s + self.num * (checked + sum(rows.values())) / self.speed.score_rows_per_s

    def to_json(self) -> dict[str, Any]:
        return {
            "num": self.num,
            "dense": asdict(self.cost),
            "needs": [asdict(need) for need in self.needs],
            "sharding": [part.to_json() for part in self.parts],
            "rank_bytes": self.rank_bytes,
            "speed": None if self.speed is None else asdict(self.speed),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """is_prepared: whether rows and tables are those of a finished prepare step, or counted in the log for this plan.

    log_rows: of its files. disk_bytes: what would be written, by kind. free_bytes: of disk and of memory, here.
    """

    is_prepared: bool
    log_rows: int
    found: Estimate
    kinds: list[Kind]
    processes: int
    disk_bytes: dict[str, int]
    free_bytes: dict[str, int]

    @property
    def epoch_s(self) -> float | None:
        """Seconds of an epoch of all teachers, one after the other; None without a probe."""
        return _sum([kind.epoch_s(self.found.num_rows) for kind in self.kinds])

    @property
    def whole_s(self) -> float | None:
        """Seconds of the train_teacher and score steps; None without a probe."""
        return _sum([kind.whole_s(self.found.num_rows) for kind in self.kinds])

    def to_json(self) -> dict[str, Any]:
        return {
            "is_prepared": self.is_prepared,
            "log_rows": self.log_rows,
            "rows": self.found.num_rows,
            "tables": self.found.layout.tables,
            "teachers": [kind.to_json() for kind in self.kinds],
            "processes": self.processes,
            "epoch_s": self.epoch_s,
            "whole_s": self.whole_s,
            "disk_bytes": self.disk_bytes,
            "free_bytes": self.free_bytes,
        }


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def plan_run(run: Run, *, probe: bool) -> Plan:
    """Look at the log, or at what prepare made of it, and time some steps where `probe` says so.

    All that is written is temporary. BadInput for what is wrong with the config or the log, and for tables that do not
    fit.
    """
    ready_process(run.threads)
    with tempfile.TemporaryDirectory(prefix="recdistill-plan-") as scratch:
        is_drawn = run.data.negatives is not None  # opening such a log writes it, and prepare's own is not known by now
        log = open_checked(run.model_copy(update={"root": scratch}) if is_drawn else run)
        folder = None if is_drawn else prepared(run, log)
        found = estimate(run, log) if folder is None else _of_store(folder)
        rows = None if folder is None else open_rows(folder, "train")
        kinds = [_kind(run, settings, num, found, rows, probe) for settings, num in _kinds(run)]
    return Plan(
        is_prepared=folder is not None,
        log_rows=log.num_rows,
        found=found,
        kinds=kinds,
        processes=run.teacher.num_processes,
        disk_bytes=_disk_bytes(run, log.num_rows, found, kinds),
        free_bytes={
            "disk": psutil.disk_usage(str(_existing(Path(run.folder)))).free,
            "memory": psutil.virtual_memory().available,
        },
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _of_store(folder: Path) -> Estimate:
    windows = {name: open_rows(folder, name) for name in SPLITS}
    events = windows["train"].events
    return Estimate(
        num_rows={name: len(rows) for name, rows in windows.items()},
        num_events=len(next(iter(events.values()))) if events else 0,
        layout=windows["train"].layout,
    )


def _kinds(run: Run) -> Iterator[tuple[Teacher, int]]:
    for settings in run.teacher.every_kind:
        yield settings, len(members(run)) // len(run.teacher.every_kind)


def _kind(run: Run, settings: Teacher, num: int, found: Estimate, rows: Rows | None, probe: bool) -> Kind:
    device, layout, processes = choose_device(run.device), found.layout, run.teacher.num_processes
    cost = dense_cost(settings, layout, device)
    known = needs(settings, layout, cost.parameters)
    topology = hosts_like_this(device, processes, run.teacher.ranks)
    parts = planned(build_teacher(settings, layout), device, placement(settings), topology)
    speed = None
    if probe and sum(need.bytes for need in known) < psutil.virtual_memory().available:
        with world(device) as here:
            speed = speed_of(settings, rows or random_rows(layout, 8 * settings.batch_size, run.seed), here, run.seed)
    return Kind(
        settings=settings,
        num=num,
        cost=cost,
        needs=known,
        parts=parts,
        rank_bytes=_rank_bytes(settings, cost, known, parts, processes),
        speed=speed,
    )


def _rank_bytes(
    settings: Teacher, cost: DenseCost, known: Sequence[Need], parts: Sequence[Part], processes: int
) -> list[int]:
    state = state_bytes(settings.embedding_optimiser, settings.width) / settings.width
    activations = cost.activation_bytes * settings.batch_size // processes // settings.accumulate
    of_tables = [sum(p.rows * p.columns for p in parts if p.rank == rank) for rank in range(processes)]
    return [round(numbers * (4 + state)) + known[-1].bytes + activations for numbers in of_tables]


def _disk_bytes(run: Run, log_rows: int, found: Estimate, kinds: Sequence[Kind]) -> dict[str, int]:
    """parts: at most 4 bytes an id, 8 a number and 5 fields of 8 a row. snapshots: all kept at a time, and the best.

    scores: of the windows' rows, without candidates.
    """
    layout, total = found.layout, sum(found.num_rows.values())
    num_ids, histories = sum(feature.width for feature in layout.pooled), layout.histories
    widest = max((feature.num_rows for feature in layout.pooled), default=0)
    tasks = len(layout.tasks)
    row = record_type(num_ids, len(layout.dense), widest, past=bool(histories), num_tasks=tasks).itemsize
    weights = [4 * (sum(layout.tables.values()) * k.settings.width + k.cost.parameters) for k in kinds]
    state = [sum(need.bytes for need in kind.needs) for kind in kinds]
    return {
        "parts": log_rows * (4 * (num_ids + len(histories) + tasks) + 8 * len(layout.dense) + 40),
        "rows": total * row,
        "events": found.num_events * (4 * len(histories) + 16) if histories else 0,
        "teachers": sum(size * kind.num for size, kind in zip(weights, kinds, strict=True)),
        "snapshots": max(state) * run.teacher.snapshots_kept + max(weights),
        "scores": total * _score_bytes(run, kinds),
    }


def _score_bytes(run: Run, kinds: Sequence[Kind]) -> int:
    """A row in the score store: its number, its logit, and what else is kept of an ensemble and of hidden vectors."""
    num = sum(kind.num for kind in kinds)
    hidden = sum(kind.cost.hidden * kind.num for kind in kinds)
    per_number = {"none": 0, "float16": 2, "int8": 1}[run.score.hidden]
    scale = 4 if run.score.hidden == "int8" else 0
    ensemble = 0 if num == 1 else 4 + (4 * num if run.score.members else 0)
    return 12 + ensemble + hidden * per_number + scale
