"""What a version was made of: config, data, code and packages, kept with its run in MLflow and read again."""

from __future__ import annotations

import platform
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill import __version__
from recdistill.code import ROOT, code_digest
from recdistill.config.run import Run
from recdistill.files import read_json
from recdistill.problems import BadInput, problem
from recdistill.promotion.registry import Registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LINEAGE = "lineage.json"
STEPS = {
    "prepare": "data/prepare.py",
    "train_teacher": "train/teachers/teacher.py",
    "score": "score.py",
    "distil": "train/students/student.py",
    "export": "export.py",
}
"""Those that make a bundle."""
PACKAGES = ("torch", "torchrec", "numpy", "pyarrow", "onnx", "onnxscript", "onnxruntime")


def lineage(run: Run, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Of the bundle that a run has exported."""
    data = read_json(inputs["prepare"] / "data.json")
    return {
        "bundle_sha256": read_json(inputs["export"] / "export.json")["bundle_sha256"],
        "config": run.model_dump(mode="json"),
        "data": {name: data[name] for name in ("source", "fingerprint", "windows")},
        "code": code_of(run),
        "commit": _commit(),
        "packages": packages(),
    }


def code_of(run: Run) -> dict[str, str]:
    """Step -> sha256 of the sources that it is made of, the run's plug-ins among them."""
    recipe = run.recipe.recipe()
    plugins = {"train_teacher": run.teacher.files, "distil": [*recipe.files, *recipe.without_teacher().files]}
    return {step: code_digest(ROOT / path, *plugins.get(step, ())) for step, path in STEPS.items()}


def packages() -> dict[str, str]:
    """Versions of what a bundle's bytes depend on."""
    own = {"python": platform.python_version(), "recdistill": __version__}
    return own | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str | None:
    """The commit of the sources; None outside a repository, where there is no git, or where files differ from it."""
    asked = ("git", "-C", str(ROOT), "status", "--porcelain=v2", "--branch", "--untracked-files=no", ".")
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = told.splitlines()
    clean = all(line.startswith("# ") for line in lines)
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    return commits[0] if clean and commits else None


def read_lineage(registry: Registry, found: ModelVersion) -> dict[str, Any]:
    """BadInput for a version that was registered without one."""
    lines = read_artifact(registry, found, LINEAGE)
    if lines is None:
        where = f"{registry.model} version {found.version}"
        remedy = "only versions that `recdistill run` has published have one"
        raise BadInput(problem(where, wanted=f"{LINEAGE} with its run", found="none", remedy=remedy))
    return dict(lines)


def read_artifact(registry: Registry, found: ModelVersion, name: str) -> Any | None:
    """A JSON artifact of the run that made a version; None where it has none of that name."""
    run_id = found.run_id
    if not run_id or name not in {info.path for info in registry.client.list_artifacts(run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return read_json(Path(registry.client.download_artifacts(run_id, name, folder)))
