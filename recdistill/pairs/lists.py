"""The score store of pairs: the teacher's vectors and each user's top list; and what a step makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recdistill.config.pairs import Lists
from recdistill.files import read_json
from recdistill.metrics.full_ranking import top_items
from recdistill.metrics.rows import Floats
from recdistill.pairs.draws import pair_batch, unseen_items
from recdistill.pairs.store import Acts, Ints
from recdistill.problems import BadInput, problem
from recdistill.train.predict import load_weights
from recdistill.types import Batch, Scores

LISTS = "lists.arrow"
VECTORS = "vectors.safetensors"
_HELD = 1 << 26  # scores of the teacher that are kept in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTeacher:
    """user: [users, E], item: [items, E] float32, whose products are its logits.

    top: [users, K] items by falling logit, train positives left out; 0 where there are no more.
    """

    user: Tensor
    item: Tensor
    top: Ints

    def logits(self, ids: Tensor) -> Tensor:
        """[N] of pairs [N, 2]."""
        return (self.user[ids[:, 0]] * self.item[ids[:, 1]]).sum(dim=1)


def top_of(user: Tensor, item: Tensor, acts: Acts, k: int) -> tuple[Ints, Floats]:
    """([users, k] items, [users, k] logits) of every user's list without its pairs; 0 and minus infinity at its end."""
    k = min(k, len(item))
    everyone = np.arange(acts.num_users)
    unknown = np.tile(np.arange(2), acts.num_users)
    seen = (np.r_[acts.user, np.repeat(everyone, 2)], np.r_[acts.item, unknown])
    place, logit = top_items(user, item, everyone, seen, k)
    place[~np.isfinite(logit)] = 0
    return place, logit


def write_lists(folder: Path, place: Ints, logit: Floats, about: Mapping[str, str]) -> None:
    """lists.arrow: user, item and logit as lists of one length, whose teacher and data `about` names."""
    users, k = place.shape
    item = pa.FixedSizeListArray.from_arrays(pa.array(place.reshape(-1).astype(np.int32)), k)
    logits = pa.FixedSizeListArray.from_arrays(pa.array(logit.reshape(-1).astype(np.float32)), k)
    table = pa.table({"user": np.arange(users), "item": item, "logit": logits}).replace_schema_metadata(dict(about))
    with pa.ipc.new_file(folder / LISTS, table.schema) as writer:
        writer.write_table(table)


def open_teacher(folder: Path, prepared: Path) -> StoredTeacher:
    """What the score step stored. BadInput for lists of other data."""
    with pa.ipc.open_file(pa.memory_map(str(folder / LISTS))) as reader:
        table = reader.read_all()
    data, about = read_json(prepared / "data.json"), table.schema.metadata
    for key in ("fingerprint", "encoder"):
        found = about.get(key.encode(), b"").decode()
        if found != data[key]:
            where = f"{folder / LISTS}: {key}"
            raise BadInput(problem(where, wanted=data[key][:12], found=found[:12], remedy="score again"))
    items = table.column("item").combine_chunks()
    top = items.flatten().to_numpy().reshape(len(items), -1).astype(np.int64)
    weights = load_weights(folder, VECTORS)
    return StoredTeacher(user=weights["user"], item=weights["item"], top=top)


class ListMaker:
    """Makes the lists of a step's users. acts: train pairs. hidden: whether the teacher's vectors go along."""

    def __init__(self, settings: Lists, acts: Acts, teacher: StoredTeacher, seed: int, *, hidden: bool) -> None:
        self.settings, self.acts, self.teacher, self.hidden = settings, acts, teacher, hidden
        self.generator = np.random.default_rng([seed, 13])
        self.student_top = np.zeros((acts.num_users, 0), dtype=np.int64)
        self._matrix = teacher.user @ teacher.item.T if acts.num_users * acts.num_items <= _HELD else None

    def lists(self, users: Ints) -> Batch:
        """Rows of the first settings.users different users among these, with their teacher's scores."""
        _, first = np.unique(users, return_index=True)
        users = users[np.sort(first)[: self.settings.users]]
        settings, parts = self.settings, []
        parts.append((users, self._of_teacher(users), 0.0))
        parts.append((users, self.student_top[users, : settings.student_top], 0.0))
        if settings.random:
            parts.append((users, unseen_items(self.acts, users, settings.random, self.generator), 0.0))
        if settings.positives:
            drawn = self.generator.random((len(users), settings.positives))
            place = self.acts.starts[users][:, None] + (drawn * self.acts.sizes[users][:, None]).astype(np.int64)
            parts.append((users, self.acts.item[place], 1.0))
        keys = np.concatenate([(user[:, None] * self.acts.num_items + item).reshape(-1) for user, item, _ in parts])
        labels = np.concatenate([np.full(item.size, label, dtype=np.float32) for _, item, label in parts])
        known, first = np.unique(keys[::-1], return_index=True)  # the last part, of positives, wins
        user, item = known // self.acts.num_items, known % self.acts.num_items
        kept = item > 0
        label = labels[::-1][first][kept]
        batch = pair_batch(self.acts, user[kept], item[kept], label, user[kept])
        return replace(batch, teacher=self._scores(batch.ids))

    def _of_teacher(self, users: Ints) -> Ints:
        top, number = self.teacher.top[users], min(self.settings.teacher_top, self.teacher.top.shape[1])
        if self.settings.sampled is None:
            return top[:, :number]
        noise = self.generator.gumbel(size=top.shape) - np.arange(top.shape[1]) * self.settings.sampled
        return np.take_along_axis(top, np.argpartition(-noise, number - 1, axis=1)[:, :number], axis=1)

    def _scores(self, ids: Tensor) -> Scores:
        logit = self.teacher.logits(ids) if self._matrix is None else self._matrix[ids[:, 0], ids[:, 1]]
        if not self.hidden:
            return Scores(logit=logit)
        return Scores(
            logit=logit, hidden=torch.cat([self.teacher.user[ids[:, 0]], self.teacher.item[ids[:, 1]]], dim=1)
        )
