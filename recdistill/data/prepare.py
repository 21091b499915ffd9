"""The prepare step: log -> parts, checked -> windows -> fitted encoder -> the store of encoded rows and their pasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill.config.run import Run
from recdistill.data.admit import admit
from recdistill.data.contract.rules import ruled_columns
from recdistill.data.contract.whole import check_types
from recdistill.data.encoder import Encoder
from recdistill.data.log.listing import Log, open_data
from recdistill.data.negatives.sampled import sampled_log
from recdistill.data.parts import part_settings, read_parts
from recdistill.data.raw import check_columns, wanted_columns
from recdistill.data.split import SPLITS, Windows
from recdistill.data.store import Rows, open_rows
from recdistill.data.view import View, open_view
from recdistill.data.watch.drift import drift, write_drift
from recdistill.data.watch.leaks import leaks
from recdistill.data.write import encode, grown_from
from recdistill.files import write_json
from recdistill.pairs.log import open_positives
from recdistill.problems import BadInput, problem

PARTS = "parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The rows of each window. num_rows, num_positives: in the order of SPLITS."""

    windows: Windows
    num_rows: tuple[int, ...]
    num_positives: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        rows = {
            name: {"rows": n, "positives": p}
            for name, n, p in zip(SPLITS, self.num_rows, self.num_positives, strict=True)
        }
        return {"windows": self.windows.to_json(), **rows}


def open_checked(run: Run) -> Log:
    """The log that the run reads, its columns checked; of a log of positives, the one with drawn negatives.

    BadInput lists what does not fit.
    """
    if run.data.pairs is not None:
        return open_positives(run)
    data, needed = run.data, [*(name for name, _ in wanted_columns(run)), *ruled_columns(run)]
    if data.negatives is not None:
        folder = sampled_log(run, open_data(data), Path(run.folder))
        data = data.model_copy(update={"source": str(folder), "format": None, "manifest": None})
    log = open_data(data, list(dict.fromkeys(needed)))
    check_columns(run, log)
    if lines := check_types(run, log):
        raise BadInput(lines)
    return log


def prepare(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write encoder/, rows/ and events/ of the run's data window, and data.json that says what they are."""
    log = open_checked(run)
    view = read_view(run, log, out)
    found = survey(run, log, view)
    encoder = encode(run, view, out, SPLITS)
    encoder.save(out / "encoder")
    _watch(run, log, encoder, out)
    about = {"fingerprint": log.fingerprint, "num_files": len(log.files), "source": log.source, "extra": log.extra}
    write_json(out / "log.json", log.to_json())
    write_json(out / "data.json", {**about, **found.to_json(), "encoder": encoder.digest})


def grown(run: Run, inputs: Mapping[str, Path]) -> str | None:
    """Which encoder this one grows from, by its digest."""
    before = grown_from(run)
    return None if before is None else before.digest


def read_view(run: Run, log: Log, out: Path, parts_of: Run | None = None) -> View:
    """The log's rows, checked and encoded as parts; what is left out is written to `out`.

    parts_of: the run in whose folder the parts are; None is the run itself.
    """
    parts = read_parts(run, log, Path((parts_of or run).folder) / PARTS)
    dropped = admit(run, log, parts, out)
    return open_view(run.data, run.seed, parts, dropped)


def survey(run: Run, log: Log, view: View) -> Survey:
    """Count the windows. BadInput for one-sided ones."""
    num_rows = np.zeros(len(SPLITS), dtype=np.int64)
    num_positives = np.zeros(len(SPLITS))
    for piece in view.slices():
        num_rows += np.bincount(piece.which + 1, minlength=len(SPLITS) + 1)[1:]
        num_positives += np.bincount(piece.which + 1, piece["label"], minlength=len(SPLITS) + 1)[1:]
    lines = [
        problem(
            f"{log.source}: {name} window: column {run.data.label.column}",
            wanted="labels of 0 and of 1",
            found=f"only {int(positives > 0)}" if rows else "no rows",
            remedy="widen the window or mend data.label",
        )
        for name, rows, positives in zip(SPLITS, num_rows, num_positives, strict=True)
        if positives in (0, rows)
    ]
    if lines:
        raise BadInput(lines)
    positives = tuple(int(positive) for positive in num_positives)
    return Survey(windows=view.windows, num_rows=tuple(num_rows.tolist()), num_positives=positives)


def _watch(run: Run, log: Log, encoder: Encoder, out: Path) -> None:
    """BadInput for features that know the label too well; write how far partitions drifted from the train window."""
    windows = {name: open_rows(out, name, encoder.layout) for name in SPLITS}
    privileged = run.features.privileged
    limit = run.data.contract.max_single_auc
    if lines := leaks(windows["train"], windows["valid"], limit=limit, exempt=privileged):
        raise BadInput(lines)
    names, of_file = _partitions(log)
    ends = np.array([file.first_row + file.num_rows for file in log.files])

    def partition_of(row_id: NDArray[np.int64]) -> NDArray[np.int64]:
        return of_file[np.searchsorted(ends, row_id, side="right")]

    write_drift(out, drift(windows, partition_of, names, keep_negatives=run.data.keep_negatives))


def _partitions(log: Log) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the partitions, and that of every file: its hive keys, else the file itself."""
    titles = [", ".join(f"{k}={v}" for k, v in file.partition.items()) or file.name for file in log.files]
    number = {title: place for place, title in enumerate(dict.fromkeys(titles))}
    return list(number), np.array([number[title] for title in titles], dtype=np.int64)


def encode_as(run: Run, log: Log, encoder: Encoder, out: Path, splits: Sequence[str]) -> None:
    """The named windows as another encoder sees them: rows/, events/ and encoder/ under `out`.

    The log is read again only where that encoder wants other things of a row than the run's own. BadInput where the log
    lacks a column that it wants.
    """
    theirs = run.model_copy(update={"features": encoder.features, "root": str(out / "work")})
    check_columns(theirs, log)
    alike = part_settings(theirs, log) == part_settings(run, log)
    view = read_view(theirs, log, out, parts_of=run if alike else None)
    encode(theirs, view, out, splits, encoder)
    encoder.save(out / "encoder")


def windows_as(run: Run, prepared: Path, encoder: Encoder, out: Path, splits: Sequence[str]) -> list[Rows]:
    """The named windows of a prepare folder as another encoder sees them, row by row; `out` is empty or done before."""
    if encoder.digest == Encoder.open(prepared / "encoder").digest:
        return [open_rows(prepared, split, encoder.layout) for split in splits]
    if not (out / "encoder").exists():
        encode_as(run, open_checked(run), encoder, out, splits)
    theirs = [open_rows(out, split, encoder.layout) for split in splits]
    for split, rows in zip(splits, theirs, strict=True):
        ours = open_rows(prepared, split)
        assert np.array_equal(rows["row_id"], ours["row_id"]), "one log gave two orders of rows"
    return theirs
