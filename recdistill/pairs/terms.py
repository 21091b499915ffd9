"""A recipe in the shape of pairs: its terms dealt out to labelled rows and lists."""

from __future__ import annotations

from dataclasses import replace

from recdistill.config.pairs import PairModel
from recdistill.distil.recipe import Recipe, Term
from recdistill.distil.stress import UNHARMED
from recdistill.plugins import Choice, choose


def label_terms(recipe: Recipe, spec: PairModel) -> Recipe:
    """The terms without a teacher, label.bce as the loss that the model's section names."""
    own = [
        replace(term, objective=_own_loss(term, spec), targets=(), selection=None)
        for term in recipe.terms
        if not term.follows_teacher
    ]
    every = choose("selection", "all", {})
    return replace(recipe, terms=own, targets=(), selection=every, partner=None)


def _own_loss(term: Term, spec: PairModel) -> Choice:
    if term.objective.plugin.name != "label.bce":
        return term.objective
    settings = {"temperature": spec.temperature} if spec.loss == "softmax" else {}
    return choose("objectives", f"label.{spec.loss}", settings)


def teacher_terms(recipe: Recipe) -> Recipe | None:
    """The terms with a teacher; None where there are none."""
    taught = [term for term in recipe.terms if term.follows_teacher and term.weight]
    return replace(recipe, terms=taught, stress=UNHARMED) if taught else None
