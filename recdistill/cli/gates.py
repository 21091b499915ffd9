"""The command about gates: freeze, which names the version that champions are held against for good."""

from __future__ import annotations

import typer

from recdistill.cli.options import Config, Overrides, open_config

gate_commands = typer.Typer()


@gate_commands.command()
def freeze(config: Config, version: int, overrides: Overrides = None) -> None:
    """Make a version the reference: no candidate may be worse than it either, so that small losses do not add up."""
    run = open_config(config, overrides, quiet=True)
    from recdistill.promotion.decide import REFERENCE
    from recdistill.promotion.registry import open_registry

    registry = open_registry(run)
    number = str(registry.version(version).version)
    registry.client.set_registered_model_alias(registry.model, REFERENCE, number)
    print(f"{registry.model}: reference is version {number}")
