"""What tests of recipes share: students whose logits are known, three rows, a recipe in short, one step of it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from recdistill.catalogue import entries
from recdistill.config.recipe import RecipeSection
from recdistill.distil.facts import Facts, Widths
from recdistill.distil.lesson import Lesson
from recdistill.distil.recipe import Recipe, Term
from recdistill.plugins import choose
from recdistill.types import Batch, Scores

ENTRIES = entries(Path(__file__).resolve().parent.parent / "configs/recipes")


class Free(nn.Module):
    """A student whose logits are its parameters, a row each."""

    def __init__(self, logit):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, ids, dense):
        return Scores(logit=self.logit)


def recipe(*terms, targets=(), selection="all", schedule=("constant", {}), **settings):
    """recipe(("label.bce", 0.5), ("point.soft_bce", 0.5, {"temperature": 2.0}))."""
    made = [
        Term(objective=choose("objectives", name, more[0] if more else {}), weight=weight)
        for name, weight, *more in terms
    ]
    return Recipe(
        targets=[choose("targets", *target) for target in targets],
        terms=made,
        selection=choose("selection", selection, settings),
        schedule=choose("schedules", *schedule),
    )


def section(**settings):
    """The recipe that a config describes."""
    return RecipeSection.model_validate(settings).recipe()


def refusal(**settings):
    with pytest.raises(ValidationError) as caught:
        RecipeSection.model_validate(settings)
    return str(caught.value)


def rows(teacher=(2.0, -1.0, 0.5), request=(5, 5, 9), weight=(1.0, 1.0, 1.0)):
    batch = Batch.example(label=[1.0, 0.0, 1.0], request=request, teacher=Scores(logit=torch.tensor(teacher)))
    return replace(batch, weight=torch.tensor(weight))


def losses(of, student, batch, progress):
    """One step of a recipe with a student."""
    return Lesson(of, Facts(), student=student).losses(batch, progress)


def gradient(of, batch, logit=(0.3, -0.2, 0.9), progress=0.0):
    student = Free(logit)
    losses(of, student, batch, progress)["loss"].backward()
    return student.logit.grad


STUDENT = (0.3, -0.2, 0.9)
BCE = [math.log1p(math.exp(z)) - y * z for z, y in zip(STUDENT, (1, 0, 1), strict=True)]
MSE = [(z - t) ** 2 / 2 for z, t in zip(STUDENT, (2.0, -1.0, 0.5), strict=True)]


class Inner(nn.Module):
    """A student with an inside: two numbers in, one hidden layer, a logit."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.below = nn.Linear(2, 4)
        self.tower = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        self.head = nn.Linear(3, 1)

    def forward(self, ids, dense):
        hidden = self.tower(self.below(dense))
        return Scores(logit=self.head(hidden).squeeze(1), hidden=hidden)


class Asked:
    """A live teacher that remembers which rows it was asked about."""

    widths = Widths(fields=("a",), field=2, pooled=2, blocks=(3,), hidden=3)

    def __init__(self):
        self.rows = []

    def scores(self, batch):
        self.rows.append(batch.row_id.tolist())
        return Scores(logit=batch.row_id.float(), hidden=torch.ones(len(batch), 3))


def dense_rows(num=4):
    batch = Batch.example(label=[1.0, 0.0] * (num // 2), request=[0] * num)
    return replace(batch, dense=torch.arange(2.0 * num).view(num, 2) / num)
