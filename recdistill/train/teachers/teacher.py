"""The train_teacher step: every member in turn, in one process or in several; and a trained teacher back from disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recdistill.code import code_digest
from recdistill.config.run import Run
from recdistill.config.teacher import Teacher
from recdistill.data.store import open_rows
from recdistill.files import digest, manifest, read_json, sweep, whole_folder, write_json
from recdistill.problems import BadInput, problem
from recdistill.train.device import choose_device, ready_process, use_bf16
from recdistill.train.engine.snapshot_folders import SNAPSHOTS, follow
from recdistill.train.predict import load_weights, predict, save_weights, weights_name
from recdistill.train.progress import logger
from recdistill.train.teachers.ensemble import Ensemble, gate
from recdistill.train.teachers.fit import build_teacher, fit_teacher
from recdistill.train.teachers.folds import fold_name
from recdistill.train.teachers.launch import end_what_was_left, launch
from recdistill.train.teachers.placement import Placement, planned, shown
from recdistill.train.teachers.shard import World, restore, shard, world
from recdistill.train.teachers.warm import ENCODER
from recdistill.train.teachers.worker import work
from recdistill.types import Layout

ABOUT = "teacher.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One teacher of an ensemble, or the only one. number: from 0 on. fold: the part of the train window that it does
    not see; None sees all."""

    number: int
    settings: Teacher
    seed: int
    fold: int | None = None

    @property
    def weights_name(self) -> str:
        return weights_name(self.number) if self.fold is None else fold_name(self.fold)


def members(run: Run) -> list[Member]:
    """Every teacher to train: teacher.members seeds of each of its kinds."""
    kinds = run.teacher.every_kind
    pairs = [(kind, run.seed + place) for kind in kinds for place in range(run.teacher.members)]
    return [Member(number=number, settings=kind, seed=seed) for number, (kind, seed) in enumerate(pairs)]


def fold_members(run: Run) -> list[Member]:
    """The teachers of teacher.folds, of the first kind and seed; numbered after the others."""
    first, folds = len(members(run)), run.teacher.folds
    kind = run.teacher.every_kind[0].model_copy(update={"folds": folds})
    count = 0 if folds is None else folds.count
    return [Member(number=first + fold, settings=kind, seed=run.seed, fold=fold) for fold in range(count)]


