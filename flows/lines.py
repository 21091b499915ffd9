"""Which lines reach a flow run's log: the steps' own and no others."""

from __future__ import annotations

import logging

_NOISY = ("torchrec", "torch", "alembic", "mlflow", "onnxscript", "onnx_ir")


def show_own_lines() -> None:
    """A worker's root logger would pass on every library's."""
    logging.getLogger("recdistill").setLevel(logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
