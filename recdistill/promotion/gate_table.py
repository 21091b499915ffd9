"""A decision as a table of the run in MLflow, as mlflow.load_table reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recdistill.promotion.registry import Registry

TABLE = "gates.json"
_COLUMNS = ("name", "wanted", "found", "verdict")


def log_gates(registry: Registry, run_id: str, decision: Mapping[str, Any]) -> None:
    """Write every gate as a line. Not by mlflow.log_table, which would add the lines again on a repeat."""
    lines = [[gate[name] for name in _COLUMNS] for gate in decision["gates"]]
    registry.client.log_dict(run_id, {"columns": list(_COLUMNS), "data": lines}, TABLE)
    registry.client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": TABLE, "type": "table"}]))
