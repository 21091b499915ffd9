"""The processes of a stack: PostgreSQL where it is at hand, the MLflow and the Prefect server, and a worker."""

from __future__ import annotations

import json
import signal
import sys
import urllib.error
import urllib.request

from recdistill.stack import postgres
from recdistill.stack.layout import POOL, WORKER, Stack
from recdistill.stack.processes import Service

_ASK_S = 3.0


def services(stack: Stack) -> dict[str, Service]:
    """Name -> service, in the order in which they start; they stop in the other."""
    stores = [_postgres(stack)] if stack.database == "postgresql" else []
    return {service.name: service for service in (*stores, _mlflow(stack), _prefect(stack), _worker(stack))}


def _postgres(stack: Stack) -> Service:
    return Service(
        name="postgres",
        command=postgres.command(stack),
        environment=stack.environment(),
        folder=stack.folder,
        ready=lambda: postgres.answers(stack),
        port=stack.postgres_port,
        user=postgres.account(),
        stop_with=signal.SIGINT,  # fast: ends its clients' sessions and leaves nothing to recover
    )


def _mlflow(stack: Stack) -> Service:
    """The database's address stands in the environment: a command line is for every eye."""
    serve = ["server", "--host", "127.0.0.1", "--port", str(stack.mlflow_port), "--workers", "1"]
    store = {
        "MLFLOW_BACKEND_STORE_URI": stack.database_url("mlflow", "+psycopg2" if stack.database == "postgresql" else ""),
        "MLFLOW_ARTIFACTS_DESTINATION": str(stack.folder / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return Service(
        name="mlflow",
        command=[sys.executable, "-m", "mlflow", *serve],
        environment=_without(stack.environment(), "MLFLOW_TRACKING_URI") | store,
        folder=stack.folder,
        ready=lambda: _answer(f"{stack.mlflow_url}/health") is not None,
        port=stack.mlflow_port,
    )


def _prefect(stack: Stack) -> Service:
    driver = "+asyncpg" if stack.database == "postgresql" else "+aiosqlite"
    serve = ["server", "start", "--host", "127.0.0.1", "--port", str(stack.prefect_port)]
    store = {"PREFECT_API_DATABASE_CONNECTION_URL": stack.database_url("prefect", driver)}
    return Service(
        name="prefect",
        command=[sys.executable, "-m", "prefect", *serve],
        environment=stack.environment() | store,
        folder=stack.folder,
        ready=lambda: _answer(f"{stack.prefect_api}/health") == "true",
        port=stack.prefect_port,
    )


def _worker(stack: Stack) -> Service:
    start = ["worker", "start", "--pool", POOL, "--type", "process", "--name", WORKER]
    return Service(
        name="worker",
        command=[sys.executable, "-m", "prefect", *start],
        environment=stack.environment(),
        folder=stack.folder,
        ready=lambda: _is_online(stack),
    )


def _is_online(stack: Stack) -> bool:
    body = json.dumps({"offset": 0, "limit": 100}).encode()
    found = _answer(f"{stack.prefect_api}/work_pools/{POOL}/workers/filter", body)
    return any(one["name"] == WORKER and one["status"] == "ONLINE" for one in json.loads(found or "[]"))


def _answer(url: str, body: bytes | None = None) -> str | None:
    """What a server says; None where it does not answer or not well."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=_ASK_S) as reply:
            return str(reply.read().decode())
    except (OSError, urllib.error.URLError):
        return None


def _without(environment: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key != name}
