"""report.html in a run's folder and beside the run in MLflow: written after publish, and never a reason to fail."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from recdistill.config.run import Run
from recdistill.files import manifest, read_json
from recdistill.problems import BadInput
from recdistill.promotion.registry import may_answer_later, open_registry
from recdistill.report.facts import read_facts
from recdistill.report.page import page
from recdistill.train.progress import logger

REPORT = "report.html"
_HEAD = 1000  # characters that hold the key of what the page is about


def report_path(run: Run) -> Path:
    return Path(run.folder) / REPORT


def write_report(run: Run, folders: Mapping[str, Path]) -> Path:
    """Write the page of a finished run, whole or not at all, and log it beside the run. folders: of every step."""
    path = report_path(run)
    text = page(read_facts(run, folders))
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=run.folder) as scratch:
        unfinished = Path(scratch) / REPORT
        unfinished.write_text(text, encoding="utf-8")
        try:
            run_id = read_json(folders["publish"] / "published.json")["run_id"]
            open_registry(run).client.log_artifact(run_id, str(unfinished))
        finally:  # last, so that after a death on the way the page is not there, and both are done again
            unfinished.replace(path)
    return path


def keep_report(run: Run, folders: Mapping[str, Path]) -> None:
    """Write the page unless there is one of just this run; what goes wrong is said and keeps nothing from its end."""
    try:
        if not is_current(run, folders):
            logger.info("report: %s", write_report(run, folders))
    except Exception:
        text = "report: %s could not be written and logged; `recdistill report` tries again"
        logger.warning(text, report_path(run), exc_info=True)


def report_link(run: Run, folders: Mapping[str, Path]) -> str:
    """Where a person opens the page: in MLflow's UI where there is a server that answers, else the file."""
    uri, run_id = run.registry.tracking_uri, read_json(folders["publish"] / "published.json")["run_id"]
    if uri.startswith(("http:", "https:")):
        try:
            experiment = open_registry(run).client.get_run(run_id).info.experiment_id
        except Exception as error:
            if not isinstance(error, BadInput) and not may_answer_later(error):
                raise
        else:
            return f"{uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}/artifacts/{REPORT}"
    return report_path(run).resolve().as_uri()


def is_current(run: Run, folders: Mapping[str, Path]) -> bool:
    """Whether the page that is there is about these folders."""
    about, path = manifest(folders["publish"]), report_path(run)
    if about is None or not path.is_file():
        return False
    with path.open(encoding="utf-8") as file:
        return about["key"] in file.read(_HEAD)
