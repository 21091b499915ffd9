"""The bundle that ships: student.onnx, encoder, golden requests, card, manifest of sha256; opened, checked, scored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.data.encoder import Encoder
from recdistill.files import damage, digest, manifest, read_json
from recdistill.problems import BadInput, problem
from recdistill.ship.golden import GOLDEN, compare_golden, read_golden
from recdistill.ship.graph_check import check_graph
from recdistill.ship.request_schema import REQUEST

GRAPH = "student.onnx"
CARD = "card.md"
USER_GRAPH, ITEM_GRAPH, ITEM_VECTORS = "user.onnx", "item.onnx", "item_vectors.arrow"  # of a two-tower student
OF_USERS, OF_ITEMS = "user_vectors.parquet", "item_vectors.parquet"  # of a student of pairs
FORMAT = 1
_KNOWN = {
    GRAPH,
    CARD,
    REQUEST,
    GOLDEN,
    USER_GRAPH,
    ITEM_GRAPH,
    ITEM_VECTORS,
    OF_USERS,
    OF_ITEMS,
    "encoder/encoder.json",
}
_OF_ENCODER = re.compile(r"encoder/[a-z]+-[0-9]+\.arrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An opened bundle. digest: sha256 over the sha256 of its files, its identity in the registry."""

    folder: Path
    encoder: Encoder
    session: onnxruntime.InferenceSession
    digest: str

    def score(self, requests: pa.Table) -> NDArray[np.float32]:
        """[n] logits of raw rows; histories as list columns `history.<column>`, oldest event first."""
        return self.logits(*self.encoder.request(requests))

    def check_golden(self) -> float:
        """The largest difference between the golden requests' scores here and as exported. BadInput over the bound."""
        requests, wanted = read_golden(self.folder)
        return compare_golden(self.score(requests), wanted, str(self.folder))

    def logits(self, ids: NDArray[np.integer], dense: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n] logits of encoded rows. BadInput for an id outside its table: the runtime would wrap a negative one."""
        if len(ids):
            limits = np.asarray(self.encoder.layout.limits())
            bad = (ids.min(axis=0) < 0) | (ids.max(axis=0) >= limits)
            if bad.any():
                column = int(np.flatnonzero(bad)[0])
                found = f"{ids[:, column].min()} to {ids[:, column].max()}"
                where = f"{self.folder}: id column {column}"
                wanted = f"ids from 0 to {limits[column] - 1}"
                raise BadInput(
                    problem(where, wanted=wanted, found=found, remedy="encode with the bundle's own encoder")
                )
        given = {"ids": ids.astype(np.int64, copy=False), "dense": dense}
        names = {node.name for node in self.session.get_inputs()}
        (logit,) = self.session.run(["logit"], {name: value for name, value in given.items() if name in names})
        found_N: NDArray[np.float32] = logit
        return found_N


def open_bundle(folder: Path, threads: int = 1) -> Bundle:
    """Open a bundle whose every byte is as its manifest says. BadInput for a damaged, foreign or unreadable one."""
    lines = damage(folder)
    if lines:
        raise BadInput(
            [problem(line, wanted="the bundle as exported", found="another", remedy="fetch it again") for line in lines]
        )
    about = manifest(folder)
    assert about is not None
    _refuse_unknown(folder, about["files"])
    if about.get("format") != FORMAT:
        found = f"format {about.get('format')}"
        remedy = "export it with this version of recdistill"
        raise BadInput(problem(str(folder), wanted=f"a bundle of format {FORMAT}", found=found, remedy=remedy))
    encoder = Encoder.open(folder / "encoder")
    if encoder.digest != about["encoder"]:
        remedy = "ship the encoder that the student was trained with"
        raise BadInput(
            problem(f"{folder}: encoder", wanted=about["encoder"][:12], found=encoder.digest[:12], remedy=remedy)
        )
    return Bundle(
        folder=folder,
        encoder=encoder,
        session=open_session((folder / GRAPH).read_bytes(), str(folder / GRAPH), threads),
        digest=bundle_digest(folder),
    )


def shipped_bundle(exported: Path) -> Path:
    """The bundle of an export folder that ships."""
    name: str = read_json(exported / "export.json")["shipped"]
    return exported / name


def bundle_digest(folder: Path) -> str:
    """Of the files that a bundle's manifest lists; the same for the same weights and encoder."""
    about = manifest(folder)
    assert about is not None, f"{folder} is no bundle"
    return digest(about["files"])


def _refuse_unknown(folder: Path, names: Iterable[str]) -> None:
    """BadInput for each file that no bundle has, whatever the manifest says: a planted pickle, say."""
    remedy = "do not open it; export the bundle again"
    lines = [
        problem(str(folder / name), wanted="only files of a bundle", found="another", remedy=remedy)
        for name in sorted(names)
        if name not in _KNOWN and not _OF_ENCODER.fullmatch(name)
    ]
    if lines:
        raise BadInput(lines)


def open_session(graph: bytes, where: str, threads: int) -> onnxruntime.InferenceSession:
    """A graph ready to run on the CPU. BadInput for one that may not be opened; where: its name in the problem."""
    check_graph(graph, where)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
