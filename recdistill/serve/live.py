"""The model in service: replaced in one assignment by another that has answered its golden requests, or not at all."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from recdistill.serve.golden import check_golden
from recdistill.serve.metrics import REFUSED, SERVING, SWAPS
from recdistill.serve.scorer import Scorer
from recdistill.serve.settings import Settings
from recdistill.serve.store import Pointer, read_current

logger = logging.getLogger("recdistill.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A scorer that has passed. prefix: how every answer of it begins."""

    scorer: Scorer
    pointer: Pointer
    golden: int
    prefix: bytes


def load(pointer: Pointer, settings: Settings) -> Model:
    """Open, check and warm a bundle. BadInput says why it is not to be served."""
    items = None if settings.items is None else pq.read_table(settings.items)
    scorer = Scorer(Path(pointer.folder), items=items, item_key=settings.item_key)
    golden = check_golden(scorer)
    prefix = b'{"model":"%s","scores":' % scorer.digest[:12].encode()
    return Model(scorer=scorer, pointer=pointer, golden=golden, prefix=prefix)


class Live:
    """The champion and, in shadow mode, the challenger. model: None until the first has passed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model: Model | None = None
        self.challenger: Model | None = None
        self.refused: dict[str, str] = {}  # digest -> why

    def refresh(self) -> None:
        """Follow what the state folder says. A bundle that fails is remembered and not tried again."""
        current = read_current(Path(self.settings.state))
        if current is None:
            return
        champion = self._next(self.model, current.champion)
        if champion is not None and champion is not self.model:
            self.model = champion
            self._note()
            SWAPS.inc()
            SERVING.set(time.time())
            logger.info("serving %s (version %s)", champion.scorer.digest[:12], champion.pointer.version or "-")
        if current.challenger is None or not self.settings.shadow_share:
            self.challenger = None
        else:
            self.challenger = self._next(self.challenger, current.challenger)

    def _note(self) -> None:
        if self.settings.loaded is not None:
            (Path(self.settings.loaded) / str(self.settings.socket)).touch()

    @property
    def num_loaded(self) -> int:
        """How many of the server's processes have a model, or had one: a process that starts again loads it first."""
        return int(self.model is not None) if self.settings.loaded is None else len(os.listdir(self.settings.loaded))

    def _next(self, present: Model | None, wanted: Pointer) -> Model | None:
        if (present is not None and present.pointer.digest == wanted.digest) or wanted.digest in self.refused:
            return present
        try:
            return load(wanted, self.settings)
        except Exception as error:  # whatever is wrong with it, the present one goes on
            self.refused[wanted.digest] = str(error)
            REFUSED.inc()
            logger.error("%s is not served: %s", wanted.digest[:12], error)
            return present
