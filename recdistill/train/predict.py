"""A model's logits of whole windows, and its weights on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from recdistill.data.batches import Batches
from recdistill.data.store import Rows
from recdistill.files import file_digest, manifest
from recdistill.metrics.ranking import plain_auc
from recdistill.problems import BadInput, problem
from recdistill.types import Scores

ROWS_PER_PASS = 8192


def weights_name(number: int) -> str:
    """The file of a member's weights."""
    return f"weights-{number}.safetensors"


WEIGHTS = weights_name(0)


def passes(model: nn.Module, rows: Rows, span: range, num_passes: int, device: torch.device) -> Iterator[Scores]:
    """Scores of the rows of a span, ROWS_PER_PASS at a time, on the CPU, dropout off; the model's mode is put back.

    num_passes: how often the model is asked, as often on every rank, because a sharded model answers all of them
    together; where the span has no more rows it is asked for nothing that counts.
    """
    mode = model.training
    model.eval()
    source = Batches(rows=rows, batch_size=ROWS_PER_PASS)
    with torch.no_grad():  # not inference_mode, which fbgemm's CPU lookups do not know
        for number in range(num_passes):
            here = span[number * ROWS_PER_PASS : (number + 1) * ROWS_PER_PASS]
            batch = source.batch(np.arange(here.start, here.stop) if here else np.zeros(1, dtype=np.int64))
            scores = model(batch.ids.to(device), batch.dense.to(device))
            if here:
                yield scores.to(torch.device("cpu"))
    model.train(mode)


def num_passes(num_rows: int) -> int:
    """How often a model is asked for so many rows."""
    return -(-num_rows // ROWS_PER_PASS)


def predict(model: nn.Module, rows: Rows, device: torch.device) -> NDArray[np.float32]:
    """[N] float32 logits in the order of the store, dropout off; the model's mode is put back.

    Ranks of a process group share the rows out, and each gets all logits.
    """
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    ends = [len(rows) * part // size for part in range(size + 1)]
    longest = max(end - begin for begin, end in pairwise(ends))
    out = np.zeros(len(rows), dtype=np.float32)
    place = ends[rank]
    for scores in passes(model, rows, range(place, ends[rank + 1]), num_passes(longest), device):
        out[place : place + len(scores.logit)] = scores.logit.float().numpy()
        place += len(scores.logit)
    return _together(out, device) if size > 1 else out


def _together(part: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    """The sum over ranks: of numbers of which each rank has its own, and zeros elsewhere."""
    whole = torch.from_numpy(part).to(device)
    dist.all_reduce(whole)
    return whole.cpu().numpy()


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
