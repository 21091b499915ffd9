"""The student that an earlier run shipped, asked about this run's candidates through its own encoder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recdistill.bundle import Bundle, bundle_digest, open_bundle, shipped_bundle
from recdistill.config.run import Run
from recdistill.data.belonging import belonging
from recdistill.data.candidates import Encoded, Pick, Pools
from recdistill.data.prepare import windows_as
from recdistill.data.split import SPLITS
from recdistill.evaluate import bundle_logits
from recdistill.problems import BadInput, problem
from recdistill.train.students.earlier import newest

SETTING = "score.candidates.student"
_SEEN = "seen-by-student"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """encoded: window -> its rows and all others, in this run's order, as the bundle's encoder sees them."""

    bundle: Bundle
    encoded: Mapping[str, Encoded]

    def logits(self, pools: Pools, window: str, pick: Pick) -> NDArray[np.float32]:
        """[n] of the candidates of a segment of a window."""
        rows = pools.rows_of(pick, self.encoded[window])
        return bundle_logits(self.bundle, rows) if len(rows) else np.zeros(0, dtype=np.float32)


def shipped_digest(run: Run, inputs: Mapping[str, Path] | None = None) -> str | None:
    """Of the earlier student's files, for the score step's key; None where candidates ask for no student.

    BadInput where its folder has no finished export step.
    """
    settings = run.score.candidates
    return None if settings is None or settings.student is None else bundle_digest(_bundle(run, settings.student))


@contextmanager
def seen_by_student(run: Run, inputs: Mapping[str, Path], out: Path) -> Iterator[None]:
    """While it lasts, the windows lie in `out` as the earlier student's encoder sees them, for every rank to open.

    Nothing happens where candidates ask for no student. BadInput where it cannot be asked about this log.
    """
    open_shipped(run, inputs, out)
    yield
    shutil.rmtree(out / _SEEN, ignore_errors=True)


def open_shipped(run: Run, inputs: Mapping[str, Path], out: Path) -> Shipped | None:
    """None where candidates ask for no student."""
    settings = run.score.candidates
    if settings is None or settings.student is None:
        return None
    bundle = open_bundle(_bundle(run, settings.student), run.threads or 1)
    (out / _SEEN).mkdir(exist_ok=True)
    try:
        theirs = run.model_copy(update={"features": bundle.encoder.features})
        own = belonging(theirs, bundle.encoder.layout)
        windows = windows_as(run, inputs["prepare"], bundle.encoder, out / _SEEN, SPLITS)
    except BadInput as error:
        raise BadInput([f"{SETTING}: {settings.student}: {line}" for line in error.problems]) from None
    encoded = {name: Encoded(windows=windows, rows=rows, own=own) for name, rows in zip(SPLITS, windows, strict=True)}
    return Shipped(bundle=bundle, encoded=encoded)


def _bundle(run: Run, folder: str) -> Path:
    """The bundle that the run in a folder shipped. BadInput where there is none, and for this run's own folder."""
    if Path(folder).resolve() == Path(run.folder).resolve():
        remedy = "give this run another root"
        raise BadInput(problem(f"{SETTING}: {folder}", wanted="an earlier run", found="this one", remedy=remedy))
    return shipped_bundle(newest(Path(folder), "export", SETTING))
