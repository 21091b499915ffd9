"""Asks the registry which bundle is champion and fetches it: python -m recdistill.serve.watch, beside the server.

A process of its own, because MLflow may hang, and so that no process that answers requests ever loads it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from recdistill.problems import BadInput, problem
from recdistill.serve.store import Current, Pointer, keep, read_current, write_current

if TYPE_CHECKING:
    from recdistill.promotion.registry import Registry

logger = logging.getLogger("recdistill.serve")


class Watch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """model: a registered name. champion, challenger: an alias of it or a version; challenger: None for no shadow."""

    uri: str
    model: str
    state: str
    champion: str
    challenger: str | None = None
    every_s: float = 10.0


def follow(registry: Registry, watch: Watch) -> None:
    """Look, after the registry was told what happened here without it; what a rollback needs stays here."""
    from recdistill.promotion.last_good import remember, replay

    of_champion = watch.champion == "champion"
    if of_champion:
        replay(registry, Path(watch.state))
    look(registry, watch)
    if of_champion:
        remember(registry, Path(watch.state))


def look(registry: Registry, watch: Watch) -> None:
    """Fetch what the aliases name now, where that is new, and say so to the server. BadInput where it cannot be."""
    state = Path(watch.state)
    present = read_current(state)
    champion = _fetched(registry, watch.champion, state, None if present is None else present.champion)
    if champion is None:
        remedy = "promote a version, or serve a bundle's folder"
        raise BadInput(problem(watch.model, wanted=f"a version under {watch.champion}", found="none", remedy=remedy))
    challenger = None
    if watch.challenger is not None:
        challenger = _fetched(registry, watch.challenger, state, None if present is None else present.challenger)
    found = Current(champion=champion, challenger=challenger)
    if found != present:
        write_current(state, found)


def _fetched(registry: Registry, name: str, state: Path, present: Pointer | None) -> Pointer | None:
    version = registry.version(int(name)) if name.isdigit() else registry.aliased(name)
    if version is None:
        return None
    digest = version.tags.get("bundle_sha256", "")
    same = present is not None and (present.version, present.digest) == (str(version.version), digest)
    if same and present is not None and Path(present.folder).is_dir():
        return present
    with registry.download(version) as folder:
        return keep(folder, state, str(version.version), digest)


def main() -> None:
    """Look for ever; what goes wrong is logged and tried again."""
    watch = msgspec.json.decode(sys.stdin.buffer.read(), type=Watch)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s watch %(message)s", stream=sys.stderr)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    from recdistill.promotion.registry import open_store
    from recdistill.serve.orphan import end_with_parent

    end_with_parent()
    said = ""
    while True:
        try:
            follow(open_store(watch.uri, watch.model), watch)
            said = ""
        except Exception as error:  # of the network, the store, the artifact: what is served stays
            if str(error) != said:
                said = str(error)
                logger.warning("the registry does not help: %s", said.splitlines()[0][:300])
        time.sleep(watch.every_s)


if __name__ == "__main__":
    main()
