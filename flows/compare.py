"""The comparison flow: recipes and controls under one budget, their table as an artifact and in MLflow."""

from pathlib import Path
from typing import Annotated, Any

from prefect import State, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict, Field

from flows.lines import show_own_lines
from flows.reconcile import announce
from recdistill.api import compare_recipes
from recdistill.compare.table import as_markdown
from recdistill.config.load import load
from recdistill.files import read_json
from recdistill.problems import BadInput

ARTIFACT = "comparison"


class CompareParameters(BaseModel):
    """Which recipes are compared; the form in the Prefect UI is made from this."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(min_length=1, description="A YAML file, relative to the project's folder: configs/demo.yaml")
    recipes: list[str] = Field(
        min_length=1, description="Names of configs/recipes/NAME.yaml; the control without a teacher always takes part"
    )
    overrides: list[Annotated[str, Field(pattern=r"^[^=\s]+=")]] = Field(
        default=[], description="section.field=value, as in student.epochs=2"
    )
    seeds: int = Field(default=3, ge=1, description="How many students of each recipe")
    processes: int = Field(default=1, ge=1, description="Trainings at a time; give each threads=1")


@flow(name="compare", retries=0, persist_result=False, on_running=[announce])
def compare(parameters: CompareParameters) -> dict[str, Any] | State[Any]:
    """Who recovers how much of the teacher's lead: {"mlflow_run": its id, "recovery": {recipe: value, low, high}}.

    A comparison that was killed goes on: what is trained already is not trained again.
    """
    show_own_lines()
    try:
        return compared(parameters)
    except Exception as error:  # returned: what a flow raises, Prefect keeps
        if not isinstance(error, BadInput):
            get_run_logger().exception("not foreseen")
        return Failed(message=str(error), data=error)


def compared(parameters: CompareParameters) -> dict[str, Any]:
    """The work of the flow, after the artifact that shows it."""
    run = load(parameters.config, parameters.overrides)
    run_id = compare_recipes(
        parameters.config,
        parameters.recipes,
        *parameters.overrides,
        seeds=parameters.seeds,
        processes=parameters.processes,
    )
    found = read_json(Path(run.folder) / "compare" / "comparison.json")
    create_markdown_artifact(as_markdown(found, run.gates.metric), key=ARTIFACT)
    return {"mlflow_run": run_id, "recovery": {one["name"]: one.get("recovery") for one in found["models"]}}
