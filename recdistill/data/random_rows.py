"""Rows of a layout that hold nothing but chance, where only their shape matters."""

from __future__ import annotations

import numpy as np

from recdistill.data.store import Rows, record_type
from recdistill.types import FIRST_KNOWN, Layout


def random_rows(layout: Layout, num_rows: int, seed: int) -> Rows:
    """Known ids everywhere, each as likely as another; histories as long as they may be; labels of both kinds.

    A table without any known value gives its unknown one.
    """
    generator = np.random.default_rng(seed)
    pooled, histories = layout.pooled, layout.histories
    limits = [feature.num_rows for feature in pooled for _ in range(feature.width)]
    kind = record_type(
        len(limits), len(layout.dense), max(limits, default=0), past=bool(histories), num_tasks=len(layout.tasks)
    )
    records = np.zeros(num_rows, dtype=kind)
    records["row_id"] = records["request"] = records["user"] = np.arange(num_rows)
    records["label"] = np.arange(num_rows) % 2
    if layout.tasks:
        records["tasks"] = generator.integers(0, 2, (num_rows, len(layout.tasks)))
    if limits:
        records["ids"] = np.stack([_ids(generator, limit, num_rows) for limit in limits], axis=1)
    if layout.dense:
        records["dense"] = generator.normal(size=(num_rows, len(layout.dense)))
    events = {feature.name: _ids(generator, feature.num_rows, num_rows) for feature in histories}
    if histories:
        end = 1 + np.arange(num_rows)
        records["past"] = np.stack([np.maximum(0, end - max(f.width for f in histories)), end], axis=1)
    return Rows(layout=layout, records=records, events=events)


def _ids(generator: np.random.Generator, limit: int, num: int) -> np.ndarray:
    return generator.integers(min(FIRST_KNOWN, limit - 1), limit, num, dtype=np.int32)
