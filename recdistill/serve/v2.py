"""The Open Inference Protocol, version 2, in JSON: columns of a request as named tensors.

Source: kserve/open-inference-protocol, rest/inference_rest.yaml. An input of one row beside others of more is the
user's; the rest are the candidates'. A history is one row of as many columns as there are events. Differs: no binary
tensors, and parameters are not read.
"""

from __future__ import annotations

from math import prod
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from recdistill.serve.live import Model
from recdistill.serve.wire import Refusal, decode, limit

_WHOLE = {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"}
_NUMBERS = {"FP16", "FP32", "FP64"}


class Tensor(msgspec.Struct, forbid_unknown_fields=True):
    """One input. data: flat, or nested as its shape says."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class Output(msgspec.Struct, forbid_unknown_fields=True):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class Inference(msgspec.Struct, forbid_unknown_fields=True):
    """What POST /v2/models/NAME/infer takes."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Output] | None = None
    parameters: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(Inference)
Columns = dict[str, Any]


def read(body: bytes | bytearray, most: int) -> tuple[str | None, Columns, Columns]:
    """(id, user, candidates). Raises Refusal for what is no request."""
    inference: Inference = decode(_decoder, body)
    if inference.outputs and any(output.name != "logit" for output in inference.outputs):
        raise Refusal(400, ["outputs: wanted logit"])
    if not inference.inputs:
        raise Refusal(400, ["inputs: wanted one for each column"])
    if len({tensor.name for tensor in inference.inputs}) < len(inference.inputs):
        raise Refusal(400, ["inputs: wanted every name once"])
    rows = {tensor.name: _rows(tensor) for tensor in inference.inputs}
    num_rows = max(map(len, rows.values()))
    limit(num_rows, most)
    user = {name: values[0] for name, values in rows.items() if len(values) == 1 < num_rows}
    candidates = {name: values for name, values in rows.items() if name not in user}
    return inference.id, user, candidates


def _rows(tensor: Tensor) -> list[Any]:
    shape, data = tensor.shape, tensor.data
    if not 1 <= len(shape) <= 2 or any(size < 0 for size in shape):
        raise Refusal(400, ["shape: wanted [rows] or [rows, columns]"])
    if len(shape) == 2 and data and isinstance(data[0], list):
        if any(not isinstance(row, list) or len(row) != shape[1] for row in data):
            raise Refusal(400, ["data: wanted rows of one length"])
        data = [value for row in data for value in row]
    if len(data) != prod(shape):
        raise Refusal(400, [f"data: wanted {prod(shape)} values, found {len(data)}"])
    _check(tensor.datatype, set(map(type, data)))
    if len(shape) == 1:
        return data
    return [data[start : start + shape[1]] for start in range(0, len(data), shape[1])] if shape[1] else [[]] * shape[0]


def _check(datatype: str, kinds: set[type]) -> None:
    allowed: set[type] = {bool} if datatype == "BOOL" else {str} if datatype == "BYTES" else set()
    if datatype in _WHOLE | _NUMBERS:
        allowed = {int} if datatype in _WHOLE else {int, float}
    if not allowed:
        raise Refusal(400, ["datatype: wanted one of BOOL, BYTES, INT8 to INT64, UINT8 to UINT64, FP16 to FP64"])
    if not kinds <= allowed:
        raise Refusal(400, [f"data: wanted values of {datatype}"])


def written(model: Model, name: str, request_id: str | None, scores: NDArray[np.float32]) -> bytes:
    """The answer to an inference."""
    output = {"name": "logit", "datatype": "FP32", "shape": [len(scores)], "data": scores}
    about = {"model_name": name, "model_version": version(model), "outputs": [output]}
    if request_id is not None:
        about["id"] = request_id
    return orjson.dumps(about, option=orjson.OPT_SERIALIZE_NUMPY)


def version(model: Model) -> str:
    """A model's version in the registry, else the start of its digest."""
    return model.pointer.version or model.scorer.digest[:12]


def metadata(model: Model, name: str) -> dict[str, Any]:
    """What GET /v2/models/NAME says."""
    inputs = [{"name": n, **_tensor_type(kind)} for n, kind in model.scorer.forms.request.items()]
    outputs = [{"name": "logit", "datatype": "FP32", "shape": [-1]}]
    versions = [version(model)]
    return {"name": name, "versions": versions, "platform": "recdistill", "inputs": inputs, "outputs": outputs}


def _tensor_type(kind: pa.DataType) -> dict[str, Any]:
    if pt.is_list(kind):
        return {**_tensor_type(kind.value_type), "shape": [-1, -1]}
    if pt.is_boolean(kind):
        return {"datatype": "BOOL", "shape": [-1]}
    if pt.is_integer(kind):
        return {"datatype": "INT64", "shape": [-1]}
    return {"datatype": "FP64" if pt.is_floating(kind) else "BYTES", "shape": [-1]}
