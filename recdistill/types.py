"""The values that flow in memory: Batch and Scores, and the Layout that says what each id column means.

Axis letters in names of local tensors, across the package:

    N rows of a batch      G requests         L slots of the longest request
    K id columns           D dense columns    H hidden width of a model
    T history steps        E embedding width  F embedded fields
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # serving knows a Layout and must not load torch
    from torch import Tensor, device

ABSENT = 0  # the id of "nothing here": padding of lists and of short histories
OOV = 1  # the id of a value that the train window did not hold
FIRST_KNOWN = 2  # the id of a vocabulary's first value


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a ranker says of N rows; the same type for teacher and student.

    logit: [N] float32, before the sigmoid.
    hidden: [N, H] float, the last hidden layer; None where no method asks for it.
    tasks: [N, M] float32 logits of all M tasks, the first equal to `logit`; None of a ranker with one task.
    members: [N, M] float32 logits of the M members of an ensemble, and variance: [N] float32 between them; None of a
    single ranker, and members where they were not kept.
    """

    logit: Tensor
    hidden: Tensor | None = None
    tasks: Tensor | None = None
    members: Tensor | None = None
    variance: Tensor | None = None

    def detach(self) -> Scores:
        """The same values, cut from the graph that made them."""
        return self._each(lambda value: value.detach())

    def to(self, device: device) -> Scores:
        """The same values on another device."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def at(self, index: Tensor) -> Scores:
        """Those of the rows at these places."""
        return self._each(lambda value: value[index])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Scores:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: change(value) for name, value in values.items() if value is not None}
        return replace(self, **changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """N rows of a log, flat and never padded.

    ids: [N, K] int64; 0 = absent, 1 = out of vocabulary. dense: [N, D] float32, scaled.
    label: [N] float32 in {0, 1}. weight: [N] float32, >= 0.
    offset: [N] float32, added to a logit before it meets the label, where rows were sampled: else 0.
    request: [N] int64, equal for the rows that were ranked together. row_id: [N] int64, unique in the log.
    teacher: the teacher's Scores of these rows; None where no teacher takes part.
    tasks: [N, M] float32 in {0, 1} or NaN, the labels of all M tasks, the first equal to `label`; NaN where a row has
    no such label; None of a log with one task.
    """

    ids: Tensor
    dense: Tensor
    label: Tensor
    weight: Tensor
    offset: Tensor
    request: Tensor
    row_id: Tensor
    teacher: Scores | None = None
    tasks: Tensor | None = None

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    @staticmethod
    def example(
        *,
        label: Sequence[float],
        request: Sequence[int] | None = None,
        teacher: Scores | None = None,
        tasks: Sequence[Sequence[float]] | None = None,
    ) -> Batch:
        """Rows without features, of weight 1 and, unless told, of one request each: for worked examples."""
        import torch

        num_rows = len(label)
        row_id = torch.arange(num_rows)
        return Batch(
            ids=torch.zeros((num_rows, 0), dtype=torch.int64),
            dense=torch.zeros((num_rows, 0)),
            label=torch.tensor(label, dtype=torch.float32),
            weight=torch.ones(num_rows),
            offset=torch.zeros(num_rows),
            request=row_id if request is None else torch.tensor(request),
            row_id=row_id,
            teacher=teacher,
            tasks=None if tasks is None else torch.tensor(tasks, dtype=torch.float32),
        )

    def to(self, device: device) -> Batch:
        """The same rows on another device."""
        names = ("ids", "dense", "label", "weight", "offset", "request", "row_id")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        teacher = None if self.teacher is None else self.teacher.to(device)
        tasks = None if self.tasks is None else self.tasks.to(device, non_blocking=True)
        return replace(self, teacher=teacher, tasks=tasks, **moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdFeature:
    """A run of `width` columns of the ids matrix, from `start` on, that index the rows of one table.

    Features that name the same table share its rows. kind: "single" (one id a row), "bag" (a set of up to `width`
    ids, 0-padded) or "history" (up to `width` past events, newest first, 0-padded).
    """

    name: str
    table: str
    start: int
    width: int
    num_rows: int
    kind: Literal["single", "bag", "history"]

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the columns of a Batch's two matrices are, in order. Written with the data and shipped in the bundle.

    tasks: names of the labels beside data.label.
    """

    ids: tuple[IdFeature, ...]
    dense: tuple[str, ...]
    tasks: tuple[str, ...] = ()

    @property
    def num_id_columns(self) -> int:
        return sum(feature.width for feature in self.ids)

    @property
    def tables(self) -> dict[str, int]:
        """Table name -> number of rows, absent and out-of-vocabulary rows included."""
        return {feature.table: feature.num_rows for feature in self.ids}

    @property
    def pooled(self) -> tuple[IdFeature, ...]:
        return tuple(feature for feature in self.ids if feature.kind != "history")

    @property
    def histories(self) -> tuple[IdFeature, ...]:
        return tuple(feature for feature in self.ids if feature.kind == "history")

    @property
    def target(self) -> IdFeature | None:
        """The candidate's own feature, whose past values the first history holds; None where there is no history."""
        past = self.histories[0].name if self.histories else None
        return next((f for f in self.ids if f.kind == "single" and past == f"history.{f.name}"), None)

    def limits(self) -> list[int]:
        """Per id column, the number of rows of the table that it indexes."""
        return [feature.num_rows for feature in self.ids for _ in range(feature.width)]

    def to_json(self) -> dict[str, Any]:
        return {"ids": [asdict(feature) for feature in self.ids], "dense": list(self.dense), "tasks": list(self.tasks)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Layout:
        ids = tuple(IdFeature(**feature) for feature in value["ids"])
        return Layout(ids=ids, dense=tuple(value["dense"]), tasks=tuple(value.get("tasks", ())))  # bundles of before
