"""The schema of a raw request as JSON Schema, for callers who do not speak Arrow."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as pt

REQUEST = "request.json"


def request_schema(schema: pa.Schema) -> dict[str, Any]:
    """One row as an object: every column required, null where a value is unknown, lists oldest first.

    >>> request_schema(pa.schema([("price", pa.float64())]))["properties"]
    {'price': {'type': ['number', 'null']}}
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {field.name: _type(field.type) for field in schema},
        "required": schema.names,
    }


def _type(kind: pa.DataType) -> dict[str, Any]:
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return {"type": ["array", "null"], "items": _type(kind.value_type)}
    if pt.is_dictionary(kind):
        return _type(kind.value_type)
    if pt.is_boolean(kind):
        name = "boolean"
    elif pt.is_integer(kind):
        name = "integer"
    elif pt.is_floating(kind) or pt.is_decimal(kind):
        name = "number"
    elif pt.is_timestamp(kind):
        return {"type": ["string", "null"], "format": "date-time"}
    else:
        name = "string"
    return {"type": [name, "null"]}
