"""The notebooks of examples/: kept without outputs, and run from first cell to last in a kernel of their own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_is_a_notebook():
    assert [path.name for path in NOTEBOOKS] == ["compare_recipes.ipynb"]


def cells(notebook):
    found = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert found
    return found


@each_notebook
def test_it_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.source for cell in cells(notebook) if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.slow
@each_notebook
def test_it_runs_from_a_fresh_folder_and_shows_what_it_promises(path, tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "examples").mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path / "examples")}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=place).execute()
    shown = [output for cell in cells(notebook) for output in cell.outputs]
    tables = [output.data["text/plain"] for output in shown if "text/plain" in output.get("data", {})]
    compared = next(text for text in tables if "recovery" in text)
    for name in ("teacher", "control", "soft_bce", "clid"):
        assert name in compared
    assert [output for output in shown if "image/png" in output.get("data", {})]
    assert not [output for output in shown if output.get("name") == "stderr" and "Error" in output.text]
    assert (tmp_path / "runs/example/mlflow.db").is_file()
