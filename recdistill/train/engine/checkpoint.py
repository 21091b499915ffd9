"""Snapshots of a training: whole or absent, checked before they are read, and of this training only."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import torch

from recdistill import files
from recdistill.config.training import Training
from recdistill.problems import BadInput, problem
from recdistill.train.engine.course import Weights
from recdistill.train.engine.guards import LOOK, Broken, not_finite
from recdistill.train.engine.pieces import Piece, Stored, pieces, write_pieces
from recdistill.train.engine.ranks import any_of, of_first
from recdistill.train.engine.snapshot_folders import differences, remove
from recdistill.train.engine.state import State
from recdistill.train.progress import logger

COURSE = "course.json"
_MODEL = "model."


class Snapshots:
    """The snapshots of one training: `root`/TITLE-DIGEST/step-*, and the best weights apart in best-*.

    identity: all that the bits of this training depend on, as JSON; of its digest is the folder's name. model: the
    weights as they are, sharded or not. Each snapshot is a folder of its own: it appears by rename, with a manifest of
    sha256 inside, and no name is used twice. One process writes in the background, from a copy where memory allows it.
    """

    def __init__(
        self,
        root: Path,
        title: str,
        identity: Mapping[str, Any],
        *,
        settings: Training,
        model: Callable[[], Mapping[str, Any]],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.title, self.identity, self.settings = title, dict(identity), settings
        self.model, self.rank, self.world = model, rank, world
        self.folder = root / f"{_slug(title)}-{files.digest(self.identity)[:12]}"
        self._background = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._pending: list[Future[None]] = []
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether a snapshot is to be taken after this step; every rank has to ask."""
        every = self.settings.snapshot_every
        if isinstance(every, timedelta):
            waited = time.monotonic() - self._last >= every.total_seconds()
            return step % LOOK == 0 and of_first(float(waited), self.world) > 0
        return step % every == 0

    def save(self, state: State) -> None:
        """Write where the training stands. Broken where a weight is not finite; a full disk is a warning."""
        step, facts = state.course.step, state.course.to_json()
        held = [*pieces(self.model(), _MODEL), *state.pieces(self.rank)]
        self._refuse_broken(held, step)
        final = self.folder / f"step-{step:09d}-{state.course.rewinds}"
        self._do(held, lambda found: self._save(final, found, facts))
        self._last = time.monotonic()

    def _save(self, final: Path, held: Sequence[Piece], facts: Mapping[str, Any]) -> None:
        try:
            self._publish(final, held, facts)
        except OSError as error:
            logger.warning("%s: no snapshot at %s: %s; the one before it is kept", self.title, final, error.strerror)
        self._prune(facts["kept"])

    def keep(self, step: int) -> str:
        """Write the present weights as those to keep; the name by which `kept` finds them."""
        held = pieces(self.model(), _MODEL)
        self._refuse_broken(held, step)
        name = next(n for n in _names(f"best-{step:09d}") if not (self.folder / n).exists())
        self._do(held, lambda found: self._keep(self.folder / name, found))
        return name

    def _keep(self, final: Path, held: Sequence[Piece]) -> None:
        try:
            self._publish(final, held, {})
        except OSError as error:
            remedy = "make room and run again: it goes on from the last snapshot"
            found = error.strerror or "an error"
            raise BadInput(
                problem(str(final), wanted="room for the best weights", found=found, remedy=remedy)
            ) from None
        self._prune(final.name)

    def kept(self, name: str) -> Weights:
        """The weights kept under a name, whole; on other ranks than 0 none."""
        self.wait()
        self._refuse_damaged(self.folder / name)
        return Stored(self.folder / name).mapped(_MODEL) if self.rank == 0 else {}

    def restore(self, state: State) -> bool:
        """Put the newest sound snapshot back, weights and all; whether there was one. Every rank has to ask."""
        self.wait()
        folder = self._newest()
        if folder is None:
            return False
        stored = Stored(folder)
        for piece in pieces(self.model(), _MODEL):
            stored.fill(piece)
        state.course.load(files.read_json(folder / COURSE))
        device = next((p.tensor.device for p in pieces(self.model())), torch.device("cpu"))
        state.load(stored, self.rank, device)
        self._last = time.monotonic()
        return True

    def wait(self) -> None:
        """Until all is written. BadInput where the best weights could not be."""
        while self._pending:
            self._pending.pop(0).result()

    def close(self) -> None:
        """Until all is written, whatever became of it."""
        self._background.shutdown()

    def _do(self, held: Sequence[Piece], job: Callable[[Sequence[Piece]], None]) -> None:
        """In the background, from a copy, where one process writes little against the free memory; else at once."""
        self.wait()
        size = sum(piece.tensor.nbytes for piece in held)
        if self.world > 1 or size > psutil.virtual_memory().available / 4:
            job(held)
            return
        copies = [piece.copied() for piece in held]
        self._pending.append(self._background.submit(job, copies))

    def _publish(self, final: Path, held: Sequence[Piece], facts: Mapping[str, Any]) -> None:
        """Every rank writes its part; rank 0 brings them together and lets the whole appear. OSError on every rank."""
        assert not final.exists(), "a name is never used twice"
        parts = final.with_name(f".unfinished-parts-{final.name}")
        self._together(lambda: _write(parts, held, self.rank))
        self._together(lambda: self._appear(final, parts, facts))

    def _together(self, job: Callable[[], None]) -> None:
        """A part of the work that fails on every rank where it fails on one."""
        failed: OSError | None = None
        try:
            job()
        except OSError as error:
            failed = error
        if any_of(failed is not None, self.world):
            raise failed or OSError("another process could not write")

    def _appear(self, final: Path, parts: Path, facts: Mapping[str, Any]) -> None:
        if self.rank == 0:
            with files.whole_folder(final, {"identity": self.identity}) as out:
                for path in parts.iterdir():
                    path.rename(out / path.name)
                files.write_json(out / COURSE, facts)
            parts.rmdir()

    def _newest(self) -> Path | None:
        """The newest snapshot whose bytes, and whose best weights' bytes, are as they were written."""
        name: tuple[int, int] | None = None
        if self.rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.sweep(self.folder)
            self._tell_others()
            name = next((_number(path) for path in self._snapshots()[::-1] if self._is_sound(path)), None)
        step, rewinds = (of_first(float(n), self.world) for n in name or (-1, -1))
        return None if step < 0 else self.folder / f"step-{int(step):09d}-{int(rewinds)}"

    def _snapshots(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), key=_number)

    def _is_sound(self, path: Path) -> bool:
        """Whether to go on from this one; a damaged one is set aside. BadInput for one of another training."""
        about = files.manifest(path)
        if about is not None and about["identity"] != self.identity:
            found = "; ".join(differences(about["identity"], self.identity))
            remedy = f"remove {path}; training then starts anew"
            raise BadInput(problem(str(path), wanted="a snapshot of this training", found=found, remedy=remedy))
        lines = files.damage(path)
        if not lines and (kept := files.read_json(path / COURSE)["kept"]) is not None:
            lines = files.damage(self.folder / kept)
        for line in lines:
            logger.warning("%s; the snapshot before it is taken", line)
        if lines:
            path.rename(next(p for n in _names(f"damaged-{path.name}") if not (p := self.folder / n).exists()))
        return not lines

    def _tell_others(self) -> None:
        """Say which snapshots of the same title lie there that are of another training."""
        for folder in sorted(self.folder.parent.glob(f"{_slug(self.title)}-*")):
            found = next((about for path in folder.glob("step-*") if (about := files.manifest(path))), None)
            if found is not None and folder != self.folder:
                lines = "; ".join(differences(found["identity"], self.identity))
                logger.warning("%s: snapshots in %s are of another training (%s)", self.title, folder, lines)

    def _prune(self, kept: str | None) -> None:
        """Remove all but the newest snapshots, and best weights that none of these and not the present one names."""
        if self.rank != 0:
            return
        found = self._snapshots()
        for path in found[: -self.settings.snapshots_kept]:
            remove(path)
        named = {files.read_json(path / COURSE)["kept"] for path in self._snapshots()} | {kept}
        for path in self.folder.glob("best-*"):
            if path.name not in named:
                remove(path)

    def _refuse_broken(self, held: Sequence[Piece], step: int) -> None:
        lines = not_finite(held)
        if any_of(bool(lines), self.world):
            found = "; ".join(lines) or "others on another process"
            raise Broken(f"{self.title}: step {step}", wanted="weights of finite numbers", found=found)

    def _refuse_damaged(self, folder: Path) -> None:
        if lines := files.damage(folder):
            remedy = f"remove {self.folder}; training then starts anew"
            raise BadInput(problem(str(folder), wanted="the weights that were kept", found=lines[0], remedy=remedy))


def _slug(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-")


def _number(path: Path) -> tuple[int, int]:
    """(step, rewinds) of a snapshot's name."""
    _, step, rewinds = path.name.split("-")
    return int(step), int(rewinds)


def _write(parts: Path, held: Sequence[Piece], rank: int) -> None:
    try:
        parts.mkdir(parents=True, exist_ok=True)
        write_pieces(parts, held, rank)
    except OSError:
        shutil.rmtree(parts, ignore_errors=True)
        raise


def _names(stem: str) -> Iterator[str]:
    return (f"{stem}-{number}" for number in count())
