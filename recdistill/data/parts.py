"""A log's files as parts: checked and encoded once, reused while file and plan stay the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.code import code_digest
from recdistill.config import Run
from recdistill.data.ahead import ahead
from recdistill.data.codes import Coder, Codes, narrow_numbers
from recdistill.data.columns import Source, column, event_columns, numbers, source_of
from recdistill.data.contract.quarantine import Quarantine
from recdistill.data.contract.repeats import event_key, out_of_order
from recdistill.data.contract.rules import Broken, broken_rows, ruled_columns
from recdistill.data.log.listing import Log, LogFile
from recdistill.data.log.read import tables
from recdistill.data.raw import RawRows, raw_rows, wanted_columns
from recdistill.files import damage, digest, manifest, whole_folder

ROWS_PER_SEGMENT = 524_288
QUARANTINE = "quarantine.parquet"
ALL = 1 << 30  # the width of a list column whose every value counts

Ints = NDArray[np.int64]
Coded = tuple[list[Codes], pa.Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is kept of a row. coded: key -> source of ids; numbers: columns; keys: key -> columns hashed together."""

    coded: dict[str, Source]
    numbers: tuple[str, ...]
    keys: dict[str, tuple[str, ...]]

    @property
    def columns(self) -> list[str]:
        """The columns of the log behind all that, but for those of time, user, request and label."""
        of_codes = [name for source in self.coded.values() for name in source.columns]
        return list(dict.fromkeys([*of_codes, *self.numbers, *(n for names in self.keys.values() for n in names)]))


def source_key(source: Source) -> str:
    """The name of a source among the coded columns of a part."""
    columns = " x ".join(source.columns)
    if source.calendar is not None:
        return f"{source.calendar} of {columns}"
    return columns if source.width is None else f"{columns} up to {source.width}"


def every_value(name: str, is_list: bool) -> Source:
    """The source of a column as an aggregate reads it: all values of a list."""
    return Source(columns=(name,), width=ALL if is_list else None)


def whole_key(segment: Segment, name: str) -> str:
    """The key under which a segment keeps every value of a column."""
    one, all_of_them = (source_key(every_value(name, is_list)) for is_list in (False, True))
    return one if one in segment.keys else all_of_them


def plan_of(run: Run, log: Log) -> Plan:
    """What the run's features, histories and aggregates need of each row."""
    features = run.features
    sources = [source_of(s, run.data) for s in features.ids if s.edges is None and s.quantiles is None]
    plain = list(event_columns(features).values())
    by_title = {spec.title: spec for spec in features.ids}
    sources += [source_of(by_title[n], run.data) if n in by_title else Source(columns=(n,)) for n in plain]
    for spec in features.aggregates:
        sources += [every_value(name, pa.types.is_nested(log.types[name])) for name in spec.by]
    sources += [Source(columns=(key,)) for key in features.keyed.values()]
    binned = [s.column for s in features.ids if (s.edges is not None or s.quantiles is not None) and s.column]
    of = [spec.of for spec in features.aggregates if spec.of is not None]
    keys: dict[str, tuple[str, ...]] = {}
    if features.history is not None and features.history.per is not None:
        keys["per"] = (features.history.per,)
    if run.data.contract.unique:
        keys["event"] = tuple(run.data.contract.unique)
    return Plan(
        coded={source_key(source): source for source in sources},
        numbers=tuple(dict.fromkeys([s.column for s in features.dense] + binned + of + _sampled(run))),
        keys=keys,
    )


def _sampled(run: Run) -> list[str]:
    return [] if run.data.negatives is None else ["event", "offset", "positive"]


