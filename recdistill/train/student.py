"""The distil step: students by the recipe, and as many controls without the teacher, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from recdistill.config import Run
from recdistill.data.batches import Batches
from recdistill.data.scores import open_scores
from recdistill.data.store import open_rows
from recdistill.distil.recipe import Recipe
from recdistill.files import write_json
from recdistill.models.build import Ranker, build
from recdistill.train.device import choose_device, pin_threads
from recdistill.train.look_ups import look_ups
from recdistill.train.loop import Trained, train
from recdistill.train.predict import auc_on, load_weights, save_weights
from recdistill.types import Batch, Layout

Arm = Literal["student", "control"]
ARMS: tuple[Arm, Arm] = ("student", "control")
_COUNTS = "counts.safetensors"


def distil(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Train both arms with the same seeds, initial weights, batches and budget; write weights and students.json.

    The student that ships is the seed of the best validation AUC.
    """
    pin_threads(run.threads)
    train_rows = open_rows(inputs["prepare"], "train")
    counts = look_ups(train_rows, run.student.counted(train_rows.layout.tables))
    save_weights(counts, out / _COUNTS)
    recipe = run.recipe.recipe()
    recipes = {"student": recipe, "control": recipe.without_teacher()}
    trained: dict[str, list[Trained]] = {arm: [] for arm in ARMS}
    for number in range(run.student.seeds):
        for arm in ARMS:
            result = _train(run, inputs, recipes[arm], arm, number, "requests" in recipe.needs, counts)
            save_weights(result.weights, out / weights_name(arm, number))
            trained[arm].append(result)
    aucs = [result.best.valid_auc for result in trained["student"]]
    curves = {arm: [[check.to_json() for check in t.curve] for t in trained[arm]] for arm in ARMS}
    parameters = sum(v.numel() for v in trained["student"][0].weights.values() if v.is_floating_point())
    write_json(out / "students.json", {"parameters": parameters, "shipped": aucs.index(max(aucs)), "curves": curves})


def weights_name(arm: Arm, number: int) -> str:
    return f"{arm}-{number}.safetensors"


def _train(
    run: Run,
    inputs: Mapping[str, Path],
    recipe: Recipe,
    arm: Arm,
    number: int,
    whole_requests: bool,
    counts: Mapping[str, Tensor],
) -> Trained:
    rows = {name: open_rows(inputs["prepare"], name) for name in ("train", "valid")}
    device = choose_device(run.device)
    seed = run.seed + number
    torch.manual_seed(seed)
    model = build_student(run, rows["train"].layout, counts).to(device)
    teacher = open_scores(inputs["score"], "train", rows["train"], inputs["prepare"]) if arm == "student" else None
    batches = Batches(
        rows=rows["train"],
        batch_size=run.student.batch_size,
        shuffle="requests" if whole_requests else "rows",
        seed=seed,
        teacher=teacher,
    )

    def losses(batch: Batch, progress: float) -> dict[str, Tensor]:
        return recipe.losses(model, batch.to(device), progress)

    tables: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (tables if name.startswith("tables.") else others).append(parameter)
    return train(
        f"{arm} {number}",
        run.student,
        batches,
        losses=losses,
        optimisers=[
            torch.optim.Adam(others, run.student.learning_rate),
            torch.optim.Adagrad(tables, run.student.embedding_learning_rate),
        ],
        valid_auc=auc_on(model, rows["valid"], device),
        weights=lambda: {name: value.detach().cpu().clone() for name, value in model.state_dict().items()},
    )


def build_student(run: Run, layout: Layout, counts: Mapping[str, Tensor]) -> Ranker:
    """A student as configured, with fresh weights from torch's generator. counts: look-ups of its counted tables."""
    return build(layout, run.student, {*run.student.without, *run.features.privileged}, counts)


def open_student(run: Run, layout: Layout, folder: Path, arm: Arm, number: int) -> Ranker:
    """A trained student or control of a distil folder, on the CPU, in evaluation mode."""
    model = build_student(run, layout, load_weights(folder, _COUNTS))
    model.load_state_dict(load_weights(folder, weights_name(arm, number)))
    return model.eval()
