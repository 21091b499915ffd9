"""The student section of a run: what the student is made of and how it is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.pairs import PairModel
from recdistill.config.sections import Count, Positive, Section
from recdistill.config.training import Training

Precision = Literal["none", "int8", "int4"]
Kind = Literal["plain", "hashed", "quotient_remainder", "mixed_dimension"]


class Table(Section):
    """How a table of the student is made small."""

    width: Count | None = None
    """None takes student.width."""
    kind: Kind = "plain"
    """One file of models/tables/ each: a row per value, hashed into `rows`, a product of two small tables, or wide for
    frequent values and narrow for rare ones."""
    rows: Annotated[int, Field(ge=3)] | None = None
    """Of hashed: its rows. Of quotient_remainder: those of the remainders; None takes the square root of all."""
    blocks: Annotated[int, Field(ge=2, le=8)] = 3
    """Of mixed_dimension: how many widths there are."""
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of mixed_dimension: how fast width falls with frequency; 0 leaves all as wide."""
    quantise: Precision | None = None
    """Bits of the table that ships; None takes export.quantise."""
    aware: bool = False
    """Train as if it were quantised already."""
    min_count: Count = 1
    """Values looked up less often by the train window's rows share the out-of-vocabulary row."""
    keep: Count | None = None
    """At most this many values, the most frequent ones, keep rows of their own."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "hashed" and self.rows is None:
            raise PydanticCustomError("rows", "wanted rows beside kind: hashed, found none; write rows: 1000")
        if self.rows is not None and self.kind not in ("hashed", "quotient_remainder"):
            message = "wanted rows only with kind hashed or quotient_remainder, found {kind}; drop it"
            raise PydanticCustomError("rows", message, {"kind": self.kind})
        if self.aware and self.quantise not in ("int8", "int4"):
            message = "wanted quantise: int8 or int4 beside aware, found {found}; write one"
            raise PydanticCustomError("aware", message, {"found": str(self.quantise)})
        return self

    @property
    def needs_counts(self) -> bool:
        """Whether it can only be made by who knows how frequent each value is."""
        return self.kind == "mixed_dimension" or self.min_count > 1 or self.keep is not None


class Mlp(Section):
    """The tower alone."""

    use: Literal["mlp"] = "mlp"


class Dcn(Section):
    """A low-rank cross network before the tower."""

    use: Literal["dcn"]
    layers: Count = 2
    rank: Count = 8


class Fm(Section):
    """All products of two fields beside the tower."""

    use: Literal["fm"]


class TwoTower(Section):
    """A tower for the user and one for the item; the logit is the dot product of what they give."""

    use: Literal["two_tower"]
    user: Annotated[list[str], Field(min_length=1)]
    """Features of the user's side; histories are too, all others are the item's."""
    width: Count = 16
    """Of the two vectors."""


def _named(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


Interaction = Annotated[Mlp | Dcn | Fm | TwoTower, Field(discriminator="use"), BeforeValidator(_named)]


class Student(Training):
    learning_rate: Positive = 3e-3
    embedding_learning_rate: Positive = 0.1
    width: Count = 4
    attention: Count = 16
    tower: list[Count] = [64, 32]
    interaction: Interaction = Mlp()
    """What there is beside the tower."""
    table: Table = Table()
    """How every table is made that `tables` does not name."""
    tables: dict[str, Table] = {}
    """By feature, or by the name of the table that features share."""
    history_length: Count | None = None
    """How much of the history it looks at; None takes all of it."""
    warm_start: str | None = None
    """The folder of an earlier distil step, whose students and controls these begin as; None draws fresh weights."""
    without: list[str] = []
    """Features that the student does not read, beside those that cannot be had when serving."""
    pairs: PairModel = PairModel()
    """What it is made of where data.pairs is given."""
    seeds: Count = 3
    """How many students, and as many controls, are trained; the best on the validation window ships."""

    def table_of(self, name: str) -> Table:
        """How the table of this name is made."""
        return self.tables.get(name, self.table)

    def counted(self, names: Iterable[str]) -> list[str]:
        """The tables among these that need their values' frequencies."""
        return [name for name in names if self.table_of(name).needs_counts]