class Coders:
    """A coder for every source of a plan, at work in threads: Arrow and pandas hash outside the interpreter."""

    def __init__(self, plan: Plan, threads: int) -> None:
        self.coders = [Coder(source.width) for source in plan.coded.values()]
        self.threads, self.pool = threads, ThreadPoolExecutor(threads)

    def __call__(self, plan: Plan, rows: pa.Table) -> list[Coded]:
        """Codes and different values of every source, in the order of the plan."""
        work = zip(self.coders, plan.coded.values(), strict=True)
        return list(self.pool.map(lambda pair: pair[0](pair[1].values(rows)), work))

    def __enter__(self) -> Coders:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()


@dataclass(frozen=True)
class Segment:
    """Consecutive rows of one file, less those in quarantine, memory-mapped."""

    folder: Path
    number: int
    file: LogFile

    @cached_property
    def _rows(self) -> pa.RecordBatch:
        with pa.ipc.open_file(pa.memory_map(str(self.folder / f"rows-{self.number:04d}.arrow"))) as reader:
            return reader.get_batch(0)

    @cached_property
    def _values(self) -> pa.RecordBatch:
        with pa.ipc.open_file(pa.memory_map(str(self.folder / f"values-{self.number:04d}.arrow"))) as reader:
            return reader.get_batch(0)

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """[n] time, user, request, label, row (in its file) or `key NAME`."""
        found: NDArray[Any] = self._rows.column(name).to_numpy()
        return found

    @property
    def row_id(self) -> Ints:
        """[n] numbers of the rows in the whole log."""
        return self["row"] + self.file.first_row

    @property
    def happened(self) -> NDArray[np.bool_] | None:
        """[n] which rows are events; None where all are, as drawn negatives are not."""
        return self.numbers("event") > 0 if "number event" in self._rows.schema.names else None

    @property
    def keys(self) -> set[str]:
        """Of the sources whose codes it holds."""
        return {name.removeprefix("code ") for name in self._values.schema.names}

    def codes(self, key: str) -> list[NDArray[np.signedinteger]]:
        """One array [n] of codes per column that the source fills; -1 where there is no value."""
        names = [name for name in self._rows.schema.names if name.startswith(f"code {key}\0")]
        return [self[name] for name in names]

    def values(self, key: str) -> pa.Array:
        """The plain values that the codes number."""
        return self._values.column(f"code {key}").flatten()

    def numbers(self, name: str) -> NDArray[np.float64]:
        """[n] a numeric column, NaN for null."""
        return self[f"number {name}"].astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of the log, read. num_bad: rows in quarantine."""

    folder: Path
    file: LogFile
    num_segments: int
    num_bad: int

    def segments(self) -> Iterator[Segment]:
        """In the order of the file."""
        for number in range(self.num_segments):
            yield Segment(self.folder, number, self.file)


def read_parts(run: Run, log: Log, root: Path) -> list[Part]:
    """Every file of the log as a part under `root`; those that are there already, whole and undamaged, are reused."""
    plan = plan_of(run, log)
    settings = _settings(run, plan)
    parts = []
    with Coders(plan, num_threads(run)) as coders:
        for file in log.files:
            key = digest([settings, file.sha256, file.size, file.num_rows, file.partition])
            folder = root / f"part-{key[:16]}"
            if manifest(folder) is None or damage(folder):
                _read_part(run, log, file, plan, folder, key, coders)
            about = manifest(folder)
            assert about is not None
            num_segments, num_bad = about["segments"], about["num_bad"]
            parts.append(Part(folder=folder, file=file, num_segments=num_segments, num_bad=num_bad))
    _forget(root, {part.folder for part in parts})
    return parts


def num_threads(run: Run) -> int:
    """The run's own number, else one per core that this process may use."""
    return run.threads or len(os.sched_getaffinity(0))


def _settings(run: Run, plan: Plan) -> str:
    """Of all that decides what a part holds: what is kept, what is checked, and the code that does it."""
    data, dense = run.section("data")["data"], run.features.dense
    names = ("time", "time_unit", "user", "label", "request", "partition", "contract", "negatives")
    kept = {"coded": {key: s.to_json() for key, s in plan.coded.items()}, "numbers": plan.numbers, "keys": plan.keys}
    log1p = sorted(spec.column for spec in dense if spec.transform == "log1p")
    checked = [log1p, sorted(spec.column for spec in dense)]
    return digest([{n: data[n] for n in names}, kept, checked, code_digest(Path(__file__))])


