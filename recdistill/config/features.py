"""The features section of a run: ids, numbers, histories and aggregates, and where each comes from when serving."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.sections import Count, Duration, Positive, Section

Serve = Literal["request", "online", "bundle", "never"]


class IdColumn(Section):
    """An id feature: strings or whole numbers that index an embedding table; nulls are "absent".

    Exactly one of column, cross and calendar says where the values come from.
    """

    column: str | None = None
    cross: list[str] | None = None
    """Columns whose combination is the value."""
    calendar: Literal["hour", "weekday", "hour_of_week", "day_of_month", "month"] | None = None
    """A part of the event time, in UTC."""
    name: str | None = None
    """None takes the column, the columns joined by " x ", or the part of the calendar."""
    table: str | None = None
    """Features of one table name share its rows and its vocabulary; None takes the name."""
    min_count: Count = 1
    """Values seen less often in the train window share the out-of-vocabulary row."""
    max_rows: Count | None = None
    """At most this many values, the most frequent ones, have rows of their own."""
    hash_buckets: Count | None = None
    """Values are hashed (salted) into this many rows instead of being kept in a vocabulary."""
    edges: list[float] | None = None
    """Numbers become the place among these ascending edges."""
    quantiles: Annotated[int, Field(ge=2)] | None = None
    """Numbers become the place among this many bins of equal size in the train window."""
    max_values: Count | None = None
    """For a list column: how many of its values count; None says that the column holds one value a row."""
    serve: Serve = "request"
    """Where its value comes from when serving; never: it may feed the teacher only."""
    key: str | None = None
    """With serve: bundle, the id column by whose value the bundle's table is read."""

    @property
    def title(self) -> str:
        """The feature's name."""
        return self.name or self.column or self.calendar or " x ".join(self.columns)

    @property
    def columns(self) -> list[str]:
        """The columns of the log that it reads, but for the event time of a calendar feature."""
        return [self.column] if self.column is not None else (self.cross or [])

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [n for n in ("column", "cross", "calendar") if getattr(self, n) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise PydanticCustomError(
                "source", "wanted one of column, cross and calendar, found {found}", {"found": found}
            )
        bins = [n for n in ("hash_buckets", "edges", "quantiles") if getattr(self, n) is not None]
        if len(bins) > 1:
            raise PydanticCustomError("bins", "wanted one of {found} alone", {"found": " and ".join(bins)})
        if self.column is None and (self.edges or self.quantiles or self.max_values):
            raise PydanticCustomError("column", "wanted a column beside edges, quantiles and max_values")
        if self.cross is not None and len(set(self.cross)) < 2:
            raise PydanticCustomError("cross", "cross: wanted two different columns or more")
        if self.edges is not None and (sorted(set(self.edges)) != self.edges or not self.edges):
            raise PydanticCustomError("edges", "edges: wanted ascending numbers")
        if (self.serve == "bundle") != (self.key is not None):
            raise PydanticCustomError("key", "wanted key beside serve: bundle, and only there")
        return self


class DenseColumn(Section):
    column: str
    transform: Literal["standardise", "log1p", "rank"] = "standardise"
    """log1p standardises log(1 + x) and wants x >= 0; rank is the share of the train window below the value, from a
    hundred quantiles; a null becomes the mean (the middle rank)."""
    serve: Serve = "request"
    """Where its value comes from when serving; never: it may feed the teacher only."""
    key: str | None = None
    """With serve: bundle, the id column by whose value the bundle's table is read."""

    @property
    def title(self) -> str:
        return self.column

    @model_validator(mode="after")
    def _key(self) -> Self:
        if (self.serve == "bundle") != (self.key is not None):
            raise PydanticCustomError("key", "wanted key beside serve: bundle, and only there")
        return self


class Aggregate(Section):
    """A number about the past of a key, as of each row's time: only events strictly before it, less `delay`."""

    value: Literal["count", "mean", "recency"]
    """log(1 + how many events); the smoothed mean of `of`; log(1 + seconds since the last event)."""
    of: str | None = None
    """The numeric column whose mean is taken; None takes the label. For count and recency: None counts every event,
    else those where the column is not null and not 0."""
    by: Annotated[list[str], Field(min_length=1, max_length=2)]
    """The key: one column or a pair. Every value of a list counts, and a row gets the sum over its own."""
    prior: Positive = 10.0
    """The mean is (sum + prior * m) / (count + prior), with m the mean over the train window."""
    delay: Duration = timedelta(0)
    """Outcomes are known only this long after their event."""
    name: str | None = None
    """None takes VALUE(of)_by_KEY."""
    serve: Serve = "online"
    """online: the caller keeps the state and sends the value; never: it may feed the teacher only."""

    @property
    def title(self) -> str:
        of = f"_{self.of}" if self.of else ""
        return self.name or f"{self.value}{of}_by_{'_x_'.join(self.by)}"

    @field_validator("by", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class History(Section):
    """The user's past events strictly before each row's time, newest first."""

    item: str
    """The id column whose table past items share with the candidate."""
    outcomes: list[str] = []
    """Columns of what came of a past event (a rating, a click, a dwell), embedded beside its item."""
    length: Count = 50
    per: str | None = None
    """Whose past: a session column, say; None takes data.user."""
    delay: Duration = timedelta(0)
    """Events are known only this long after they happened."""


class Features(Section):
    ids: Annotated[list[IdColumn], Field(min_length=1)]
    dense: list[DenseColumn] = []
    history: History | None = None
    aggregates: list[Aggregate] = []
    grow_from: str | None = None
    """A bundle or a prepare folder whose values and bins keep their ids; values that are new come after them."""

    @field_validator("ids", "dense", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return [{"column": v} if isinstance(v, str) else v for v in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fit(self) -> Self:
        names = self.titles
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PydanticCustomError(
                "twice", "wanted every name once, found {twice} twice; give one a `name`", {"twice": str(twice)}
            )
        outcomes = [] if self.history is None else [self.history.item, *self.history.outcomes]
        if len(outcomes) != len(set(outcomes)):
            message = "history: wanted an item and outcomes of different columns, found {columns}"
            raise PydanticCustomError("twice", message, {"columns": ", ".join(outcomes)})
        if self.history is not None and self.history.item not in self._single():
            raise PydanticCustomError("no_item", "history.item: wanted one of ids that holds one value a row")
        self._check_tables()
        self._check_lists(outcomes)
        return self

    def _single(self) -> set[str]:
        binned = {spec.title for spec in self.ids if spec.edges or spec.quantiles}
        return {s.title for s in self.ids if s.column and s.max_values is None and s.title not in binned}

    def _check_lists(self, past: list[str]) -> None:
        """The tables of a history are read one value at a time."""
        table_of = {spec.title: spec.table or spec.title for spec in self.ids}
        tables = {table_of.get(name, name) for name in past}
        lists = [spec.title for spec in self.ids if spec.max_values is not None and table_of[spec.title] in tables]
        if lists:
            message = "wanted features of one value a row in the tables of the history, found the list {lists}"
            raise PydanticCustomError("lists", message, {"lists": ", ".join(lists)})

    def _check_tables(self) -> None:
        """Features that share a table must agree on how its rows are found."""
        seen: dict[str, tuple[str, Any]] = {}
        for spec in self.ids:
            how = (spec.min_count, spec.max_rows, spec.hash_buckets, spec.edges, spec.quantiles)
            first, other = seen.setdefault(spec.table or spec.title, (spec.title, how))
            if how != other:
                context = {"one": first, "other": spec.title, "table": spec.table or spec.title}
                message = "table {table}: wanted {one} and {other} to agree on min_count, max_rows and hash_buckets"
                raise PydanticCustomError("table", message, context)

    @property
    def titles(self) -> list[str]:
        """The names of all features but the history."""
        return [s.title for s in self.ids] + [s.title for s in self.dense] + [s.title for s in self.aggregates]

    @property
    def keyed(self) -> dict[str, str]:
        """Name of a feature that the bundle serves -> the column by whose value it does."""
        specs: list[IdColumn | DenseColumn] = [*self.ids, *self.dense]
        return {spec.title: spec.key for spec in specs if spec.key is not None}

    @property
    def privileged(self) -> set[str]:
        """Names of what cannot be had when serving, and so feeds the teacher only."""
        specs: list[IdColumn | DenseColumn | Aggregate] = [*self.ids, *self.dense, *self.aggregates]
        return {spec.title for spec in specs if spec.serve == "never"}
