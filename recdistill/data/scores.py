"""The score store beside the rows: what a teacher said of every row of a window, in Arrow segments, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from recdistill.data.store import Rows
from recdistill.files import read_json, write_json
from recdistill.problems import BadInput, problem
from recdistill.types import Scores

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
HiddenKind = Literal["none", "float16", "int8"]
SEGMENTS = "segments.json"
REMEDY = "score again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """Hidden vectors of N rows in the pieces they are stored in, memory-mapped: a row is made float when it is read.

    values: [n, H] float16, or int8 with a scale [n] for each vector. ends: where each piece ends among the N.
    """

    values: Sequence[NDArray[Any]]
    scales: Sequence[Floats] | None
    ends: Ints

    @property
    def width(self) -> int:
        return int(self.values[0].shape[1])

    def at(self, index: Ints) -> Floats:
        """[n, H] of the rows at these places."""
        out = np.empty((len(index), self.width), dtype=np.float32)
        piece = np.searchsorted(self.ends, index, side="right")
        for number in np.unique(piece):
            here = np.flatnonzero(piece == number)
            begin = self.ends[number - 1] if number else 0
            out[here] = self.values[number][index[here] - begin]
            if self.scales is not None:
                out[here] *= self.scales[number][index[here] - begin][:, None]
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScores:
    """A teacher's scores of N rows. logit: [N]. variance: [N] between the members of an ensemble. members: [N, M]
    their logits. hidden: of the last hidden layers. place: [N] of each row among those stored; None in their order.

    variance, members and hidden are None where they were not stored.
    """

    logit: Floats
    variance: Floats | None = None
    members: Floats | None = None
    hidden: Hidden | None = None
    place: Ints | None = None

    def __len__(self) -> int:
        return len(self.logit)

    def at(self, index: Ints) -> Scores:
        """The scores of the rows at these places, hidden vectors as float32."""
        hidden = None
        if self.hidden is not None:
            hidden = torch.from_numpy(self.hidden.at(index if self.place is None else self.place[index]))
        members, variance = (
            None if values is None else torch.from_numpy(values[index]) for values in (self.members, self.variance)
        )
        return Scores(logit=torch.from_numpy(self.logit[index]), hidden=hidden, members=members, variance=variance)


def quantise(hidden: Floats) -> tuple[NDArray[np.int8], Floats]:
    """[n, H] codes and [n] scales: each vector's largest number becomes 127, a vector of zeros has the scale 1.

    Off by at most half a scale, max |h| / 254.

    >>> codes, scale = quantise(np.array([[2.54, -1.0], [0.0, 0.0]], dtype=np.float32))
    >>> codes.tolist(), [round(s, 3) for s in scale.tolist()]
    ([[127, -50], [0, 0]], [0.02, 1.0])
    """
    scale = np.abs(hidden).max(axis=1, initial=0.0).astype(np.float32) / np.float32(127)
    scale[scale == 0] = 1.0
    return np.rint(hidden / scale[:, None]).astype(np.int8), scale


def write_segment(
    folder: Path, number: int, row_id: Ints, scores: Scores, kind: HiddenKind, about: Mapping[str, str]
) -> None:
    """Write one segment of a store, whole or not at all: all that the scores hold, `about` as its metadata."""
    columns: dict[str, Any] = {"row_id": row_id, "logit": scores.logit.numpy()}
    if scores.variance is not None:
        columns["variance"] = scores.variance.numpy()
    if scores.members is not None:
        columns |= {f"member_{place}": column.numpy() for place, column in enumerate(scores.members.T.contiguous())}
    if kind != "none":
        assert scores.hidden is not None
        columns |= _hidden_columns(scores.hidden, kind)
    table = pa.table(columns).replace_schema_metadata(dict(about))
    path = segment_path(folder, number)
    temporary = path.with_suffix(".unfinished")
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    temporary.replace(path)


def _hidden_columns(hidden: Tensor, kind: HiddenKind) -> dict[str, Any]:
    codes, scale = quantise(hidden.float().numpy()) if kind == "int8" else (hidden.half().numpy(), None)
    flat = pa.array(codes.reshape(-1))
    found = {"hidden": pa.FixedSizeListArray.from_arrays(flat, hidden.shape[1])}
    return found if scale is None else {**found, "hidden_scale": scale}


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.arrow"


def finish_store(folder: Path, num_segments: int, about: Mapping[str, str]) -> None:
    """Say that the store is complete: so many segments, all of them of this teacher and data."""
    write_json(folder / SEGMENTS, {"segments": num_segments, **about})


def is_segment(path: Path, about: Mapping[str, str]) -> bool:
    """Whether a whole segment of this teacher and data lies there."""
    try:
        return _metadata(_table(path)) == dict(about)
    except (FileNotFoundError, pa.ArrowInvalid):
        return False


def _table(path: Path) -> pa.Table:
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        return reader.read_all()


def _metadata(table: pa.Table) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}


def open_scores(folder: Path, name: str, rows: Rows, prepared: Path) -> StoredScores:
    """The scores stored in `folder` of a window (or its candidates), in the order of the rows.

    BadInput for an unfinished store, for scores of other data, another encoder or several teachers, and for rows
    without a score.
    """
    tables = _checked(folder / name, read_json(prepared / "data.json"))
    row_id = np.concatenate([table.column("row_id").to_numpy() for table in tables])
    place = _place(folder / name, row_id, rows)
    names = tables[0].column_names
    members = [column for column in names if column.startswith("member_")]
    return StoredScores(
        logit=_column(tables, "logit", place),
        variance=_column(tables, "variance", place) if "variance" in names else None,
        members=np.stack([_column(tables, name, place) for name in members], axis=1) if members else None,
        hidden=_hidden(tables) if "hidden" in names else None,
        place=place,
    )


def _checked(folder: Path, data: Mapping[str, str]) -> list[pa.Table]:
    """All segments, memory-mapped."""
    if not (folder / SEGMENTS).is_file():
        raise BadInput(problem(str(folder), wanted="a finished score store", found="none", remedy=REMEDY))
    about = read_json(folder / SEGMENTS)
    num_segments = about.pop("segments")
    paths = [segment_path(folder, number) for number in range(num_segments)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        found = f"all but {', '.join(missing)}"
        raise BadInput(problem(str(folder), wanted=f"{num_segments} segments", found=found, remedy=REMEDY))
    lines = _strangers(str(folder / SEGMENTS), about, {key: data[key] for key in ("fingerprint", "encoder")})
    tables = [_table(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        lines += _strangers(str(path), _metadata(table), about)
    if lines:
        raise BadInput(lines)
    return tables


def _strangers(where: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """A line for every digest that is another's."""
    return [
        problem(f"{where}: {key}", wanted=value[:12], found=str(found.get(key))[:12], remedy=REMEDY)
        for key, value in wanted.items()
        if found.get(key) != value
    ]


