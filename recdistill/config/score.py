"""The score section of a run: what is kept of what the teacher says, and which rows beside the log's own it scores."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.sections import Count, Section

Kind = Literal["teacher_top", "student_top", "random", "popular"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Candidates(Section):
    """Rows for items that a request did not show, for methods that learn from lists.

    A candidate is the request's first row with another item, and with what belongs to the item as the log last had it
    before that row's time. Only items seen before then are taken, none that the request shows, none twice.
    """

    per_request: Count
    """How many of each kind; fewer where there are not so many items."""
    by: Annotated[list[Kind], BeforeValidator(_listed), Field(min_length=1)] = ["teacher_top"]
    """One kind, or a list of them: the teacher's or a student's best of a random pool, any seen so far alike, or by how
    often they were seen so far. What two kinds would take is the earlier's in the order popular, teacher_top,
    student_top, random, and the later takes its next."""
    pool: Count = 100
    """teacher_top and student_top: how many random ones they are the best of; the same for both."""
    student: str | None = None
    """student_top: the folder of an earlier run, whose shipped student says which are best."""
    item: str | None = None
    """The id feature of what is ranked; None takes that of data.negatives, else that of features.history."""
    item_columns: list[str] = []
    """Columns that belong to the item, beside those of data.negatives; aggregates by these alone come with it."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        context = {"by": ", ".join(self.by), "student": self.student or ""}
        if len(set(self.by)) < len(self.by):
            raise PydanticCustomError("by", "wanted each kind once in by, found {by}; drop what is twice", context)
        if "student_top" in self.by and self.student is None:
            message = (
                "wanted student: the folder of an earlier run for by: student_top, found none; give student: runs/NAME"
            )
            raise PydanticCustomError("student", message)
        if "student_top" not in self.by and self.student is not None:
            message = "wanted student_top in by for student: {student}, found {by}; add it to by, or drop student"
            raise PydanticCustomError("student", message, context)
        return self


class Score(Section):
    hidden: Literal["none", "float16", "int8"] = "none"
    """The teacher's hidden vectors beside its logits: 2 bytes a number, or 1 with a scale for each vector."""
    members: bool = False
    """Whether the logits of an ensemble's members are kept beside their mean and variance."""
    candidates: Candidates | None = None
    top: Count = 500
    """Of a run with data.pairs: how many items of every user's list."""
    rows_per_segment: Annotated[int, Field(ge=1)] = 262_144
    """How many rows are stored at a time: what a scoring pass that is killed loses at most, on each rank."""
