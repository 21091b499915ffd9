"""What is kept of a row of the log: which columns as codes, which as numbers, which hashed together as a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from recdistill.config.run import Run
from recdistill.data.columns import Source, event_columns, source_of
from recdistill.data.log.listing import Log

ALL = 1 << 30  # the width of a list column whose every value counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """coded: key -> source of ids; numbers: columns; keys: key -> columns hashed together; tasks: their names."""

    coded: dict[str, Source]
    numbers: tuple[str, ...]
    keys: dict[str, tuple[str, ...]]
    tasks: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The columns of the log behind all that, but for those of time, user, request and labels."""
        of_codes = [name for source in self.coded.values() for name in source.columns]
        return list(dict.fromkeys([*of_codes, *self.numbers, *(n for names in self.keys.values() for n in names)]))

    def to_json(self) -> dict[str, Any]:
        coded = {key: source.to_json() for key, source in self.coded.items()}
        return {"coded": coded, "numbers": sorted(self.numbers), "keys": self.keys}


def source_key(source: Source) -> str:
    """The name of a source among the coded columns of a part."""
    columns = " x ".join(source.columns)
    if source.calendar is not None:
        return f"{source.calendar} of {columns}"
    return columns if source.width is None else f"{columns} up to {source.width}"


def every_value(name: str, is_list: bool) -> Source:
    """The source of a column as an aggregate reads it: all values of a list."""
    return Source(columns=(name,), width=ALL if is_list else None)


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
    return Plan(
        coded={source_key(source): source for source in sources},
        numbers=_numbers(run),
        keys=_keys(run),
        tasks=tuple(task.name for task in run.data.tasks),
    )


def _numbers(run: Run) -> tuple[str, ...]:
    features = run.features
    binned = [s.column for s in features.ids if (s.edges is not None or s.quantiles is not None) and s.column]
    of = [spec.of for spec in features.aggregates if spec.of is not None]
    drawn = [] if run.data.negatives is None else ["event", "offset", "positive"]
    return tuple(dict.fromkeys([*(s.column for s in features.dense), *binned, *of, *drawn]))


def _keys(run: Run) -> dict[str, tuple[str, ...]]:
    keys: dict[str, tuple[str, ...]] = {}
    if run.features.history is not None and run.features.history.per is not None:
        keys["per"] = (run.features.history.per,)
    if run.data.contract.unique:
        keys["event"] = tuple(run.data.contract.unique)
    return keys
