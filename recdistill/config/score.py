"""The score section of a run: what is kept of what the teacher says, and which rows beside the log's own it scores."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recdistill.config.sections import Count, Section


class Candidates(Section):
    """Rows for items that a request did not show, for methods that learn from lists.

    A candidate is the request's first row with another item, and with what belongs to the item as the log last had it
    before that row's time. Only items seen before then are taken, none that the request shows, none twice.
    """

    per_request: Count
    """How many of them; fewer where there are not so many items."""
    by: Literal["teacher_top", "random", "popular"] = "teacher_top"
    """The teacher's best of a random pool, any seen so far alike, or by how often they were seen so far."""
    pool: Count = 100
    """teacher_top: how many random ones it is the best of."""
    item: str | None = None
    """The id feature of what is ranked; None takes that of data.negatives, else that of features.history."""
    item_columns: list[str] = []
    """Columns that belong to the item, beside those of data.negatives; aggregates by these alone come with it."""


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
