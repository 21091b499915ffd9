"""What is compared: an arm is a recipe or a control, each with a run of its own; one training of it is a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recdistill import files
from recdistill.code import code_digest
from recdistill.config.run import Run
from recdistill.pairs import student as of_pairs
from recdistill.train.students import student
from recdistill.train.students.student import Arm as Kind

CONTROL = "control"
BIGGER = "bigger student"
LOGITS = "logits.npy"
RESULT = "result.json"
_BY = ("prepare", "train_teacher", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """kind: whether it has a teacher. run: the whole config, this arm's recipe and student in it. control: the name of
    the arm that shows what it gains. tuned: the settings that a search gave it, by their places in the run."""

    name: str
    kind: Kind
    run: Run
    control: str = CONTROL
    tuned: Mapping[str, float] = field(default_factory=dict)

    def key(self, seed: int, inputs: Mapping[str, Path]) -> str:
        """Of all that this arm's training with this seed depends on."""
        recipe = self.run.recipe.recipe()
        source = student.__file__ if self.run.data.pairs is None else of_pairs.__file__
        about = {
            "kind": self.kind,
            "settings": self.run.section("student", "recipe", "device", "threads"),
            "seed": seed,
            "inputs": {name: (files.manifest(inputs[name]) or {})["key"] for name in _BY},
            "code": code_digest(Path(source), *recipe.files, *recipe.without_teacher().files),
        }
        return files.digest(about)

    def folder(self, root: Path, seed: int, inputs: Mapping[str, Path]) -> Path:
        """Where its training with this seed lies, or is to lie."""
        name = "".join(letter if letter.isalnum() else "-" for letter in self.name)
        return root / f"{name}-{seed}-{self.key(seed, inputs)[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One training of an arm. out: the folder that it is to write."""

    arm: Arm
    seed: int
    out: Path

    def to_json(self, inputs: Mapping[str, Path]) -> dict[str, Any]:
        """For a process of its own; inputs: folders of prepare, train_teacher and score."""
        return {
            "name": self.arm.name,
            "kind": self.arm.kind,
            "run": self.arm.run.model_dump(mode="json", exclude_unset=True),
            "seed": self.seed,
            "inputs": {name: str(folder) for name, folder in inputs.items()},
            "out": str(self.out),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One finished training. logit: [N] of the test window's rows, in the order of the store; in the shape of pairs
    [U, metrics] of its users. seconds_per_epoch: of the processor on a CPU, of the clock elsewhere."""

    logit: NDArray[np.float32]
    valid_auc: float
    seconds_per_epoch: float
    parameters: int


def arms_of(run: Run, recipes: Mapping[str, Run], *, bigger: bool = True) -> list[Arm]:
    """The control, a control with tables and layers twice as wide, and every recipe, each value of its sweep apart.

    bigger: False leaves out the wide one, which is the dearest of all where the student is no small one.

    A recipe that stresses the training labels is held against a control under the same stress.
    """
    wider = {
        "width": run.student.width * 2,
        "tower": [size * 2 for size in run.student.tower],
        "attention": run.student.attention * 2,
    }
    arms = [Arm(name=CONTROL, kind="control", run=run)]
    if bigger:
        wide = run.model_copy(update={"student": run.student.model_copy(update=wider)})
        arms.append(Arm(name=BIGGER, kind="control", run=wide))
    stressed: dict[str, Arm] = {}
    for name, taught in recipes.items():
        for title, each in swept(name, taught):
            control = _control_of(each)
            if control != CONTROL:
                stressed.setdefault(control, Arm(name=control, kind="control", run=each))
            arms.append(Arm(name=title, kind="student", run=each, control=control))
    return [*arms, *stressed.values()]


def _control_of(run: Run) -> str:
    """The name of the control whose labels are stressed as this run's."""
    stress = run.recipe.stress
    changes = [f"{name}={value}" for name, value in stress if value != type(stress).model_fields[name].default]
    return " ".join([CONTROL, *changes])


def swept(name: str, run: Run) -> list[tuple[str, Run]]:
    """(name, run) of every value that the recipe's sweep asks for; the run itself where it asks for none."""
    found = [
        (f"{name} {place.rpartition('.')[2]}={value}", changed(run, f"recipe.{place}", value))
        for place, values in run.recipe.sweep.items()
        for value in values
    ]
    return found or [(name, run)]


def changed(run: Run, place: str, value: Any) -> Run:
    """The run with one setting changed and no sweep; place: its path, as in recipe.targets.0.sigma."""
    tree = run.model_dump(mode="json", exclude_unset=True)
    found: Any = tree
    *above, last = place.split(".")
    for step in above:
        found = found[int(step)] if step.isdigit() else found.setdefault(step, {})
    found[last] = value
    tree["recipe"]["sweep"] = {}
    return Run.model_validate(tree)


def finished(folder: Path) -> Training | None:
    """A training that is there and whole; None where it is still to be done."""
    if files.manifest(folder) is None or files.damage(folder):
        return None
    return Training(logit=np.load(folder / LOGITS, allow_pickle=False), **files.read_json(folder / RESULT))
