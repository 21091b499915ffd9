"""What the plug-ins of a recipe ask to know before training: of the train window, of both models, of others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from recdistill.config.run import Run
from recdistill.config.student import TwoTower
from recdistill.data.items import item_counts, item_of
from recdistill.data.scores import StoredScores
from recdistill.data.store import Rows
from recdistill.distil.facts import Facts, Popularity, RowLogits, Widths
from recdistill.models.build import Ranker
from recdistill.models.student import StudentModel
from recdistill.problems import BadInput, problem
from recdistill.train.predict import load_weights, weights_name
from recdistill.train.students.teacher_pca import teacher_table
from recdistill.types import IdFeature


def facts(
    run: Run,
    inputs: Mapping[str, Path],
    needs: frozenset[str],
    rows: Rows,
    *,
    student: Ranker,
    teacher: Widths | None,
    num_members: int,
    others: Mapping[str, RowLogits],
) -> Facts:
    """Only what the needs name is worked out. teacher: None where nobody looks inside it."""
    looks = bool(needs & {"hidden", "blocks", "pooled"})
    counted = bool(needs & {"item_popularity", "item_vectors"})
    return Facts(
        base_rate=base_rate(rows),
        epochs=run.student.epochs,
        row_id=torch.from_numpy(np.sort(rows["row_id"])) if needs & {"progress", "rows"} else torch.zeros(0).long(),
        student=widths(run, student, needs) if looks else None,
        teacher=teacher,
        num_members=num_members,
        popularity=popularity(rows, item_of(run, rows.layout)) if counted else None,
        item_vectors=_item_vectors(run, inputs, rows) if "item_vectors" in needs else None,
        others=others,
    )


def base_rate(rows: Rows) -> float:
    """The logit of the share of positives, less the mean offset; one of 0 or 1 is moved off it by a row."""
    positives = float(np.sum(rows["label"], dtype=np.float64))
    share = min(max(positives, 1.0), max(len(rows) - 1.0, 1.0)) / max(len(rows), 2)
    return math.log(share / (1 - share)) - float(np.mean(rows["offset"], dtype=np.float64))


def popularity(rows: Rows, item: IdFeature) -> Popularity:
    """Rows of the window by item; the absent and the unknown item are counted too."""
    return Popularity(column=item.start, counts=torch.from_numpy(item_counts(rows, item).astype(np.float32)))


def widths(run: Run, student: Ranker, needs: frozenset[str]) -> Widths:
    """The inside of a student. BadInput for one that has no such inside."""
    if not isinstance(student, StudentModel):
        if needs & {"blocks", "pooled"}:
            remedy = "use interaction: mlp, or another recipe"
            where, wanted = "student.interaction", "a tower over all fields, which the recipe looks into"
            raise BadInput(problem(where, wanted=wanted, found="two_tower", remedy=remedy))
        assert isinstance(run.student.interaction, TwoTower)
        return Widths(fields=(), field=0, pooled=0, blocks=(), hidden=run.student.interaction.width)
    if student.pairs is not None and "pooled" in needs:
        where, wanted = "student.interaction", "a logit by the tower alone, which the recipe asks at other vectors"
        raise BadInput(problem(where, wanted=wanted, found="fm", remedy="use interaction: mlp, or another recipe"))
    blocks = tuple(layer.out_features for layer in student.tower.modules() if isinstance(layer, torch.nn.Linear))
    names = [feature.name for feature in student.read] + (["history"] if student.history is not None else [])
    own = {student.tables.width(feature) for feature in student.read}
    first = next((m for m in student.tower.modules() if isinstance(m, torch.nn.Linear)), student.head)
    return Widths(
        fields=tuple(names) if len(own) == 1 else (),
        field=own.pop() if len(own) == 1 else 0,
        pooled=int(first.in_features),
        blocks=blocks,
        hidden=int(student.head.in_features),
    )


def stored_widths(scores: StoredScores | None) -> Widths | None:
    """Of a teacher of which stored hidden vectors are all that is seen; None where there are none."""
    if scores is None or scores.hidden is None:
        return None
    return Widths(fields=(), field=0, pooled=0, blocks=(), hidden=scores.hidden.width)


def _item_vectors(run: Run, inputs: Mapping[str, Path], rows: Rows) -> torch.Tensor:
    return teacher_table(load_weights(inputs["train_teacher"], weights_name(0)), item_of(run, rows.layout).table)
