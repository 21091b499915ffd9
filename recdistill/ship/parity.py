"""The same raw rows through torch and through the bundle: the proof that what ships is what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import nn

from recdistill.bundle import Bundle
from recdistill.config.run import Run
from recdistill.data.admit import dropped_rows
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import open_checked
from recdistill.data.requests import raw_requests
from recdistill.data.store import open_rows
from recdistill.problems import BadInput, problem
from recdistill.ship.golden import MAX_DIFFERENCE
from recdistill.ship.write_bundle import torch_logits
from recdistill.types import ABSENT, OOV, Layout

NUM_REPLAYED = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Raw rows of the test window, and what the encoder makes of them."""

    requests: pa.Table
    ids: NDArray[np.int64]
    dense: NDArray[np.float32]


def replayed_rows(run: Run, inputs: Mapping[str, Path], encoder: Encoder) -> Replayed:
    """Rows of the test window, rebuilt from the log alone. BadInput where they encode unlike the store's."""
    rows = open_rows(inputs["prepare"], "test", encoder.layout)
    index = np.sort(np.random.default_rng(run.seed).permutation(len(rows))[:NUM_REPLAYED])
    requests = raw_requests(run, open_checked(run), rows["row_id"][index], dropped_rows(inputs["prepare"]), encoder)
    _check_encoding(encoder, requests, rows.ids(index), rows.dense(index))
    ids, dense = encoder.request(requests)
    return Replayed(requests=requests, ids=ids.astype(np.int64), dense=dense)


def _check_encoding(encoder: Encoder, requests: pa.Table, ids: NDArray[np.int64], dense: NDArray[np.float32]) -> None:
    raw_ids, raw_dense = encoder.request(requests)
    of_ids, of_dense = encoder.comparable()
    wrong = (raw_ids != ids)[:, of_ids].any(axis=1)
    wrong |= ~np.isclose(raw_dense, dense, rtol=0, atol=MAX_DIFFERENCE)[:, of_dense].all(axis=1)
    if wrong.any():
        found = f"{int(wrong.sum())} that differ"
        remedy = "report it: training and serving see different features"
        raise BadInput(problem("export: raw rows", wanted="the ids that were trained on", found=found, remedy=remedy))


def logits_of(student: nn.Module, replayed: Replayed) -> NDArray[np.float32]:
    """[n] logits in torch."""
    return torch_logits(student, replayed.ids, replayed.dense)


def difference(student: nn.Module, bundle: Bundle, replayed: Replayed) -> float:
    """Largest |torch - bundle| over the raw rows, one by one and together, and over the ends of every table.

    BadInput where it is over the bound.
    """
    wanted, requests = logits_of(student, replayed), replayed.requests
    alone = np.array([bundle.score(requests.slice(row, 1))[0] for row in range(min(20, requests.num_rows))])
    ids, dense = edges(bundle.encoder.layout)
    gaps = [
        bundle.score(requests) - wanted,
        alone - wanted[: len(alone)],
        bundle.logits(ids, dense) - torch_logits(student, ids, dense),
    ]
    largest = float(np.abs(np.concatenate(gaps)).max())
    if not largest <= MAX_DIFFERENCE:
        remedy = "such a student is not shipped; report it with its config"
        wanted_here = f"scores within {MAX_DIFFERENCE:g} of torch"
        where = f"{bundle.folder.name}: raw rows"
        raise BadInput(problem(where, wanted=wanted_here, found=f"{largest:g}", remedy=remedy))
    return largest


def edges(layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows that no log may hold: everything absent, everything unknown, every table's last row; numbers at the ends."""
    last = np.array(layout.limits()) - 1
    ids = np.stack([np.full_like(last, ABSENT), np.minimum(OOV, last), last])
    dense = np.repeat(np.array([[0.0], [-3.0], [3.0]], dtype=np.float32), len(layout.dense), axis=1)
    return ids, dense
