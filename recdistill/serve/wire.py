"""The plain JSON form: a request's bytes to columns, scores to bytes; strict, and silent about values."""

from __future__ import annotations

from array import array
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from recdistill.problems import BadInput


class Request(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What POST /score takes. Either items, or candidates, or both. top: how many of the best to return; None: all."""

    user: dict[str, Any]
    items: list[int | str] | None = None
    candidates: dict[str, list[Any]] | None = None
    top: int | None = None


class Refusal(Exception):
    """An answer other than 200: its status, and lines that hold no value of the request."""

    def __init__(self, status: int, lines: list[str], **headers: str) -> None:
        super().__init__(status)
        self.status, self.lines, self.headers = status, lines, headers


_decoder = msgspec.json.Decoder(Request)


def decode(decoder: msgspec.json.Decoder[Any], body: bytes | bytearray) -> Any:
    """The typed value of a body. Raises Refusal 400 for anything else."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, [f"body: {_without_values(str(error))}"]) from None
    except RecursionError:
        raise Refusal(400, ["body: nested too deeply"]) from None


def _without_values(message: str) -> str:
    """What msgspec says of types and places; a name that the caller made up is left out."""
    return message if "`" not in message or "expected" in message.lower() else message.split("`")[0].strip()


def read(body: bytes | bytearray, most: int) -> Request:
    """Raises Refusal for what is no request, or has too many candidates."""
    request: Request = decode(_decoder, body)
    limit(max([0, len(request.items or ()), *map(len, (request.candidates or {}).values())]), most)
    if request.top is not None and request.top < 1:
        raise Refusal(400, ["top: wanted 1 or more"])
    return request


def keys(items: list[int | str] | None) -> Any:
    """An array where all are whole numbers of 64 bits: then nobody looks at them one by one again.

    >>> keys([7, -5]).dtype.str, keys([7, "5"]), keys([2**63])
    ('<i8', [7, '5'], [9223372036854775808])
    """
    if items is None:
        return None
    try:
        return np.asarray(array("q", items))  # type: ignore[type-var]
    except (TypeError, OverflowError):
        return items


def limit(num: int, most: int) -> None:
    """Raises Refusal 413 for more candidates than are scored at once."""
    if num > most:
        raise Refusal(413, [f"candidates: wanted at most {most}, found {num}"])


def refusal(error: BadInput) -> Refusal:
    """Bad columns as an answer."""
    return Refusal(400, error.problems)


def written(prefix: bytes, scores: NDArray[np.float32]) -> bytes:
    """{"model": .., "scores": [..]}."""
    return prefix + orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY) + b"}"


def written_top(prefix: bytes, scores: NDArray[np.float32], order: NDArray[np.int64]) -> bytes:
    """The same of the best, with their places among the candidates."""
    found = orjson.dumps(scores[order], option=orjson.OPT_SERIALIZE_NUMPY)
    return prefix + found + b',"order":' + orjson.dumps(order, option=orjson.OPT_SERIALIZE_NUMPY) + b"}"
