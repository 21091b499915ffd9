"""A recipe in the shape of pairs: its terms dealt out to labelled rows and lists; what it cannot have is refused."""

from __future__ import annotations

from dataclasses import replace

from recdistill.config.pairs import PairModel
from recdistill.config.recipe import RecipeSection
from recdistill.distil.recipe import RANKING_ONLY, Recipe, Term
from recdistill.distil.stress import UNHARMED
from recdistill.plugins import Choice, choose
from recdistill.problems import BadInput, problem


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


def refuse(section: RecipeSection, spec: PairModel) -> None:
    """BadInput for a recipe that cannot have what it needs in this shape."""
    recipe, found = section.recipe(), []
    wrong = {choice.plugin.name for choice in recipe.choices if choice.plugin.needs & RANKING_ONLY}
    if wrong:
        names, wants = ", ".join(sorted(wrong)), ", ".join(sorted(recipe.needs & RANKING_ONLY))
        wanted, remedy = "plug-ins that pairs can serve", "use another recipe"
        found.append(problem("recipe", wanted=wanted, found=f"{names}, for {wants}", remedy=remedy))
    if section.teacher != "stored":
        remedy = "use a recipe with teacher: stored"
        found.append(problem("recipe.teacher", wanted="stored beside data.pairs", found=section.teacher, remedy=remedy))
    if section.student.model_fields_set or section.unlabelled:
        remedy = "use another recipe"
        wanted = "a recipe that leaves the model as it is described"
        found.append(problem("recipe", wanted=wanted, found="student or unlabelled", remedy=remedy))
    if section.phases_above_tables:
        wanted, remedy = "terms without a schedule beside trains_tables: false", "use warm_start_frozen"
        found.append(problem("recipe.terms", wanted=wanted, found="some with one", remedy=remedy))
    if section.init != "fresh" and spec.use != "mf":
        wanted, remedy = "student.pairs.use: mf beside init: teacher_pca", "use init: fresh"
        found.append(problem("recipe.init", wanted=wanted, found=spec.use, remedy=remedy))
    if section.scores != "in_sample":
        wanted, remedy = "in_sample beside data.pairs", "use a recipe with scores: in_sample"
        found.append(problem("recipe.scores", wanted=wanted, found=section.scores, remedy=remedy))
    if found:
        raise BadInput(found)
