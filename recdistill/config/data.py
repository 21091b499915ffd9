"""The data section of a run: which log, its columns, its windows in time, and what it must satisfy."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.pairs import Pairs
from recdistill.config.sections import Count, Duration, Fraction, Name, Section, utc

Share = Annotated[float, Field(ge=0, le=1)]


class Label(Section):
    column: str
    """A column of 0 and 1, or of numbers where `at_least` is given."""
    at_least: float | None = None
    """The label is 1 where the column is at least this much; None takes the column as it is."""


class Task(Label):
    """Another outcome, which the teacher learns beside the label; a row whose column is null has no such label."""

    name: Name


class Request(Section):
    """What was ranked together: give exactly one of the two."""

    column: str | None = None
    """A column that identifies the request."""
    user_every: Literal["hour", "day"] | None = None
    """All rows of a user within one UTC hour or day."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.column is None) == (self.user_every is None):
            raise PydanticCustomError("one_of", "wanted exactly one of `column` and `user_every`")
        return self


class Split(Section):
    """Windows in order of time: shares of the rows, or the instants where they begin. No instant is parted.

    With `back: k` all three windows, and the end of what is read, lie k times `every` earlier: a rolling back-test.
    """

    train: Fraction = 0.8
    """Share of the rows, where valid_from and test_from are not given; the rest after valid is the test window."""
    valid: Fraction = 0.1
    valid_from: datetime | None = None
    """Where the validation window begins, in UTC where it names no zone; wants test_from beside it."""
    test_from: datetime | None = None
    train_from: datetime | None = None
    """Rows before this instant are only the past of others; None trains from the first row on."""
    until: datetime | None = None
    """Where the test window ends; None is the end of the data."""
    embargo: Duration = timedelta(0)
    """Rows of this long before valid_from and before test_from are in no window: their labels are not known yet."""
    every: Duration = timedelta(days=7)
    """How far apart back-test windows lie."""
    back: Annotated[int, Field(ge=0)] = 0
    """Which back-test window: 0 is the latest."""

    _utc = field_validator("train_from", "valid_from", "test_from", "until")(utc)

    @model_validator(mode="after")
    def _rest(self) -> Self:
        if (self.valid_from is None) != (self.test_from is None):
            raise PydanticCustomError("both", "wanted both of valid_from and test_from, or neither")
        edges = (self.train_from, self.valid_from, self.test_from, self.until)
        if any(one >= other for one, other in pairwise(at for at in edges if at is not None)):
            raise PydanticCustomError("order", "wanted train_from < valid_from < test_from < until")
        if self.valid_from is None and self.train_from is not None:
            raise PydanticCustomError("train_from", "wanted valid_from and test_from beside train_from")
        if self.valid_from is None and self.train + self.valid >= 1:
            raise PydanticCustomError("no_test", "wanted train + valid below 1, to leave a test window")
        if self.valid_from is None and self.until is not None:
            raise PydanticCustomError("until", "wanted valid_from and test_from beside until; data.end bounds shares")
        if self.back and (self.valid_from is None or self.until is None):
            raise PydanticCustomError("back", "wanted valid_from, test_from and until beside back")
        return self


class Partition(Section):
    """The hive partition of the log that says when its events happened; files outside data.start and end stay shut."""

    column: str
    """The key in the path, as in day=2017-10-01."""
    format: str = "%Y-%m-%d"
    """How its value writes the UTC instant where the partition begins, as strptime reads it."""
    length: Literal["hour", "day", "month"] = "day"
    lateness: Duration = timedelta(0)
    """Events older than their partition's begin by more than this are late; younger than its end are never fine."""


class ColumnRule(Section):
    """What the values of a column must satisfy; a row that breaks a rule goes to quarantine."""

    type: str | None = None
    """As Arrow writes it: int64, string, double, timestamp[us, tz=UTC], list<element: string>; None does not say."""
    nulls: bool = False
    """Whether nulls are allowed."""
    min: Annotated[float, Field(allow_inf_nan=False)] | None = None
    max: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Numbers lie between min and max, both included; NaN never does."""
    allowed: Annotated[list[str | int | float | bool], Field(min_length=1)] | None = None
    """The only values, or elements of a list, that there may be beside nulls."""
    max_length: Count | None = None
    """Characters of a string or elements of a list, at most."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise PydanticCustomError("order", "wanted min <= max")
        return self


