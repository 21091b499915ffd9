"""A model's logits of whole windows, and its weights on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recdistill.data.batches import Batches
from recdistill.data.store import Rows
from recdistill.files import file_digest, manifest
from recdistill.metrics import plain_auc
from recdistill.problems import BadInput, problem

ROWS_PER_PASS = 8192
WEIGHTS = "weights.safetensors"


def predict(model: nn.Module, rows: Rows, device: torch.device) -> NDArray[np.float32]:
    """[N] float32 logits in the order of the store, dropout off; the model's mode is put back."""
    out = np.empty(len(rows), dtype=np.float32)
    mode = model.training
    model.eval()
    with torch.no_grad():  # not inference_mode, which fbgemm's CPU lookups do not know
        place = 0
        for batch in Batches(rows=rows, batch_size=ROWS_PER_PASS).epoch(0):
            logit = model(batch.ids.to(device), batch.dense.to(device)).logit
            out[place : place + len(batch)] = logit.float().cpu().numpy()
            place += len(batch)
    model.train(mode)
    return out


def auc_on(model: nn.Module, rows: Rows, device: torch.device) -> Callable[[], float]:
    """A function that takes the model's present AUC on a window."""
    return lambda: plain_auc(predict(model, rows, device), rows["label"])


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Whole tensors, no pickle."""
    safetensors.torch.save_file({name: value.contiguous() for name, value in weights.items()}, path)


def load_weights(folder: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    """Weights of a finished step folder, their sha256 compared with the folder's manifest first."""
    listed = manifest(folder)
    wanted = None if listed is None else listed["files"].get(name, {}).get("sha256")
    if wanted is None or file_digest(folder / name) != wanted:
        remedy = "remove the folder; the step is then run again"
        raise BadInput(
            problem(str(folder / name), wanted="the weights that were written", found="others", remedy=remedy)
        )
    return safetensors.torch.load_file(folder / name)
