"""A bundle's graph as an MLflow model of the ONNX flavour, which `mlflow models serve` loads without recdistill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from recdistill.bundle import GRAPH
from recdistill.files import whole_folder
from recdistill.ship.graph_check import check_graph

_TYPES: dict[int, np.dtype[Any]] = {TensorProto.INT64: np.dtype(np.int64), TensorProto.FLOAT: np.dtype(np.float32)}


def as_mlflow(bundle: Path, out: Path) -> None:
    """Write OUT/model: {"inputs": {"ids": .., "dense": ..}} -> {"predictions": {"logit": ..}}, without any pickle."""
    import mlflow.onnx
    from mlflow.models import ModelSignature

    model = check_graph((bundle / GRAPH).read_bytes(), str(bundle / GRAPH))
    signature = ModelSignature(inputs=_schema(model.graph.input), outputs=_schema(model.graph.output))
    with whole_folder(out, {"kind": "mlflow"}) as folder:
        mlflow.onnx.save_model(
            model,
            str(folder / "model"),
            signature=signature,
            save_as_external_data=False,
            onnx_execution_providers=["CPUExecutionProvider"],
            onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        )


def _schema(values: Any) -> Any:
    from mlflow.types import Schema, TensorSpec

    return Schema(
        [
            TensorSpec(
                _TYPES[value.type.tensor_type.elem_type],
                (-1, *(dimension.dim_value for dimension in value.type.tensor_type.shape.dim[1:])),
                value.name,
            )
            for value in values
        ]
    )
