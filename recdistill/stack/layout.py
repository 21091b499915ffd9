"""What a local stack is made of: one folder for all its state, its ports on loopback, its addresses."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from recdistill import files
from recdistill.problems import BadInput, problem

Database = Literal["postgresql", "sqlite"]
POOL = "recdistill"
WORKER = "recdistill-local"
_SETTINGS = "stack.json"
_NOT_OURS = ("PREFECT_", "MLFLOW_")  # of an outer server: they would lead the stack's services astray


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack's folder (absolute), the project that it serves, and its ports on 127.0.0.1.

    database: of both servers. A stack keeps the kind that it began with, because its state is in there.
    """

    folder: Path
    project: Path
    prefect_port: int
    mlflow_port: int
    postgres_port: int
    database: Database

    @property
    def prefect_api(self) -> str:
        return f"http://127.0.0.1:{self.prefect_port}/api"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    def database_url(self, name: str, driver: str) -> str:
        """SQLAlchemy's address of one server's database; driver: +psycopg2, +asyncpg, +aiosqlite or nothing."""
        if self.database == "sqlite":
            return f"sqlite{driver}:///{self.folder}/{name}.db"
        password = (self.folder / "postgres/password").read_text()
        return f"postgresql{driver}://recdistill:{password}@127.0.0.1:{self.postgres_port}/{name}"

    def environment(self) -> dict[str, str]:
        """What every process of the stack sees: its own servers and no others, no telemetry, results as JSON."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
        return {
            **clean,
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "PREFECT_API_URL": self.prefect_api,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "RECDISTILL_HOME": str(self.project),
        }

    def write(self) -> None:
        files.write_json(self.folder / _SETTINGS, {**asdict(self), "folder": ".", "project": str(self.project)})


def open_stack(folder: Path) -> Stack:
    """The stack that `up` made there. BadInput where there is none."""
    path = folder / _SETTINGS
    if not path.is_file():
        found = f"no {_SETTINGS} in it"
        raise BadInput(problem(str(folder), wanted="a stack", found=found, remedy="start one: `recdistill stack up`"))
    settings = files.read_json(path)
    return Stack(**{**settings, "folder": folder.resolve(), "project": Path(settings["project"])})
