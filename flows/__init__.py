"""The Prefect side of the project. What is set here must be set before prefect is imported."""

import os

_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "recdistill",  # the steps' own lines reach the flow run's log,
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # and where there is none, nothing is missing
}
for _name, _value in _QUIET.items():
    os.environ.setdefault(_name, _value)
