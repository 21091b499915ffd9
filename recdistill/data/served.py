"""Columns that the bundle knows by a key: an item's price or genres, as last seen in the train window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from recdistill.data.columns import column
from recdistill.data.log.values import plain_ids
from recdistill.data.tables import arrow_digest
from recdistill.files import file_digest
from recdistill.problems import BadInput, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """key: a column of the request. table: `key` as plain ids, each once, beside the columns that it stands for."""

    key: str
    table: pa.Table

    @property
    def names(self) -> list[str]:
        """The columns that it fills."""
        return [name for name in self.table.schema.names if name != "key"]

    def fill(self, rows: pa.Table) -> pa.Table:
        """The request with its columns; null for a key that is not known. Columns that the request has stay.

        BadInput for keys of another type.
        """
        place = pc.index_in(self._keys(column(rows, self.key)), value_set=column(self.table, "key"))
        for name in self.names:
            if name not in rows.schema.names:
                rows = rows.append_column(name, column(self.table, name).take(place))
        return rows

    def _keys(self, values: pa.Array) -> pa.Array:
        kind = self.table.schema.field("key").type
        plain = pa.nulls(len(values), kind) if pt.is_null(values.type) else plain_ids(values)
        if plain.type != kind:
            remedy = "give the type that the encoder was fitted on"
            raise BadInput(problem(f"column {self.key}", wanted=str(kind), found=str(values.type), remedy=remedy))
        return plain

    @property
    def digest(self) -> str:
        """sha256 of the table as it is written."""
        return arrow_digest(self.table)


def save_served(served: Served, folder: Path, stem: str) -> dict[str, Any]:
    """Write the table; returns what encoder.json says of it."""
    path = folder / f"served-{stem}.arrow"
    with pa.ipc.new_file(path, served.table.schema) as writer:
        writer.write_table(served.table.combine_chunks())
    return {"file": path.name, "sha256": file_digest(path)}


def open_served(key: str, about: Mapping[str, Any], folder: Path) -> Served:
    """What `save_served` wrote. BadInput where it is another file."""
    path = folder / about["file"]
    if file_digest(path) != about["sha256"]:
        remedy = "restore the folder that was written whole"
        raise BadInput(problem(str(path), wanted="the table of this encoder", found="another", remedy=remedy))
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        return Served(key=key, table=reader.read_all())