def _place(folder: Path, row_id: Ints, rows: Rows) -> Ints | None:
    """[N] where each row's scores are; None where they are in the order of the rows."""
    if np.array_equal(row_id, rows["row_id"]):
        return None
    order = np.argsort(row_id)
    place = np.minimum(np.searchsorted(row_id, rows["row_id"], sorter=order), len(row_id) - 1)
    missing = int((row_id[order[place]] != rows["row_id"]).sum()) if len(row_id) else len(rows)
    if missing:
        found = f"{missing} without"
        raise BadInput(problem(str(folder), wanted="a score of every row", found=found, remedy=REMEDY))
    return order[place]


def _column(tables: Sequence[pa.Table], name: str, place: Ints | None) -> Floats:
    values = np.concatenate([table.column(name).to_numpy() for table in tables])
    found: Floats = values if place is None else values[place]
    return found


def _hidden(tables: Sequence[pa.Table]) -> Hidden:
    """Views of the mapped files, without a copy."""
    width = tables[0].schema.field("hidden").type.list_size
    chunks = [_whole(table.column("hidden")) for table in tables]
    values = [chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, width) for chunk in chunks]
    scaled = "hidden_scale" in tables[0].column_names
    scales = [_whole(table.column("hidden_scale")).to_numpy() for table in tables] if scaled else None
    return Hidden(values=values, scales=scales, ends=np.cumsum([len(table) for table in tables]))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A segment is one batch, which combining would copy all the same."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
