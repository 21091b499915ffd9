"""The student that an arm trains: as the run describes it or as the recipe reshapes it, its parts, and a partner."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from recdistill.config.recipe import Partner, Shape
from recdistill.config.run import Run
from recdistill.config.student import Student
from recdistill.models.build import Ranker, build
from recdistill.models.carve import carve
from recdistill.models.history.mean import Mean
from recdistill.models.remembered import Remembered
from recdistill.models.student import StudentModel
from recdistill.problems import BadInput, problem
from recdistill.types import Layout

AS_DESCRIBED = Shape()


def build_student(run: Run, layout: Layout, counts: Mapping[str, Tensor], shape: Shape = AS_DESCRIBED) -> Ranker:
    """A student with fresh weights from torch's generator. counts: look-ups of its counted tables.

    BadInput where it cannot be shaped so.
    """
    units = [size for size in run.student.tower for _ in range(shape.depth)]
    settings = run.student.model_copy(update={"tower": units})
    model = build(layout, settings, _unread(run), counts)
    if shape.memory is not None:
        model = _with_memory(model, layout, shape.memory)
    if shape.history == "mean" or shape.assistant is not None:
        if not isinstance(model, StudentModel) or model.pairs is not None or min(units, default=0) < 2:
            where, wanted = "recipe.student", "a student of one tower, every layer 2 wide or more"
            raise BadInput(
                problem(where, wanted=wanted, found="another", remedy="use interaction: mlp and such a tower")
            )
        if shape.history == "mean" and model.history is not None:
            model.attention = Mean(model.history.width)  # type: ignore[assignment]
        if shape.assistant is not None:
            carve(model, units, shape.assistant)
    return model


def trained_student(
    run: Run, layout: Layout, counts: Mapping[str, Tensor], weights: Mapping[str, Tensor], shape: Shape = AS_DESCRIBED
) -> Ranker:
    """A student with these weights, on the CPU, in evaluation mode. RuntimeError for weights of another one."""
    model = build_student(run, layout, counts, shape)
    model.load_state_dict(dict(weights))
    return model.eval()


def _with_memory(model: Ranker, layout: Layout, width: int) -> Ranker:
    if not isinstance(model, StudentModel) or model.history is None:
        where, wanted = "recipe.student.memory", "a student of one tower that reads a history"
        remedy = "use interaction: mlp and features.history, or another recipe"
        raise BadInput(problem(where, wanted=wanted, found="another", remedy=remedy))
    model.history = Remembered(model.history, layout.histories[0].num_rows, width)  # type: ignore[assignment]
    return model


def build_partner(run: Run, layout: Layout, counts: Mapping[str, Tensor], partner: Partner, student: Ranker) -> Ranker:
    """The teacher that is trained along: the student `times` as wide, or with its tables and `times` as wide above."""
    own: Student = run.student
    times = partner.times
    wider = {"attention": own.attention * times, "tower": [units * times for units in own.tower]}
    wider |= {} if partner.shares_tables else {"width": own.width * times}
    model = build(layout, own.model_copy(update=wider), _unread(run), counts)
    if partner.shares_tables:
        model.tables = student.tables
        assert model.history is None or student.history is not None
    return model


def parts(model: Ranker) -> list[list[nn.Parameter]]:
    """The parameters as a schedule may train them alone: all below the tower, each of its layers, the head.

    Of a student with an assistant: the student, the assistant. Of two towers: one part.
    """
    named = list(model.named_parameters())
    if any(".assistant." in name for name, _ in named):
        return [[p for name, p in named if (".assistant." in name) == late] for late in (False, True)]
    layers = [number for number, layer in enumerate(getattr(model, "tower", ())) if isinstance(layer, nn.Linear)]
    starts = [*(f"tower.{number}." for number in layers), "head."]
    above = [[p for name, p in named if name.startswith(start)] for start in starts]
    below = [p for name, p in named if not name.startswith(tuple(starts))]
    return [below, *above]


def optimisers(
    settings: Student, models: Sequence[nn.Module], own: nn.Module, frozen: Collection[nn.Parameter] = ()
) -> list[torch.optim.Optimizer]:
    """Adam for the first model's dense layers, Adagrad for its tables, then the same for the others and for what the
    objectives own. Parameters in `frozen`, or in an earlier model, are left out."""
    seen = {id(parameter) for parameter in frozen}
    made: list[torch.optim.Optimizer] = []
    for model in (*models, own):
        dense: list[nn.Parameter] = []
        tables: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                (tables if name.startswith("tables.") else dense).append(parameter)
        if dense:
            made.append(torch.optim.Adam(dense, settings.learning_rate))
        if tables:
            made.append(torch.optim.Adagrad(tables, settings.embedding_learning_rate))
    return made


def _unread(run: Run) -> set[str]:
    return {*run.student.without, *run.features.privileged}
