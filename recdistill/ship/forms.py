"""The shipped student of a run in another server's form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from recdistill.bundle import open_bundle
from recdistill.config.run import Run
from recdistill.files import manifest, read_json
from recdistill.problems import BadInput, problem
from recdistill.ship.as_mlflow import as_mlflow
from recdistill.ship.as_pt2 import as_pt2
from recdistill.ship.as_triton import as_triton
from recdistill.ship.quantise import quantise, table_bits
from recdistill.train.students.student import open_student


def write_form(run: Run, folders: Mapping[str, Path], form: Literal["triton", "pt2", "mlflow"], out: Path) -> Path:
    """Write `out` and return it. folders: of the steps up to export. BadInput where something else is there."""
    shipped = read_json(folders["export"] / "export.json")["shipped"]
    bundle = open_bundle(folders["export"] / shipped)
    _refuse_other(out, form)
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "triton":
        as_triton(bundle.folder, run.model, out)
    elif form == "mlflow":
        as_mlflow(bundle.folder, out)
    else:
        student = open_student(run, bundle.encoder.layout, folders["distil"], "student", int(shipped.partition("-")[2]))
        as_pt2(quantise(student, table_bits(run, student.tables)), bundle.encoder.layout, out)
    return out


def _refuse_other(out: Path, form: str) -> None:
    """Only a folder that an earlier call made may be replaced."""
    about = manifest(out) if out.is_dir() else None
    taken = out.is_dir() if form == "pt2" else out.exists() and (about is None or about.get("kind") != form)
    if taken:
        found = "something else there"
        raise BadInput(problem(str(out), wanted=f"a new path for {form}", found=found, remedy="give another one"))
