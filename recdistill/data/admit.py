"""Which rows take part: without repeated and future events; the whole log is judged, and bad rows written down."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recdistill.config.run import Run
from recdistill.config.sections import epoch_us
from recdistill.data.contract.quarantine import Quarantine
from recdistill.data.contract.repeats import in_the_future, repeats
from recdistill.data.contract.rules import Broken
from recdistill.data.contract.whole import check_whole
from recdistill.data.log.listing import Log
from recdistill.data.parts import QUARANTINE
from recdistill.data.segment import Part, Segment
from recdistill.data.tables import splitmix
from recdistill.data.view import Dropped, segments
from recdistill.problems import BadInput

DROPPED = "dropped.npy"
Ints = NDArray[np.int64]


def admit(run: Run, log: Log, parts: Sequence[Part], out: Path, now: datetime | None = None) -> Dropped:
    """Segment number -> which of its rows are left out beside those in quarantine; now: the clock, for future events.

    Writes quarantine.parquet, of all rows that broke a rule, and dropped.npy, their numbers in the log. BadInput where
    the whole log breaks a rule, or more rows than allowed are bad: the quarantine then stays in the run's folder.
    """
    clock = epoch_us(now or datetime.now(UTC))
    found = list(segments(parts))
    dropped: dict[int, NDArray[np.bool_]] = {}
    quarantine = Quarantine(Path(run.folder) / QUARANTINE, run.data.contract.max_quarantined)
    for part in parts:
        quarantine.merge(part.folder / QUARANTINE, part.file)
    again = _repeated(found) if run.data.contract.unique else [np.empty(0, dtype=np.int64)] * len(found)
    for number, segment in enumerate(found):
        late = in_the_future(segment["time"], clock, run.data.contract)
        _write(run, quarantine, segment, late, again[number])
        if len(late) or len(again[number]):
            dropped[number] = np.isin(np.arange(len(segment)), np.concatenate([late, again[number]]))
    quarantine.finish(log.num_rows)
    if lines := _judge(run, log, parts, dropped):
        raise BadInput(lines)
    Path(run.folder, QUARANTINE).rename(out / QUARANTINE)
    np.save(out / DROPPED, _numbers(log, out / QUARANTINE))
    return dropped


def _repeated(found: Sequence[Segment]) -> list[Ints]:
    """Places in each segment of events that came before, and of the negatives that were drawn for such events."""
    again = repeats([_event_key(segment) for segment in found])
    if not found or found[0].happened is None:
        return again
    positives = [segment.numbers("positive") for segment in found]
    repeated = np.concatenate([numbers[places] for numbers, places in zip(positives, again, strict=True)])
    return [np.flatnonzero(np.isin(numbers, repeated)) for numbers in positives]


def _event_key(segment: Segment) -> Ints:
    """[n] equal for rows of one event. A negative has its positive's columns and is no repeat of it: its own number."""
    key, happened = segment["key event"], segment.happened
    if happened is None:
        return key
    return np.where(happened, key, splitmix(segment.row_id.view(np.uint64)).view(np.int64))


def _write(run: Run, quarantine: Quarantine, segment: Segment, late: Ints, again: Ints) -> None:
    """Future and repeated events of a segment into the quarantine."""
    contract = run.data.contract
    if len(late):
        times = pa.table({run.data.time: pa.array(segment["time"][late]).cast(pa.timestamp("us", "UTC"))})
        wanted = f"a time up to {contract.max_future} after the clock"
        rule = Broken(
            column=run.data.time, wanted=wanted, remedy="mend the clock or the times", rows=np.arange(len(late))
        )
        quarantine.add_rows(segment.file, segment.row[late], times, [rule])
    if len(again):
        name = ", ".join(contract.unique)
        values = pa.table({name: pa.array(["those of an earlier event"] * len(again))})
        rule = Broken(column=name, wanted="every event once", remedy="drop repeats", rows=np.arange(len(again)))
        quarantine.add_rows(segment.file, segment.row[again], values, [rule])


def _judge(run: Run, log: Log, parts: Sequence[Part], dropped: Dropped) -> list[str]:
    """A line for what breaks the contract in files, partitions or the label rate, judged by the rows that are left."""
    rows, positives = [], []
    number = 0
    for part in parts:
        num, positive = 0, 0.0
        for segment in part.segments():
            label = segment["label"] if number not in dropped else segment["label"][~dropped[number]]
            num, positive, number = num + len(label), positive + float(label.sum()), number + 1
        rows.append(num)
        positives.append(positive)
    return check_whole(run, log, rows, positives)


def _numbers(log: Log, quarantine: Path) -> Ints:
    """Numbers in the log of the rows in quarantine, ascending."""
    table = pq.read_table(quarantine, columns=["file", "row"])
    first = {file.name: file.first_row for file in log.files}
    files = [first[name] for name in table.column("file").to_pylist()]
    return np.unique(table.column("row").to_numpy() + np.array(files, dtype=np.int64))


def dropped_rows(prepared: Path) -> Ints:
    """Numbers in the log of the rows that a prepare folder left out."""
    found: Ints = np.load(prepared / DROPPED)
    return found
