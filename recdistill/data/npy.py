"""Append rows to an .npy file whose length is not known until the end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_ROWS = 10**15


class NpyWriter:
    """Room for the header is left at the start, and filled in when the writer is closed."""

    def __init__(self, path: Path, kind: np.dtype[Any]) -> None:
        self.kind, self.num_rows = kind, 0
        self.room = len(_header(kind, _MOST_ROWS))
        self.file = path.open("wb")
        self.file.write(b"\0" * self.room)

    def add(self, rows: NDArray[Any]) -> None:
        """[n] more rows, of the file's type."""
        np.ascontiguousarray(rows, dtype=self.kind).tofile(self.file)
        self.num_rows += len(rows)

    def close(self) -> None:
        """Write the header; the file is readable from now on."""
        header = _header(self.kind, self.num_rows)
        header = header[:-1] + b" " * (self.room - len(header)) + b"\n"
        self.file.seek(0)
        self.file.write(header[:8] + (self.room - 10).to_bytes(2, "little") + header[10:])
        self.file.close()


def _header(kind: np.dtype[Any], num_rows: int) -> bytes:
    out = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (num_rows,)}
    np.lib.format.write_array_header_1_0(out, about)
    return out.getvalue()
