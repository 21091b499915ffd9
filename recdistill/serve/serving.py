"""From what the command line says to a running server: which bundle, from where, and what is remembered of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdistill.problems import BadInput, problem
from recdistill.serve.settings import Settings
from recdistill.serve.store import Current, pointer, write_current
from recdistill.serve.supervisor import check_token, run, state_of

_URI = re.compile(r"models:/([A-Za-z0-9_.-]+)(?:@([A-Za-z0-9_-]+)|/([0-9]+))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What `recdistill serve` was asked for; the fields are its options."""

    model: str
    shadow: str | None
    items: Path | None
    item_key: str | None
    shadow_share: float
    queue: int
    body_bytes: int
    candidates: int
    every_s: float
    uri: str | None
    token: str | None
    state: Path | None
    log: Path | None
    log_columns: tuple[str, ...]


def start(serving: Serving, *, host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM. BadInput, before anything is started, for what can be seen to be wrong."""
    check_token(host, serving.token)
    named = registered(serving.model)
    name = Path(serving.model).resolve().name if named is None else named[0]
    state = state_of(_folder_name(serving.model, name), serving.state)
    watch: dict[str, Any] | None = None
    if named is None:
        champion = pointer(Path(serving.model))
        challenger = None if serving.shadow is None else pointer(Path(serving.shadow))
        write_current(state, Current(champion=champion, challenger=challenger))
    else:
        other = None if serving.shadow is None else _same_model(serving.shadow, name)
        watch = {"uri": _uri(serving.uri, serving.model), "model": name, "state": str(state)}
        watch |= {"champion": named[1], "challenger": other, "every_s": serving.every_s}
    if serving.log is not None:
        _make(serving.log)
    settings = Settings(
        name=name,
        state=str(state),
        token=serving.token,
        items=None if serving.items is None else str(serving.items.resolve()),
        item_key=serving.item_key,
        queue=serving.queue,
        body_bytes=serving.body_bytes,
        candidates=serving.candidates,
        shadow_share=serving.shadow_share if serving.shadow is not None else 0.0,
        log=None if serving.log is None else str(serving.log.resolve()),
        log_columns=serving.log_columns,
    )
    run(settings, host, port, workers, watch)


@contextmanager
def local_bundle(model: str, uri: str | None) -> Iterator[Path]:
    """The folder of a bundle, fetched where the registry has it. BadInput where it is not to be had."""
    named = registered(model)
    if named is None:
        yield Path(model)
        return
    from recdistill.promotion.registry import open_store

    registry = open_store(_uri(uri, model), named[0])
    version = registry.version(int(named[1])) if named[1].isdigit() else registry.aliased(named[1])
    if version is None:
        remedy = "promote a version, or give a bundle's folder"
        raise BadInput(problem(model, wanted="a version under that alias", found="none", remedy=remedy))
    with registry.download(version) as folder:
        yield folder


def registered(model: str) -> tuple[str, str] | None:
    """(name, alias or version) of models:/..; None for a folder. BadInput for what is neither."""
    if not model.startswith("models:"):
        return None
    found = _URI.fullmatch(model)
    if found is None:
        remedy = "as in models:/ml-1m@champion or models:/ml-1m/7"
        raise BadInput(
            problem(model[:80], wanted="models:/NAME@ALIAS or models:/NAME/VERSION", found="another", remedy=remedy)
        )
    return found[1], found[2] or found[3]


def _make(folder: Path) -> None:
    """BadInput where the log cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "give --log another"
        raise BadInput(problem(str(folder), wanted="a folder", found=str(error.strerror), remedy=remedy)) from None


def champion_state(model: str, root: Path | None) -> Path:
    """Where a server on this machine remembers that follows models:/MODEL@champion; root: its --state."""
    return state_of(_folder_name(f"models:/{model}@champion", model), root)


def _same_model(shadow: str, name: str) -> str:
    named = registered(shadow)
    if named is None or named[0] != name:
        remedy = f"as in models:/{name}@challenger"
        raise BadInput(problem("shadow", wanted=f"another version of {name}", found=shadow[:80], remedy=remedy))
    return named[1]


def _uri(uri: str | None, model: str) -> str:
    if uri is None:
        remedy = "give --tracking-uri or set MLFLOW_TRACKING_URI"
        raise BadInput(problem(model, wanted="a tracking store to find it in", found="none", remedy=remedy))
    return uri


def _folder_name(model: str, name: str) -> str:
    """Of the state: two bundles of one name in different places remember apart."""
    place = model if model.startswith("models:") else str(Path(model).resolve())
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
