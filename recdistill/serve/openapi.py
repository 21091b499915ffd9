"""The OpenAPI page: what the server of a given bundle takes and answers."""

from __future__ import annotations

from typing import Any

from recdistill import __version__
from recdistill.serve.scorer import Scorer
from recdistill.serve.settings import Settings
from recdistill.ship.request_schema import request_schema

Json = dict[str, Any]


def openapi(scorer: Scorer, settings: Settings) -> Json:
    """OpenAPI 3.1, with the columns of this bundle."""
    import pyarrow as pa

    columns = request_schema(pa.schema(list(scorer.forms.request.items())))["properties"]
    lists = {name: {"type": "array", "items": kind, "maxItems": settings.candidates} for name, kind in columns.items()}
    request = {
        "type": "object",
        "additionalProperties": False,
        "required": ["user"],
        "properties": {
            "user": {"type": "object", "properties": columns, "description": "columns equal for all candidates"},
            "items": {
                "type": "array",
                "items": {"type": ["integer", "string"]},
                "maxItems": settings.candidates,
                "description": f"keys of candidates that the server knows by {scorer.about['item_key']}",
            },
            "candidates": {"type": "object", "properties": lists, "description": "columns with a value a candidate"},
            "top": {"type": "integer", "minimum": 1, "description": "how many of the best to return"},
        },
    }
    answer = {
        "type": "object",
        "properties": {
            "model": {"type": "string", "description": "the start of the bundle's digest"},
            "scores": {"type": "array", "items": {"type": "number"}, "description": "logits"},
            "order": {"type": "array", "items": {"type": "integer"}, "description": "with top: places of the best"},
        },
    }
    paths = {
        "/score": {"post": _operation("Scores of a request's candidates", answer, request)},
        f"/v2/models/{settings.name}/infer": {"post": _operation("Open Inference Protocol v2", {}, {})},
        **{path: {"get": _operation(text, {})} for path, text in _PAGES.items()},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "recdistill", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}] if settings.token is not None else [],
    }


_PAGES = {
    "/health/live": "The process runs",
    "/health/ready": "A model has answered its golden requests",
    "/metrics": "Prometheus metrics of all processes",
    "/about": "The bundle that is served, and how",
}
_ERRORS = {
    "400": "bad columns or values",
    "401": "no token, or a wrong one",
    "408": "the body came too slowly",
    "413": "too long a body or too many candidates",
    "415": "a compressed body",
    "503": "too many requests wait, or there is no model yet; see Retry-After",
}


def _operation(summary: str, answer: Json, request: Json | None = None) -> Json:
    said: Json = {"summary": summary, "responses": {"200": _content("as asked", answer)}}
    if request is not None:
        said["requestBody"] = {"required": True, "content": {"application/json": {"schema": request}}}
        said["responses"] |= {status: {"description": text} for status, text in _ERRORS.items()}
    return said


def _content(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
