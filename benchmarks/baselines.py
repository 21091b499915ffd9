"""What a teacher has to beat on a log of clicks with drawn negatives: popularity, item-kNN and a two-tower model.

Each takes the prepared rows of a run, learns from the train window alone and returns logits of the test window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.data.batches import Batches
from recdistill.data.items import item_ids, positive_counts
from recdistill.data.store import Rows
from recdistill.types import FIRST_KNOWN, Batch, IdFeature, Layout

Floats = NDArray[np.float32]
_AT_ONCE = 65_536


def popularity(train: Rows, test: Rows) -> Floats:
    """log(1 + clicks of the item in the train window)."""
    item = _item(train.layout)
    return np.log1p(positive_counts(train, item)[item_ids(test, item)]).astype(np.float32)


def popularity_now(test: Rows, name: str) -> Floats:
    """The dense column `name`, clicks of the item before the row's own time: popularity that is never stale."""
    place = test.layout.dense.index(name)
    return np.concatenate([test.dense(index)[:, place] for index, _ in _pieces(test)])


def item_knn(train: Rows, test: Rows) -> Floats:
    """Sum over the user's past items of their cosine with the candidate, counted over pairs of the train window.

    A pair is a clicked item with one of the items that its user clicked before, as the history holds them. Source:
    Sarwar et al., Item-based Collaborative Filtering (WWW 2001), cosine; without a limit on the neighbours.
    """
    item, past = _item(train.layout), train.layout.histories[0]
    together = scipy.sparse.csr_matrix((item.num_rows, item.num_rows))
    for index, ids in _pieces(train):
        ids = ids[train["label"][index] > 0]
        one = np.repeat(ids[:, item.start], past.width)
        other = ids[:, past.columns].reshape(-1)
        known = (one >= FIRST_KNOWN) & (other >= FIRST_KNOWN)
        pairs = (np.ones(int(known.sum())), (one[known], other[known]))
        together = together + scipy.sparse.coo_matrix(pairs, shape=together.shape).tocsr()
    together = together + together.T
    scale = scipy.sparse.diags(1 / np.sqrt(np.maximum(np.asarray(together.sum(axis=1)).reshape(-1), 1)))
    cosine = (scale @ together @ scale).tocsr()
    found = []
    for _, ids in _pieces(test):
        one = np.repeat(ids[:, item.start], past.width)
        sums = np.asarray(cosine[one, ids[:, past.columns].reshape(-1)]).reshape(len(ids), past.width)
        found.append(sums.sum(axis=1))
    return np.concatenate(found).astype(np.float32)


class TwoTower(nn.Module):
    """logit = user . item + bias; the user is the mean of past items and the context, the item its id and numbers.

    Source: Covington, Adams & Sargin, Deep Neural Networks for YouTube Recommendations (RecSys 2016, section 3.2), here
    with the log's negatives and a logistic loss instead of a sampled softmax.
    """

    def __init__(self, layout: Layout, of_item: list[str], width: int, hidden: int) -> None:
        super().__init__()
        self.item, self.past = _item(layout), layout.histories[0]
        self.context = [f for f in layout.pooled if f is not self.item]
        self.of_item = [layout.dense.index(name) for name in of_item]
        self.of_user = [place for place in range(len(layout.dense)) if place not in self.of_item]
        names = dict.fromkeys(f.table for f in (self.item, *self.context))
        self.tables = nn.ModuleDict({name: nn.Embedding(layout.tables[name], width, sparse=True) for name in names})
        for table in self.tables.values():
            nn.init.normal_(table.weight, std=0.05)  # type: ignore[arg-type]
        size = width * (1 + len(self.context)) + len(self.of_user)
        self.user = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.side = nn.Sequential(nn.Linear(width + len(self.of_item), hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.bias = nn.Linear(width + len(self.of_item), 1)

    def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
        """[N] logits."""
        events = ids[:, self.past.columns]
        present = (events > 0).float().unsqueeze(2)
        past = (self.tables[self.past.table](events) * present).sum(1) / present.sum(1).clamp_min(1)
        context = [self.tables[f.table](ids[:, f.start]) for f in self.context]
        item = torch.cat([self.tables[self.item.table](ids[:, self.item.start]), dense[:, self.of_item]], 1)
        user = torch.cat([past, *context, dense[:, self.of_user]], 1)
        return (self.user(user) * self.side(item)).sum(1) + self.bias(item).squeeze(1)


def two_tower(train: Rows, test: Rows, of_item: list[str], *, seed: int, epochs: int = 2) -> Floats:
    """Test logits of a two-tower model of width 64; of_item: the dense columns that belong to the item."""
    torch.manual_seed(seed)
    model = TwoTower(train.layout, of_item, width=64, hidden=128)
    tables = list(model.tables.parameters())
    known = {id(parameter) for parameter in tables}
    steps = [
        torch.optim.Adam([p for p in model.parameters() if id(p) not in known], 1e-3),
        torch.optim.SparseAdam(tables, 1e-3),
    ]
    batches = Batches(rows=train, batch_size=4096, shuffle="rows", seed=seed)
    for epoch in range(epochs):
        for batch in batches.epoch(epoch):
            logit = model(batch.ids, batch.dense) + batch.offset
            for step in steps:
                step.zero_grad()
            binary_cross_entropy_with_logits(logit, batch.label).backward()
            for step in steps:
                step.step()
    return _scored(model, test)


def _scored(model: nn.Module, rows: Rows) -> Floats:
    def logit(batch: Batch) -> Floats:
        found: Floats = model(batch.ids, batch.dense).numpy()
        return found

    with torch.inference_mode():
        return np.concatenate([logit(batch) for batch in Batches(rows=rows, batch_size=_AT_ONCE).epoch(0)])


def _pieces(rows: Rows) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(places, ids) of a window, a part at a time."""
    for start in range(0, len(rows), _AT_ONCE):
        index = np.arange(start, min(start + _AT_ONCE, len(rows)))
        yield index, rows.ids(index)


def _item(layout: Layout) -> IdFeature:
    assert layout.target is not None, "wanted a log with histories"
    return layout.target
