"""Writes a bundle: graph, encoder, request schema, golden requests, card, and a two-tower student's vectors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from recdistill.bundle import CARD, FORMAT, GRAPH
from recdistill.data.encoder import Encoder
from recdistill.data.store import Rows
from recdistill.files import whole_folder, write_json
from recdistill.models.build import Ranker
from recdistill.models.two_tower import TwoTowerModel
from recdistill.ship.golden import write_golden
from recdistill.ship.onnx_graph import to_onnx
from recdistill.ship.request_schema import REQUEST, request_schema
from recdistill.ship.vectors import write_vectors
from recdistill.train.students.student import Arm


def bundle_name(arm: Arm, number: int) -> str:
    return f"{arm}-{number}"


def bundle_bytes(folder: Path) -> dict[str, int]:
    """bytes of all files, of the graph and of the encoder alone."""
    size = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    encoder = sum(value for path, value in size.items() if path.parent.name == "encoder")
    return {"bytes": sum(size.values()), "graph_bytes": size[folder / GRAPH], "encoder_bytes": encoder}


def write_bundle(
    student: Ranker,
    encoder_folder: Path,
    encoder: Encoder,
    request: pa.Schema,
    final: Path,
    *,
    golden: pa.Table | None = None,
    text: str | None = None,
    train: Rows | None = None,
) -> None:
    """A student and its encoder as one folder. request: the schema of a raw request, kept in the manifest.

    golden: raw rows to keep with their scores. text: the card. train: the train window, for the items of two towers.
    """
    columns = {name: str(request.field(name).type) for name in encoder.needed}
    about = {"format": FORMAT, "encoder": encoder.digest, "request": columns, "output": "logit"}
    with whole_folder(final, about) as folder:
        shutil.copytree(encoder_folder, folder / "encoder")
        to_onnx(student, encoder.layout, folder / GRAPH)
        write_json(folder / REQUEST, request_schema(pa.schema([request.field(name) for name in encoder.needed])))
        if golden is not None:
            write_golden(golden, torch_logits(student, *encoder.request(golden)), folder)
        if text is not None:
            (folder / CARD).write_text(text)
        if isinstance(student, TwoTowerModel) and train is not None:
            write_vectors(student, encoder, train, folder)


def torch_logits(student: nn.Module, ids: NDArray[np.integer[Any]], dense: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n] logits of encoded rows."""
    with torch.inference_mode():
        logit = student(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(dense)).logit
    found: NDArray[np.float32] = logit.numpy()
    return found
