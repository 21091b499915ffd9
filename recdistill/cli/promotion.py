"""The commands of promotion: promote, rollback, history, explain, reproduce."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recdistill.cli.options import Config, Overrides, open_config

if TYPE_CHECKING:
    from recdistill.promotion.events import Event
    from recdistill.promotion.registry import Registry

promotion_commands = typer.Typer()

Why = Annotated[str, typer.Option(help="the reason, kept in the history")]
Version = Annotated[int, typer.Argument(help="its number in the registry", show_default=False)]


class To(StrEnum):
    """Stages of a version."""

    challenger = "challenger"
    shadow = "shadow"
    champion = "champion"


@promotion_commands.command()
def promote(
    config: Config,
    version: Version,
    overrides: Overrides = None,
    why: Why = "by hand",
    to: Annotated[To, typer.Option(help="the stage that it reaches")] = To.champion,
    force: Annotated[bool, typer.Option(help="whatever its gates said and whomever it was judged against")] = False,
) -> None:
    """Bring a registered version to a stage by hand: one that passed its gates, against the present champion."""
    registry = _registry(config, overrides)
    from recdistill.promotion.by_hand import promote_by_hand

    event = promote_by_hand(registry, version, to=to.value, why=why, force=force)
    print(f"{registry.model}: {to.value} is version {event.version}")


@promotion_commands.command()
def rollback(
    config: Config,
    overrides: Overrides = None,
    why: Why = "by hand",
    state: Annotated[Path | None, typer.Option(help="the --state of this machine's servers, if they have one")] = None,
) -> None:
    """Put the champion before this one back; where MLflow does not answer, on this machine, and MLflow learns later."""
    settings = open_config(config, overrides, quiet=True)
    from recdistill.promotion.last_good import roll_back
    from recdistill.promotion.registry import user

    event, known = roll_back(settings, why=why, who=user(), state=state)
    where = "" if known else ", on this machine; its servers tell MLflow when it answers again"
    print(f"{settings.model}: champion is version {event.version} again, instead of {event.replaced}{where}")


@promotion_commands.command()
def history(
    config: Config,
    overrides: Overrides = None,
    settle: Annotated[bool, typer.Option(help="also make MLflow's aliases and files as the log says")] = False,
) -> None:
    """Who replaced whom as champion, when and why; the log's chain is checked, and whether MLflow agrees with it."""
    registry = _registry(config, overrides)
    from recdistill.problems import BadInput

    events = registry.history()
    if settle:
        registry.settle()
    for event in events:
        print(_line(event))
    if not events:
        print(f"{registry.model}: no champion yet")
    if lines := registry.misplaced():
        raise BadInput(lines)


@promotion_commands.command()
def explain(
    config: Config,
    version: Version,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="everything, for a program")] = False,
) -> None:
    """Why a version is what it is: data window, fingerprint, config, code, gates, predecessor."""
    registry = _registry(config, overrides)
    from recdistill.promotion.explain import explain as explained

    found = explained(registry, version)
    print(json.dumps(found, indent=2, default=asdict) if as_json else _explanation(found))


@promotion_commands.command()
def reproduce(
    config: Config,
    version: Version,
    overrides: Overrides = None,
    folder: Annotated[Path | None, typer.Option(help="where it is made; else beside the run")] = None,
    execute: Annotated[bool, typer.Option(help="also make it, and compare its sha256; status 1 if another")] = False,
) -> None:
    """Write the config that makes a version's bundle again; refused where data, code or packages are not the same."""
    settings = open_config(config, overrides, quiet=True)
    from recdistill.config.load import load
    from recdistill.promotion.registry import open_registry
    from recdistill.promotion.reproduce import remake, write_config

    registry = open_registry(settings)
    path = write_config(registry, version, folder or Path(f"{settings.folder}-reproduced"))
    wanted = registry.version(version).tags["bundle_sha256"]
    if not execute:
        print(f"recdistill export {path}  # gives the bundle {wanted}")
        return
    made = remake(load(path))
    print(f"{registry.model} version {version}: wanted the bundle {wanted}, made {made}")
    if made != wanted:
        raise typer.Exit(1)


def _registry(config: Path, overrides: list[str] | None) -> Registry:
    settings = open_config(config, overrides, quiet=True)
    from recdistill.promotion.registry import open_registry

    return open_registry(settings)


def _line(event: Event) -> str:
    at = datetime.fromtimestamp(event.at, UTC).isoformat(" ", "seconds")
    replaced = "-" if event.replaced is None else event.replaced
    return f"{at}  {event.action:10}  version {event.version} for {replaced}  by {event.who}: {event.why}"


def _explanation(found: Mapping[str, Any]) -> str:
    packages = found["packages"] or {}
    shown = {
        "is": ", ".join(found["is"]) or "none of champion, previous champion, challenger, shadow",
        "bundle": found["bundle_sha256"],
        "data window": " to ".join(found["window"] or ["unknown"]),
        "fingerprint": f"{found['fingerprint']} of {found['source']}",
        "code": ", ".join(f"{step} {digest[:12]}" for step, digest in (found["code"] or {}).items()) or "unknown",
        "commit": found["commit"] or "unknown",
        "packages": ", ".join(f"{name} {number}" for name, number in packages.items()) or "unknown",
        "judged against": "no champion" if found["baseline"] is None else f"version {found['baseline']}",
        "replaced": "nothing" if found["predecessor"] is None else f"version {found['predecessor']}",
        "verdict": found["verdict"],
        "run": found["run_id"],
    }
    lines = [f"{found['model']} version {found['version']}", *(f"{name:15} {value}" for name, value in shown.items())]
    lines += [f"  {gate['verdict']:12} {gate['name']}: {gate['found']}, {gate['wanted']}" for gate in found["gates"]]
    lines += [_line(event) for event in found["events"]]
    return "\n".join([*lines, "config: `--json` has it, `recdistill reproduce` writes it"])