def _forget(root: Path, kept: set[Path]) -> None:
    """Remove parts of files that the log no longer has, or that were read by another plan."""
    for path in root.glob("part-*"):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _read_part(run: Run, log: Log, file: LogFile, plan: Plan, folder: Path, key: str, coders: Coders) -> None:
    about: dict[str, Any] = {"key": key, "segments": 0, "num_bad": 0}
    columns = list(dict.fromkeys([*(name for name, _ in wanted_columns(run)), *plan.columns, *ruled_columns(run)]))
    with whole_folder(folder, about) as out:
        quarantine = Quarantine(out / QUARANTINE, limit=1.0)
        latest: int | None = None
        segments = tables(log, columns, max_rows=ROWS_PER_SEGMENT, files=[file])
        for _, first, table in ahead(segments, coders.threads):
            rows, latest = _checked(run, file, first, table, quarantine, latest)
            _write_segment(plan, rows, out, about["segments"], coders)
            about["segments"] += 1
        about["num_bad"] = quarantine.finish(file.num_rows)


def _checked(
    run: Run, file: LogFile, first: int, table: pa.Table, quarantine: Quarantine, latest: int | None
) -> tuple[RawRows, int | None]:
    """The rows that obey the contract, numbered as in the file, and the latest time of the file so far."""
    number = np.arange(first, first + table.num_rows)
    broken = broken_rows(run, table, file)
    if broken:
        keep = quarantine.add(file, first, table, broken)
        table, number = table.filter(pa.array(keep)), number[keep]
    rows = raw_rows(run.data, table, number)
    if not run.data.contract.ordered or not len(rows.time):
        return rows, latest
    late = out_of_order(rows.time, latest)
    latest = max(int(rows.time.max()), -(2**63) if latest is None else latest)
    if not len(late):
        return rows, latest
    quarantine.add_rows(file, rows.row_id[late], rows.columns.take(pa.array(late)), _order_broken(run, len(late)))
    return rows.take(np.delete(np.arange(len(rows.time)), late)), latest


def _order_broken(run: Run, num: int) -> list[Broken]:
    wanted, remedy = "a time not before that of an earlier row", "sort the file, or drop data.contract.ordered"
    return [Broken(column=run.data.time, wanted=wanted, remedy=remedy, rows=np.arange(num))]


def _write_segment(plan: Plan, rows: RawRows, folder: Path, number: int, coders: Coders) -> None:
    """rows-NNNN.arrow with a column per array, values-NNNN.arrow with the values behind every source's codes."""
    kept: dict[str, pa.Array] = {n: pa.array(getattr(rows, n)) for n in ("time", "user", "request", "label")}
    kept["row"] = pa.array(rows.row_id)
    values: dict[str, pa.Array] = {}
    encoded = coders(plan, rows.columns)
    for key, (codes, known) in zip(plan.coded, encoded, strict=True):
        kept |= {f"code {key}\0{place}": pa.array(code) for place, code in enumerate(codes)}
        values[f"code {key}"] = pa.ListArray.from_arrays(pa.array([0, len(known)], pa.int32()), known)
    kept |= {f"number {name}": pa.array(narrow_numbers(numbers(column(rows.columns, name)))) for name in plan.numbers}
    kept |= {f"key {name}": pa.array(event_key(rows.columns, columns)) for name, columns in plan.keys.items()}
    for stem, batch in (("rows", pa.record_batch(kept)), ("values", pa.record_batch(values))):
        with pa.ipc.new_file(folder / f"{stem}-{number:04d}.arrow", batch.schema) as writer:
            writer.write_batch(batch)