def train_teacher(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write weights-NUMBER.safetensors of every member and teacher.json: their sizes, plans, curves and weights.

    Beside them fold-NUMBER.safetensors of every teacher that did not see a part of the train window. A member's weights
    are those of its best validation AUC. Members that were finished when a run was killed are kept.
    """
    ready_process(run.threads)
    end_what_was_left(run)
    if run.teacher.num_processes > 1:
        launch(__name__, run, inputs, out)
        return
    with world(choose_device(run.device)) as here:
        train_members(run, inputs, out, here)


def train_members(run: Run, inputs: Mapping[str, Path], out: Path, here: World) -> None:
    """All members, by all ranks together; rank 0 writes."""
    every, of_folds = members(run), fold_members(run)
    folders = [_kept(run, inputs, member) for member in (*every, *of_folds)]
    if here.rank == 0 and folders[0].parent.is_dir():
        sweep(folders[0].parent)
    for member, folder in zip((*every, *of_folds), folders, strict=True):
        if manifest(folder) is None:
            _train(run, inputs, member, folder, here, _title(member, len(every)))
    shares = _shares(run, inputs, every, folders[: len(every)], here)
    if here.rank:
        return
    found = [read_json(folder / ABOUT) for folder in folders]
    about = {
        "parameters": sum(each["parameters"] for each in found[: len(every)]),
        "device": str(here.device),
        "processes": here.size,
        "bf16": use_bf16(run.teacher.bf16, here.device),
        "weights": shares,
        "best": found[0]["best"],
        "curve": found[0]["curve"],
        "members": found[: len(every)],
        "folds": found[len(every) :],
    }
    for member, folder in zip((*every, *of_folds), folders, strict=True):
        (folder / weights_name(0)).rename(out / member.weights_name)
    write_json(out / ABOUT, about)
    follow(out, [each["snapshots"] for each in found])
    shutil.copytree(inputs["prepare"] / ENCODER, out / ENCODER)
    shutil.rmtree(folders[0].parent)


def _title(member: Member, num_members: int) -> str:
    if member.fold is not None:
        return f"teacher without fold {member.fold}"
    return "teacher" if num_members == 1 else f"teacher {member.number}"


def _kept(run: Run, inputs: Mapping[str, Path], member: Member) -> Path:
    """Where a finished member waits for the others, by all that it depends on."""
    data = manifest(inputs["prepare"]) or {}
    depends = [
        member.settings.model_dump(mode="json"),
        member.fold,
        member.seed,
        run.device,
        run.threads,
        data.get("key"),
    ]
    key = digest({"depends": depends, "code": code_digest(Path(__file__))})
    return Path(run.folder) / "members" / f"{member.number}-{key[:12]}"


def _train(run: Run, inputs: Mapping[str, Path], member: Member, folder: Path, here: World, title: str) -> None:
    settings = member.settings
    layout = open_rows(inputs["prepare"], "train").layout
    plan = planned(build_teacher(settings, layout), here.device, placement(settings))
    logger.info("%s: %d process(es)\n%s", title, here.size, shown(plan))
    snapshots = Path(run.folder) / SNAPSHOTS
    trained = fit_teacher(title, settings, member.seed, inputs["prepare"], here, snapshots, member.number, member.fold)
    if here.rank == 0:
        with whole_folder(folder, {"seed": member.seed}) as out:
            save_weights(trained.weights, out / weights_name(0))
            about = {
                "seed": member.seed,
                "parameters": sum(value.numel() for value in trained.weights.values()),
                "best": trained.best.to_json(),
                "curve": [check.to_json() for check in trained.curve],
                "plan": [part.to_json() for part in plan],
                "snapshots": None if trained.snapshots is None else trained.snapshots.name,
            }
            write_json(out / ABOUT, about)
    dist.barrier()


def _shares(
    run: Run, inputs: Mapping[str, Path], every: Sequence[Member], folders: Sequence[Path], here: World
) -> list[float]:
    """The members' weights in the mean: equal ones, or those that fit the validation window best."""
    if run.teacher.combine == "mean" or len(every) == 1:
        return [1 / len(every)] * len(every)
    rows = open_rows(inputs["prepare"], "valid")
    logits = []
    for member, folder in zip(every, folders, strict=True):
        model = _sharded(member, rows.layout, load_weights(folder, weights_name(0)), here)
        logits.append(torch.from_numpy(predict(model, rows, here.device)))
    label, offset = (torch.from_numpy(rows[name].copy()) for name in ("label", "offset"))
    return gate(torch.stack(logits, dim=1), label, offset)


def placement(settings: Teacher) -> Placement:
    """How the teacher's tables may be spread over processes."""
    return Placement(kinds=settings.sharding, communication=settings.communication)


def _sharded(member: Member, layout: Layout, weights: Mapping[str, Tensor], here: World) -> nn.Module:
    """A member with trained weights, in evaluation mode."""
    settings = member.settings
    model = shard(build_teacher(settings, layout), here.device, settings.embedding_learning_rate, placement(settings))
    restore(model, weights)
    return model.eval()


@contextmanager
def open_teacher(run: Run, layout: Layout, folder: Path) -> Iterator[nn.Module]:
    """The trained teacher of a train_teacher folder, sharded again, in float32 and in evaluation mode.

    Several members are one `Ensemble`. BadInput where a weight is not finite.
    """
    every = members(run)
    shares = read_json(folder / ABOUT)["weights"]
    with world(choose_device(run.device)) as here:
        opened = []
        for member in every:
            weights = load_weights(folder, weights_name(member.number))
            check_finite(folder / weights_name(member.number), weights)
            opened.append(_sharded(member, layout, weights, here))
        yield Ensemble(opened, shares) if len(opened) > 1 else opened[0]


@contextmanager
def open_fold(run: Run, layout: Layout, folder: Path, fold: int) -> Iterator[nn.Module]:
    """The teacher of a train_teacher folder that did not see this part of the train window, as open_teacher opens."""
    member = fold_members(run)[fold]
    weights = load_weights(folder, member.weights_name)
    check_finite(folder / member.weights_name, weights)
    with world(choose_device(run.device)) as here:
        yield _sharded(member, layout, weights, here)


def check_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    """BadInput with a line for every weight that holds a number that is not finite: which, and in which row first.

    One bad row of a table breaks the scores of some users only, and no mean shows it.
    """
    lines = []
    for name, value in weights.items():
        rows = value.flatten(1) if value.dim() > 1 else value.reshape(-1, 1)
        broken = ~torch.isfinite(rows).all(dim=1)
        if broken.any():
            found = f"others in {int(broken.sum())} of {len(rows)} rows, first in row {int(broken.nonzero()[0, 0])}"
            remedy = "lower the teacher's learning rates and train again"
            lines.append(problem(f"{path}: {name}", wanted="finite numbers", found=found, remedy=remedy))
    if lines:
        raise BadInput(lines)


if __name__ == "__main__":
    work(train_members)