class Contract(Section):
    """What the log must satisfy. Row rules put rows in quarantine; the others stop the run."""

    columns: dict[str, ColumnRule] = {}
    unique: list[str] = []
    """Columns that identify an event; rows that repeat one, across files too, go to quarantine but for the first."""
    earliest: datetime | None = None
    """Events before this instant go to quarantine."""
    max_future: Duration | None = None
    """Events later than the clock by more than this go to quarantine; None does not look at the clock."""
    ordered: bool = False
    """Whether times must not fall within a file; rows earlier than one before them go to quarantine."""
    min_rows: Annotated[int, Field(ge=0)] = 1
    """Least rows of every file."""
    min_rows_per_partition: Annotated[int, Field(ge=0)] = 0
    """Least rows of every hive partition of data.partition."""
    complete: bool = False
    """Whether every partition between the first and the last must be there."""
    label_rate: tuple[Share, Share] | None = None
    """Least and greatest share of positives, of the whole and of every partition of a hundred rows or more."""
    max_quarantined: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of rows that may go to quarantine; above it the run stops."""
    not_after: list[str] = []
    """Columns that say when a feature's value was taken, as data.time says when the event was; rows where one is later
    than the event go to quarantine: such a value may know what came of it."""
    max_single_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    """Greatest AUC on the valid window of any one feature by itself: above it the feature is taken for a leak of the
    label and the run stops; 1 does not look. Features that feed the teacher only are not held to it."""

    _utc = field_validator("earliest")(utc)

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.label_rate is not None and self.label_rate[0] > self.label_rate[1]:
            raise PydanticCustomError("order", "label_rate: wanted the least share first")
        return self


class Negatives(Section):
    """Negatives drawn for a log of positives only; every row of the log counts as one positive.

    A negative is a copy of the positive with another item. Only items known before the row's UTC hour are drawn, and
    none that the row's request acted on at any time. `data.label` is then {column: sampled_label}.
    """

    item: str
    """The column of what was acted on."""
    per_positive: Count = 4
    """How many are drawn, with replacement; one that hits an item of the row's own request is dropped."""
    by: Literal["uniform", "popularity", "recent_popularity", "session"] = "popularity"
    """Out of all known items alike, by how often they occurred, by how often within `recent` before the row's hour, or
    out of what other requests acted on within `recent`: one vote a request and hour, shared by its items."""
    power: Annotated[float, Field(ge=0)] = 1.0
    """Popularity counts to this power."""
    recent: Duration = timedelta(hours=24)
    """In whole hours."""
    item_columns: list[str] = []
    """Columns that belong to the item and come with it, as they were at its last event before the row's hour."""
    correction: Literal["log_q", "none"] = "log_q"
    """log_q: training scores are shifted by minus the log of how often a negative was drawn, so that served
    probabilities are those of the whole catalogue."""

    @field_validator("recent")
    @classmethod
    def _hours(cls, value: timedelta) -> timedelta:
        if not value or value % timedelta(hours=1):
            raise PydanticCustomError("hours", "wanted whole hours, 1h or more")
        return value


class Data(Section):
    source: str
    """A file, a folder or a glob, local or s3:// or gs://; relative to where the command runs."""
    format: Literal["parquet", "arrow", "csv"] | None = None
    """None takes it from the file names: .parquet, .arrow or .feather, .csv (also .csv.gz) or .tsv."""
    partition: Partition | None = None
    manifest: str | None = None
    """A manifest that `recdistill manifest` wrote: exactly these files, with these contents; None lists the source."""
    time: str
    """The event time: a timestamp column, or whole numbers with `time_unit`."""
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    """Unit since 1970 of a whole-number time; never guessed."""
    user: str
    """Who acted: histories, intervals and GAUC are per user."""
    label: Label
    tasks: list[Task] = []
    """Other outcomes, which the teacher learns too; the student is taught `label` alone."""
    request: Request = Request(user_every="day")
    start: datetime | None = None
    """Rows from this instant on, in UTC where it names no zone; None takes all."""
    end: datetime | None = None
    """Rows before this instant, in UTC where it names no zone; None takes all."""
    split: Split = Split()
    contract: Contract = Contract()
    negatives: Negatives | None = None
    pairs: Pairs | None = None
    """A log of (user, item) positives alone, which are ranked among all items: see docs/pairs.md."""
    keep_negatives: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the train window's negatives that are kept; training scores are shifted by its log, so that served
    probabilities stay those of the log."""

    _utc = field_validator("start", "end")(utc)

    @field_validator("tasks")
    @classmethod
    def _names(cls, value: list[Task]) -> list[Task]:
        names = [task.name for task in value]
        if len(set(names)) < len(names):
            raise PydanticCustomError("twice", "wanted every task's name once, found {names}", {"names": str(names)})
        return value
