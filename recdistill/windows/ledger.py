"""What became of every window: one JSON file each below the run's folder, written whole, the first one final."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from recdistill.config.run import Run
from recdistill.files import digest, read_json, write_json
from recdistill.windows.calendar import Window

WINDOWS = "windows"  # below the run's folder
State = Literal["done", "refused", "failed", "skipped"]
_NOT_IDENTITY = ("root", "threads", "windows", "registry", "monitor")
_LEARNS = ("seed", "data", "features", "teacher", "score", "student", "recipe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What became of (config, window).

    refused: its data broke the contract, as `problems` says; `held_back` are the files that no later window reads.
    skipped: its new partitions never came. failed: it died or broke too often. done: `result` is what the run ended
    with, whatever its verdict.

    config: the identity of the settings. learns: of those among them that a warm start asks to be the same.
    kind, base, since_full: how it was trained, from which window's run, and how many windows after a full training.
    folders: step -> its folder. cost: what a warm start would have cost here (windows.cost); None: not measured.
    """

    window: str
    start: str
    end: str
    config: str
    state: State
    learns: str = ""
    kind: Literal["full", "incremental"] = "full"
    base: str | None = None
    since_full: int = 0
    result: dict[str, Any] | None = None
    folders: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    held_back: dict[str, str] = field(default_factory=dict)
    cost: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Of the folder of its run."""
        return f"{self.window}-{self.config[:8]}"

    @property
    def verdict(self) -> str:
        return "" if self.result is None else str(self.result["verdict"])

    @property
    def status(self) -> int:
        """As an exit status: 0 where it passed or was skipped, 1 where a gate said no, 2 otherwise."""
        return 2 if self.state in ("refused", "failed") else int(self.verdict == "FAIL")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def identity(run: Run) -> str:
    """Of all settings that a window's result depends on: where files lie and how windows are cut are not among them."""
    dumped = run.model_dump(mode="json")
    return digest({name: value for name, value in dumped.items() if name not in _NOT_IDENTITY})


def learns(run: Run) -> str:
    """Of the settings that a teacher or student depends on."""
    return digest(run.section(*_LEARNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """folder: of all that windows keep. config: whose records are looked up by `of`."""

    folder: Path
    config: str

    def root(self, window: Window) -> Path:
        """Where the run of a window writes."""
        return self.folder / f"{window.name}-{self.config[:8]}"

    def of(self, window: Window) -> Record | None:
        """What became of a window by these settings; None where it is still to be done."""
        path = self._path(window)
        return Record(**read_json(path)) if path.is_file() else None

    def records(self) -> list[Record]:
        """Of all windows by any settings, in the order of their ends."""
        return [Record(**read_json(path)) for path in sorted((self.folder / "records").glob("[!.]*.json"))]

    def write(self, window: Window, **about: Any) -> Record:
        made = Record(
            window=window.name,
            start=window.start.isoformat(),
            end=window.end.isoformat(),
            config=self.config,
            **about,
        )
        path = self._path(window)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, made.to_json())
        return made

    def forget(self, window: Window) -> None:
        """Let a window be done again; what its run has made stays, and is made again only where it would differ."""
        self._path(window).unlink(missing_ok=True)

    def claim(self, window: Window) -> Path:
        """The file that says who is at work on a window."""
        return self.folder / "claims" / f"{self.root(window).name}.json"

    def _path(self, window: Window) -> Path:
        return self.folder / "records" / f"{self.root(window).name}.json"


def open_ledger(run: Run) -> Ledger:
    return Ledger(folder=Path(run.folder) / WINDOWS, config=identity(run))


def held_back(records: list[Record]) -> Mapping[str, set[str]]:
    """Name of a file -> the sha256 of the contents that no window may read."""
    found: dict[str, set[str]] = {}
    for record in records:
        for name, sha256 in record.held_back.items():
            found.setdefault(name, set()).add(sha256)
    return found
