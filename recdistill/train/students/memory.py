"""What a student remembers of its teacher: for every item, the mean of the teacher's hidden vectors on its train rows.

Source: LoopFM (2026, arXiv 2605.29280): the teacher's past hidden vectors of a user are an input sequence of the
student, so that no teacher runs when serving. Differs: an event's vector is the mean over all train rows of its item
instead of that of the very event, so that it is one table and fits any user; the principal components instead of an
autoencoder; float32 instead of int4.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recdistill.data.scores import Hidden, StoredScores
from recdistill.data.store import Rows
from recdistill.models.build import Ranker
from recdistill.models.remembered import Remembered
from recdistill.problems import BadInput, problem
from recdistill.train.students.teacher_pca import project

_CHUNK = 65_536


def remember(student: Ranker, rows: Rows, scores: StoredScores | None) -> None:
    """Fill a fresh student's memory, of unit mean square. BadInput where no hidden vectors were stored."""
    history = getattr(student, "history", None)
    assert isinstance(history, Remembered)
    if scores is None or scores.hidden is None:
        wanted, remedy = "stored hidden vectors of the teacher, to remember", "set score.hidden to float16 or int8"
        raise BadInput(problem("score.hidden", wanted=wanted, found="none", remedy=remedy))
    num_items, width = history.memory.shape
    mean, seen = item_means(rows, scores.hidden, _candidate(rows), num_items)
    kept = torch.zeros(num_items, width)
    kept[seen] = project(mean[seen], width)
    history.memory.copy_(kept / kept[seen].square().mean().sqrt().clamp_min(1e-12))


def item_means(rows: Rows, hidden: Hidden, column: int, num_items: int) -> tuple[Tensor, Tensor]:
    """([items, H] mean hidden vector of each item's rows, [items] bool whether it has one)."""
    total, count = np.zeros((num_items, hidden.width)), np.zeros(num_items)
    for start in range(0, len(rows), _CHUNK):
        index = np.arange(start, min(start + _CHUNK, len(rows)))
        item = rows.ids(index)[:, column]
        np.add.at(total, item, hidden.at(index))
        count += np.bincount(item, minlength=num_items)
    mean = torch.from_numpy((total / np.maximum(count, 1)[:, None]).astype(np.float32))
    return mean, torch.from_numpy(count > 0)


def _candidate(rows: Rows) -> int:
    target = rows.layout.target
    assert target is not None
    return target.start
