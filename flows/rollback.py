"""The rollback flow: the champion before this one is back; python -m flows.rollback configs/demo.yaml --why drift"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from prefect import State, flow, get_run_logger
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict, Field

from flows.reconcile import announce
from recdistill.config.load import load
from recdistill.problems import BadInput
from recdistill.promotion.last_good import roll_back
from recdistill.promotion.registry import user


class RollbackParameters(BaseModel):
    """Whose champion goes back; the form in the Prefect UI is made from this."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(min_length=1, description="A YAML file, relative to the project's folder: configs/demo.yaml")
    overrides: list[str] = Field(default=[], description="section.field=value, as in registry.model=mine")
    why: str = Field(min_length=1, max_length=1000, description="The reason, kept in the history")
    who: str | None = Field(default=None, max_length=100, description="Who asks for it; empty takes the worker's user")


@flow(name="rollback", retries=0, persist_result=False, on_running=[announce])
def rollback(parameters: RollbackParameters) -> dict[str, Any] | State[Any]:
    """Put the champion before this one back. Failed where there is none.

    Where MLflow does not answer, it goes back on the worker's machine alone.
    """
    try:
        run = load(parameters.config, parameters.overrides)
        event, known = roll_back(run, why=parameters.why, who=parameters.who or user())
    except BadInput as error:  # returned: what a flow raises, Prefect pickles, whatever persist_result says
        return Failed(message=str(error), data=error)
    get_run_logger().info("%s: champion is version %d again", run.model, event.version)
    return {"model": run.model, "version": event.version, "replaced": event.replaced, "mlflow_knows": known}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status as the command line's: 0 done, 2 nothing to go back to."""
    parser = argparse.ArgumentParser(prog="python -m flows.rollback", description=str(rollback.description))
    parser.add_argument("config", help="a YAML file, such as configs/demo.yaml")
    parser.add_argument("--why", default="by hand")
    asked = parser.parse_args(arguments)
    try:
        print(rollback(RollbackParameters(**vars(asked))))
    except BadInput as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
