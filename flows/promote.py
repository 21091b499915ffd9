"""The promotion flow: a version to a stage, if somebody approves of it; python -m flows.promote configs/demo.yaml 7"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Literal

from prefect import State, flow, get_run_logger, pause_flow_run
from prefect.artifacts import create_table_artifact
from prefect.input import RunInput
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict, Field

from flows.reconcile import announce
from recdistill.config.load import load
from recdistill.problems import BadInput, problem
from recdistill.promotion.by_hand import promote_by_hand
from recdistill.promotion.explain import explain
from recdistill.promotion.registry import Registry, open_registry

ARTIFACT = "promotion-gates"


class PromoteParameters(BaseModel):
    """Which version goes where; the form in the Prefect UI is made from this."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(min_length=1, description="A YAML file, relative to the project's folder: configs/demo.yaml")
    version: int = Field(ge=1, description="Its number in the registry")
    overrides: list[str] = Field(default=[], description="section.field=value, as in registry.model=mine")
    to: Literal["challenger", "shadow", "champion"] = Field(default="champion", description="The stage it reaches")
    why: str = Field(default="by the promote flow", max_length=1000, description="The reason, kept in the history")
    approval: bool = Field(default=True, description="Wait for somebody who fills in the form of approval")
    wait_hours: float = Field(default=24.0, gt=0, description="How long to wait for the form; after that it fails")


class Approval(RunInput):
    """What somebody says who has looked at the gates."""

    approve: bool = Field(description="Whether the version may go to its stage")
    who: str = Field(min_length=1, max_length=100, description="Who says so; kept in the history")
    why: str = Field(default="", max_length=1000, description="The reason, kept in the history")


@flow(name="promote", retries=0, persist_result=False, on_running=[announce])
def promote(parameters: PromoteParameters) -> dict[str, Any] | State[Any]:
    """Bring a version to a stage. Failed where its gates, the present champion or a person say no."""
    try:
        return promoted(parameters)
    except BadInput as error:  # returned: what a flow raises, Prefect pickles, whatever persist_result says
        return Failed(message=str(error), data=error)


def promoted(parameters: PromoteParameters) -> dict[str, Any]:
    """The work of the flow: {"model", "version", "stage", "who"} after it."""
    registry = open_registry(load(parameters.config, parameters.overrides))
    _show(registry, parameters.version)
    who, why = None, parameters.why
    if parameters.approval:
        who, why = _approved(registry, parameters)
    event = promote_by_hand(registry, parameters.version, to=parameters.to, why=why, who=who)
    get_run_logger().info("%s: %s is version %d", registry.model, parameters.to, event.version)
    return {"model": registry.model, "version": event.version, "stage": parameters.to, "who": event.who}


def _approved(registry: Registry, parameters: PromoteParameters) -> tuple[str, str]:
    """(who, why) of the form. BadInput where somebody says no. A champion that changes meanwhile is noticed later."""
    text = f"**{registry.model} version {parameters.version}** to {parameters.to}: see the artifact {ARTIFACT}."
    form = Approval.with_initial_data(description=text)
    answer = pause_flow_run(wait_for_input=form, timeout=int(parameters.wait_hours * 3600), poll_interval=5)
    if not answer.approve:
        where = f"{registry.model} version {parameters.version}"
        found, remedy = f"a no from {answer.who}: {answer.why or 'no reason'}", "train another one"
        raise BadInput(problem(where, wanted="approval", found=found, remedy=remedy))
    return answer.who, answer.why or parameters.why


def _show(registry: Registry, number: int) -> None:
    """The gates of the version as a table in Prefect."""
    found = explain(registry, number)
    rows = [{name: str(gate[name]) for name in ("name", "wanted", "found", "verdict")} for gate in found["gates"]]
    judged = "no champion" if found["baseline"] is None else f"version {found['baseline']}"
    about = f"{registry.model} version {number}: {found['verdict']}, judged against {judged}"
    create_table_artifact(table=rows or [{"gates": "not kept"}], key=ARTIFACT, description=about)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status as the command line's: 0 done, 2 refused. From here nobody is waited for."""
    parser = argparse.ArgumentParser(prog="python -m flows.promote", description=str(promote.description))
    parser.add_argument("config", help="a YAML file, such as configs/demo.yaml")
    parser.add_argument("version", type=int)
    parser.add_argument("--to", choices=["challenger", "shadow", "champion"], default="champion")
    parser.add_argument("--why", default="by hand")
    asked = parser.parse_args(arguments)
    try:
        print(promote(PromoteParameters(**vars(asked), approval=False)))
    except BadInput as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
