"""Folders of old steps that nothing kept was made from."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recdistill import files
from recdistill.config.run import Run
from recdistill.problems import BadInput

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A finished step's folder. at: when it was finished, in seconds since 1970. reads: None: not recorded."""

    path: Path
    step: str
    at: float
    reads: tuple[str, ...] | None
    version: int | None


def old_folders(run: Run, protected: Collection[int], *, keep: int, days: float, now: float) -> list[Path]:
    """What may go: older than `days`, and of no lineage that is kept.

    Kept are the lineages of protected versions, of the `keep` last publications and of the newest folder of each step
    in the run's own folder, and everything in a folder where a run is at work.
    """
    roots = [root for root in _roots(run) if not _at_work(root)]
    made = {root: list(_made(root, run.model)) for root in roots}
    published = [one for every in made.values() for one in every if one.step == "publish"]
    last = {one.path for one in sorted(published, key=lambda one: one.at)[len(published) - min(keep, len(published)) :]}
    old: list[Path] = []
    for root, every in made.items():
        heads = [one for one in every if one.path in last or one.version in protected]
        heads += [one for one in every if root == Path(run.folder) and one.at == max(_times(every, one.step))]
        kept = {path for head in heads for path in lineage(head, every)}
        old += [one.path for one in every if one.path not in kept and now - one.at > days * _DAY_S]
    return sorted(old)


def lineage(head: Made, every: Sequence[Made]) -> set[Path]:
    """The folder and all that it was made from; everything, where that was not recorded."""
    if head.reads is None:
        return {one.path for one in every}
    above = [one for one in every if one.path.name in head.reads]
    return {head.path}.union(*(lineage(one, every) for one in above))


def remove_folder(path: Path) -> None:
    """Remove a step's folder, at once for readers. BadInput where a run has begun work beside it."""
    with files.only_one(path.parent):
        gone = files.unfinished(path)
        path.rename(gone)  # a death from here on leaves what the next run sweeps
        shutil.rmtree(gone)


def size(path: Path) -> int:
    """Bytes."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _roots(run: Run) -> list[Path]:
    """The run's folder and those of its windows."""
    root = Path(run.folder)
    return [root, *sorted(path for path in (root / "windows").glob("*") if path.is_dir())]


def _at_work(root: Path) -> bool:
    if not (root / ".lock").exists():
        return False
    try:
        with files.only_one(root):
            return False
    except BadInput:
        return True


def _made(root: Path, model: str) -> Iterator[Made]:
    for path in sorted(root.glob(f"*/{files.MANIFEST}")):
        about = files.read_json(path)
        if "step" in about:
            reads = tuple(about["reads"]) if "reads" in about else None
            version = _version(path.parent, model) if about["step"] == "publish" else None
            yield Made(path=path.parent, step=about["step"], at=path.stat().st_mtime, reads=reads, version=version)


def _version(folder: Path, model: str) -> int | None:
    published = files.read_json(folder / "published.json")
    return int(published["version"]) if published["model"] == model else None


def _times(every: Sequence[Made], step: str) -> list[float]:
    return [one.at for one in every if one.step == step]
