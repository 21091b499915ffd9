"""Makes a version again: the same data, config and code give a bundle with the same sha256, or it says what differs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from recdistill.config.run import Run
from recdistill.data.prepare import open_checked
from recdistill.files import read_json
from recdistill.pipeline import run_all
from recdistill.problems import BadInput, problem
from recdistill.promotion.lineage import code_of, packages, read_lineage
from recdistill.promotion.registry import Registry


def write_config(registry: Registry, number: int, folder: Path) -> Path:
    """The YAML that makes a version's bundle again under `folder`, which `remake` or `recdistill export` then does.

    BadInput lists all of data, code and packages that is not now as it was then; nothing is written then.
    """
    made = read_lineage(registry, registry.version(number))
    where = f"{registry.model} version {number}"
    try:
        run = Run.model_validate({**made["config"], "root": str(folder / "run")})
    except ValidationError as error:
        found = f"{error.error_count()} settings that this code does not know"
        remedy = f"use the code that made it{_at(made)}"
        raise BadInput(problem(where, wanted="its config", found=found, remedy=remedy)) from None
    if lines := differences(where, made, run):
        raise BadInput(lines)
    path = folder / f"{registry.model}-{number}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    head = f"# recdistill export {path}\n# gives the bundle {made['bundle_sha256']}\n"
    path.write_text(head + yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False))
    return path


def differences(where: str, made: Mapping[str, Any], run: Run) -> list[str]:
    """What is not as it was when a version was made, a line each."""
    lines = _other_data(where, made, run)
    code = code_of(run)
    changed = [step for step, digest in made["code"].items() if code.get(step) != digest]
    if changed:
        found, remedy = f"other code of {', '.join(changed)}", f"use the code that made it{_at(made)}"
        lines.append(problem(where, wanted="the code that made it", found=found, remedy=remedy))
    have = packages()
    for name, wanted in made["packages"].items():
        if have.get(name) != wanted:
            found, remedy = f"{name} {have.get(name)}", "install it"
            lines.append(problem(where, wanted=f"{name} {wanted}", found=found, remedy=remedy))
    return lines


def _other_data(where: str, made: Mapping[str, Any], run: Run) -> list[str]:
    try:
        now = open_checked(run).fingerprint
    except BadInput as error:
        return error.problems
    then = made["data"]["fingerprint"]
    if now == then:
        return []
    wanted = f"the log {made['data']['source']} with fingerprint {then[:12]}"
    return [problem(where, wanted=wanted, found=now[:12], remedy="put the log back as it was")]


def remake(run: Run) -> str:
    """Run the steps up to export; the sha256 of the bundle. Nothing is published."""
    done = run_all(run, until="export")
    return str(read_json(done.folders["export"] / "export.json")["bundle_sha256"])


def _at(made: Mapping[str, Any]) -> str:
    return "" if made["commit"] is None else f", commit {made['commit'][:12]}"
