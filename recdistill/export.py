"""The export step: every student and control as a bundle, refused unless raw rows score as in training."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recdistill.bundle import FORMAT, GRAPH, bundle_digest, open_bundle
from recdistill.config import Run
from recdistill.data.admit import dropped_rows
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import open_checked
from recdistill.data.requests import raw_requests
from recdistill.data.store import open_rows
from recdistill.files import read_json, whole_folder, write_json
from recdistill.models.build import Ranker
from recdistill.problems import BadInput, problem
from recdistill.train.device import pin_threads
from recdistill.train.progress import logger
from recdistill.train.student import ARMS, Arm, open_student
from recdistill.types import Layout

MAX_DIFFERENCE = 1e-4
NUM_REPLAYED = 2000


class _Logit(nn.Module):
    def __init__(self, student: Ranker) -> None:
        super().__init__()
        self.student = student

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        logit: Tensor = self.student(ids, dense).logit
        return logit


def export(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write ARM-SEED/ bundles and export.json with the largest difference between torch and bundle on raw rows."""
    pin_threads(run.threads)
    encoder = Encoder.open(inputs["prepare"] / "encoder")
    rows = open_rows(inputs["prepare"], "test", encoder.layout)
    index = np.sort(np.random.default_rng(run.seed).permutation(len(rows))[:NUM_REPLAYED])
    requests = raw_requests(run, open_checked(run), rows["row_id"][index], dropped_rows(inputs["prepare"]), encoder)
    ids, dense = rows.ids(index), rows.dense(index)
    _check_encoding(encoder, requests, ids, dense)
    differences, digests = {}, {}
    for arm in ARMS:
        for number in range(run.student.seeds):
            student = open_student(run, encoder.layout, inputs["distil"], arm, number)
            name = bundle_name(arm, number)
            write_bundle(student, inputs["prepare"] / "encoder", encoder, requests.schema, out / name)
            differences[name] = _difference(student, out / name, requests, *encoder.request(requests))
            digests[name] = bundle_digest(out / name)
    students = read_json(inputs["distil"] / "students.json")
    shipped = bundle_name("student", students["shipped"])
    size = sum(path.stat().st_size for path in (out / shipped).rglob("*") if path.is_file())
    largest = max(differences.values())
    logger.info(
        "export: %d bundles, %s ships (%s bytes); largest difference from torch on %d raw rows: %.1e",
        len(differences),
        shipped,
        f"{size:,}",
        len(index),
        largest,
    )
    about = {
        "shipped": shipped,
        "bundle_sha256": digests[shipped],
        "bytes": size,
        "replayed_rows": len(index),
    }
    write_json(
        out / "export.json",
        {**about, "max_difference": largest, "differences": differences, "digests": digests},
    )


def bundle_name(arm: Arm, number: int) -> str:
    return f"{arm}-{number}"


def write_bundle(
    student: Ranker, encoder_folder: Path, encoder: Encoder, request: pa.Schema, final: Path
) -> None:
    """A student and its encoder as one folder. request: the schema of a raw request, kept in the manifest."""
    columns = {name: str(request.field(name).type) for name in encoder.needed}
    about = {"format": FORMAT, "encoder": encoder.digest, "request": columns, "output": "logit"}
    with whole_folder(final, about) as folder:
        shutil.copytree(encoder_folder, folder / "encoder")
        to_onnx(student, encoder.layout, folder / GRAPH)


def to_onnx(student: Ranker, layout: Layout, path: Path) -> None:
    """One ONNX file: ids [rows, K] int64 and dense [rows, D] float32 -> logit [rows]; any number of rows."""
    example = (
        torch.zeros((3, layout.num_id_columns), dtype=torch.int64),
        torch.zeros((3, len(layout.dense))),
    )
    rows = torch.export.Dim("rows", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logit(student).eval(),
            example,
            path,
            input_names=["ids", "dense"],
            output_names=["logit"],
            dynamic_shapes=({0: rows}, {0: rows}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _check_encoding(encoder: Encoder, requests: pa.Table, ids: NDArray[np.int64], dense: NDArray[np.float32]) -> None:
    raw_ids, raw_dense = encoder.request(requests)
    of_ids, of_dense = encoder.comparable()
    wrong = (raw_ids != ids)[:, of_ids].any(axis=1)
    wrong |= ~np.isclose(raw_dense, dense, rtol=0, atol=MAX_DIFFERENCE)[:, of_dense].all(axis=1)
    if wrong.any():
        found = f"{int(wrong.sum())} that differ"
        remedy = "report it: training and serving see different features"
        raise BadInput(problem("export: raw rows", wanted="the ids that were trained on", found=found, remedy=remedy))


def _difference(
    student: Ranker,
    folder: Path,
    requests: pa.Table,
    ids: NDArray[np.signedinteger],
    dense: NDArray[np.float32],
) -> float:
    """Largest |torch - bundle| over the rows, one by one and together. BadInput where it is over the bound."""
    with torch.inference_mode():
        wanted = student(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(dense)).logit.numpy()
    bundle = open_bundle(folder)
    alone = [bundle.score(requests.slice(row, 1))[0] for row in range(min(20, requests.num_rows))]
    gaps = np.concatenate([np.abs(bundle.score(requests) - wanted), np.abs(np.array(alone) - wanted[: len(alone)])])
    largest = float(gaps.max())
    if not largest <= MAX_DIFFERENCE:
        remedy = "such a student is not shipped; report it with its config"
        raise BadInput(
            problem(
                f"{folder.name}: raw rows",
                wanted=f"scores within {MAX_DIFFERENCE:g} of torch",
                found=f"{largest:g}",
                remedy=remedy,
            )
        )
    return largest
