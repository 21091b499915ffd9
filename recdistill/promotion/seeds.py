"""The graphs of every seed of a run, kept beside the bundle that ships: what another run's seeds are compared with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from recdistill.bundle import GRAPH, Bundle, open_session
from recdistill.files import damage, whole_folder
from recdistill.problems import BadInput, problem
from recdistill.promotion.registry import Registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SEEDS = "seeds"


def log_seeds(registry: Registry, run_id: str, export: Path) -> None:
    """Keep the graphs of a run's students as artifacts, with their sha256; they share the shipped bundle's encoder."""
    with TemporaryDirectory() as scratch:
        final = Path(scratch) / SEEDS
        with whole_folder(final, {}) as folder:
            for path in sorted(export.glob(f"student-*/{GRAPH}")):
                shutil.copyfile(path, folder / f"{path.parent.name}.onnx")
        registry.client.log_artifacts(run_id, str(final), SEEDS)


def seeds_of(registry: Registry, version: ModelVersion, bundle: Bundle, threads: int) -> list[Bundle]:
    """A version's students, one a seed; the shipped one alone where no others were kept. BadInput for a damaged one."""
    if not version.run_id or not registry.client.list_artifacts(version.run_id, SEEDS):
        return [bundle]
    with TemporaryDirectory() as scratch:
        folder = Path(registry.client.download_artifacts(version.run_id, SEEDS, scratch))
        if lines := damage(folder):
            remedy = "promote another version"
            raise BadInput(
                [problem(line, wanted="the seeds as logged", found="others", remedy=remedy) for line in lines]
            )
        graphs = [(path.read_bytes(), path.name) for path in sorted(folder.glob("student-*.onnx"))]
    return [replace(bundle, session=open_session(graph, name, threads)) for graph, name in graphs]
