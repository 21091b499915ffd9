"""One training on pairs, of a teacher, a student or a control: labelled rows, users' lists, and the one loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recdistill.config.pairs import Lists, PairModel
from recdistill.config.training import Training
from recdistill.data.batches import Batches
from recdistill.data.store import Rows
from recdistill.distil.facts import Facts, Popularity, Widths
from recdistill.distil.lesson import Lesson
from recdistill.distil.recipe import Recipe
from recdistill.metrics.full_ranking import Judged, full_ranking
from recdistill.pairs.labels import label_cost
from recdistill.pairs.lists import ListMaker, StoredTeacher, top_of
from recdistill.pairs.models import MatrixFactorisation, fresh
from recdistill.pairs.store import Acts, Ints
from recdistill.pairs.terms import teacher_terms
from recdistill.train.engine.course import Check, Trained, Weights
from recdistill.train.engine.loop import train
from recdistill.types import Batch

_OWN = 1_000_003  # added to the seed of what a recipe owns, so that the model's weights do not hang on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pupil:
    """What is trained. settings: with width beside what all trainings have. spec: what the model is made of.

    recipe: of a teacher or a control, one without a teacher. metric: what the validation window is judged by.
    stays: whether the first vectors are the last, so that nothing is trained.
    """

    title: str
    settings: Training
    width: int
    spec: PairModel
    recipe: Recipe
    seed: int
    metric: str
    stays: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What it is trained on. rows: train pairs, and acts: the same by user. valid: how it is judged while training.

    teacher, lists: None where there is no teacher. first: the user and item vectors to begin with; None draws them.
    """

    rows: Rows
    acts: Acts
    valid: Judged
    teacher: StoredTeacher | None = None
    lists: Lists | None = None
    first: tuple[Tensor, Tensor] | None = None


def fit(pupil: Pupil, given: Given) -> Trained:
    """Train; the weights are two tables, user and item, whose products are the logits, whatever the model.

    The validation AUC of the loop's log and curve is here pupil.metric over the validation window's users.
    """
    torch.manual_seed(pupil.seed)
    model = fresh(pupil.spec, pupil.width, given.acts)
    if given.first is not None:
        model.begin(*given.first)
    if pupil.stays:
        return _untrained(judge(model, given.valid, pupil.metric), vectors_of(model))
    losses, own = _losses(pupil, given, model)
    optimiser = torch.optim.Adam([*model.parameters(), *own], pupil.settings.learning_rate, fused=True)
    return train(
        pupil.title,
        pupil.settings,
        _batches(pupil, given),
        losses=losses,
        optimisers=[optimiser],
        valid_auc=lambda: judge(model, given.valid, pupil.metric),
        weights=lambda: vectors_of(model),
        measure=pupil.metric,
    )


def _untrained(valid_auc: float, weights: Weights) -> Trained:
    check = Check(epoch=0.0, step=0, valid_auc=valid_auc, losses={}, rows_per_s=0.0, seconds=0.0)
    return Trained(weights=weights, curve=(check,))


def _batches(pupil: Pupil, given: Given) -> Batches:
    """Pairs in any order; users whole where their scores of all items are taken at once."""
    shuffle: Literal["rows", "requests"] = "requests" if pupil.spec.negatives == "all" else "rows"
    return Batches(rows=given.rows, batch_size=pupil.settings.batch_size, shuffle=shuffle, seed=pupil.seed)


@torch.no_grad()
def vectors_of(model: MatrixFactorisation) -> dict[str, Tensor]:
    """user: [users, E], item: [items, E]: copies of what the logits are products of."""
    return {name: value.clone() for name, value in zip(("user", "item"), model.vectors(), strict=True)}


@torch.no_grad()
def judge(model: MatrixFactorisation, judged: Judged, metric: str) -> float:
    """The mean over users of one metric of full ranking."""
    at = int(metric.rpartition("_")[2]) if metric != "mrr" else 10
    return float(np.nanmean(full_ranking(*model.vectors(), judged, [at])[metric]))


def _losses(
    pupil: Pupil, given: Given, model: MatrixFactorisation
) -> tuple[Callable[[Batch, float], Mapping[str, Tensor]], list[torch.nn.Parameter]]:
    """The losses of a step by its pairs and how far the training is; and the weights that the recipe owns."""
    taught = teacher_terms(pupil.recipe) if given.teacher is not None else None
    facts = known(pupil, given)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(pupil.seed + _OWN)
        cost = label_cost(pupil.recipe, pupil.spec, facts, given.acts, model, pupil.seed)
        lesson = None if taught is None else Lesson(taught, facts, student=model)
    maker = None
    if lesson is not None:
        assert given.teacher is not None
        assert given.lists is not None
        model.gives_hidden = "hidden" in pupil.recipe.needs
        maker = ListMaker(given.lists, given.acts, given.teacher, pupil.seed, hidden=model.gives_hidden)
    epoch = -1

    def losses(batch: Batch, progress: float) -> Mapping[str, Tensor]:
        nonlocal epoch
        user, item = batch.ids.numpy().T
        model.begin_step()
        labels, length = cost(user, item, progress)
        named = dict(labels)
        if lesson is not None and maker is not None:
            now = int(progress * pupil.settings.epochs)
            if maker.settings.student_top and now > epoch:
                epoch, maker.student_top = now, student_top(model, given.acts, maker.settings.student_top)
            _add(named, lesson.losses(maker.lists(user), progress))
        if pupil.spec.decay:
            named["loss"] = named["loss"] + pupil.spec.decay * length
        return named

    return losses, [] if lesson is None else list(lesson.parameters())


def _add(named: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    named["loss"] = named["loss"] + more["loss"]
    named.update({name: value for name, value in more.items() if name != "loss"})


@torch.no_grad()
def student_top(model: MatrixFactorisation, acts: Acts, k: int) -> Ints:
    """[users, k] the items that the model puts first now, train pairs left out."""
    return top_of(*model.vectors(), acts, k)[0]


def known(pupil: Pupil, given: Given) -> Facts:
    """What plug-ins that are classes may know."""
    acts, teacher = given.acts, given.teacher
    return Facts(
        epochs=pupil.settings.epochs,
        row_id=torch.from_numpy(acts.keys),
        student=_widths(pupil.width),
        teacher=None if teacher is None else _widths(int(teacher.item.shape[1])),
        popularity=Popularity(column=1, counts=torch.from_numpy(acts.popularity.astype(np.float32))),
        item_vectors=None if teacher is None else teacher.item,
    )


def _widths(width: int) -> Widths:
    return Widths(fields=("user", "item"), field=width, pooled=2 * width, blocks=(), hidden=2 * width)
