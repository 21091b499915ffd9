"""What a run in the shape of pairs cannot have: its models are two tables, taught by stored scores."""

from __future__ import annotations

from recdistill.config.recipe import RecipeSection
from recdistill.config.student import Student
from recdistill.config.teacher import Teacher
from recdistill.distil.recipe import RANKING_ONLY, Recipe
from recdistill.plugins import Choice
from recdistill.problems import problem

_BY_LABEL = {"label.bce", "label.softmax"}  # what a step against all items at once can be


def unfit_for_pairs(recipe: RecipeSection, teacher: Teacher, student: Student) -> list[str]:
    """A line for each setting that a run with data.pairs does not know; none where all is well."""
    return [*_of_teacher(teacher), *_of_plug_ins(recipe), *_of_model(recipe, student), *_of_labels(recipe, student)]


def runs_on(recipe: RecipeSection) -> tuple[str, ...]:
    """The shapes of a recipe: rows (a log of labels, with requests where it needs them), pairs (data.pairs)."""
    in_pairs = not recipe.privileged and not unfit_for_pairs(recipe, Teacher(), Student())
    return ("rows", "pairs") if in_pairs else ("rows",)


def _of_teacher(teacher: Teacher) -> list[str]:
    given = {
        "members": teacher.members > 1,
        "ensemble": bool(teacher.ensemble),
        "ranks": teacher.num_processes > 1,
        "one_pass": teacher.one_pass,
        "warm_start": teacher.warm_start is not None,
    }
    return [
        problem(f"teacher.{name}", wanted="none beside data.pairs", found="a setting", remedy="drop it")
        for name, is_given in given.items()
        if is_given
    ]


def _of_plug_ins(section: RecipeSection) -> list[str]:
    recipe, found = section.recipe(), []
    wrong = {choice.plugin.name for choice in recipe.choices if choice.plugin.needs & RANKING_ONLY}
    if wrong:
        names, wants = ", ".join(sorted(wrong)), ", ".join(sorted(recipe.needs & RANKING_ONLY))
        wanted, remedy = "plug-ins that pairs can serve", "use another recipe"
        found.append(problem("recipe", wanted=wanted, found=f"{names}, for {wants}", remedy=remedy))
    by_label = {choice.plugin.name for choice in _taught(recipe) if "labels" in choice.plugin.needs}
    if by_label and not section.lists.positives:
        wanted = f"1 or more beside data.pairs for {', '.join(sorted(by_label))}"
        found.append(problem("recipe.lists.positives", wanted=wanted, found="0", remedy="give it a number"))
    if section.teacher != "stored":
        remedy = "use a recipe with teacher: stored"
        found.append(problem("recipe.teacher", wanted="stored beside data.pairs", found=section.teacher, remedy=remedy))
    if section.scores != "in_sample":
        wanted, remedy = "in_sample beside data.pairs", "use a recipe with scores: in_sample"
        found.append(problem("recipe.scores", wanted=wanted, found=section.scores, remedy=remedy))
    return found


def _taught(recipe: Recipe) -> list[Choice]:
    """What looks at lists: all but the terms that learn from labelled rows."""
    terms = [choice for term in recipe.terms if term.follows_teacher for choice in term.choices]
    return [*recipe.targets, *terms, recipe.selection, recipe.schedule]


def _of_model(section: RecipeSection, student: Student) -> list[str]:
    found = []
    if section.student.model_fields_set or section.unlabelled:
        wanted, remedy = "a recipe that leaves the model as it is described", "use another recipe"
        found.append(problem("recipe", wanted=wanted, found="student or unlabelled", remedy=remedy))
    if not section.trains_tables and any(term.schedule is not None for term in section.terms):
        wanted, remedy = "terms without a schedule beside trains_tables: false", "use warm_start_frozen"
        found.append(problem("recipe.terms", wanted=wanted, found="some with one", remedy=remedy))
    if section.init != "fresh" and student.pairs.use != "mf":
        wanted, remedy = "student.pairs.use: mf beside init: teacher_pca", "use init: fresh"
        found.append(problem("recipe.init", wanted=wanted, found=student.pairs.use, remedy=remedy))
    return found


def _of_labels(section: RecipeSection, student: Student) -> list[str]:
    """What needs labelled rows of its own, where a step is taken against all items at once."""
    if student.pairs.negatives != "all":
        return []
    names = sorted({term.use for term in section.terms if term.use.startswith("label.")} - _BY_LABEL)
    found = [f"the term {name}" for name in names] + (["stress"] if section.stress != type(section.stress)() else [])
    remedy = "give pairs.negatives a number, or use another recipe"
    wanted = "label.bce beside student.pairs.negatives: all"
    return [problem("recipe", wanted=wanted, found=", ".join(found), remedy=remedy)] if found else []
