"""The cleaning flow: old steps and versions that nothing needs, listed or removed."""

from typing import Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict, Field

from flows.lines import show_own_lines
from flows.reconcile import announce
from recdistill.config.load import load
from recdistill.problems import BadInput
from recdistill.retention.clean import clean

ARTIFACT = "cleanup-result"


class CleanupParameters(BaseModel):
    """What may go. Champion, challenger, shadow, reference, the last three champions and runs at work never do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(min_length=1, description="A YAML file, relative to the project's folder: configs/demo.yaml")
    days: float = Field(default=30.0, ge=0, description="Only what is older than so many days")
    keep: int = Field(default=3, ge=1, description="The last publications and versions that stay, whatever their age")
    delete: bool = Field(default=False, description="Really remove it; left off, it is only listed")


@flow(name="cleanup", retries=0, persist_result=False, on_running=[announce])
def cleanup(parameters: CleanupParameters) -> dict[str, Any] | State[Any]:
    """What went, or would go. Failed where the config is wrong or the tracking store does not answer."""
    show_own_lines()
    try:
        asked = parameters.model_dump(exclude={"config"})
        found = clean(load(parameters.config, []), **asked)
    except BadInput as error:
        return Failed(message=str(error), data=error)
    create_markdown_artifact(markdown(found), key=ARTIFACT)
    return found


def markdown(found: dict[str, Any]) -> str:
    """The result as an artifact: what goes, and what is protected and why."""
    total = sum(folder["bytes"] for folder in found["folders"])
    gone = [f"- `{folder['path']}`: {folder['bytes']:,} bytes" for folder in found["folders"]]
    stays = [f"- version {number}: {why}" for number, why in found["protected"].items()]
    return "\n".join(
        [
            f"# {'Removed' if found['deleted'] else 'To be removed'}: {len(gone)} folders, {total:,} bytes",
            *gone,
            f"\nVersions: {', '.join(map(str, found['versions'])) or 'none'}",
            "\n## Protected",
            *(stays or ["- nothing"]),
        ]
    )
