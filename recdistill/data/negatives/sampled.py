"""Negatives for a log of positives only, as a log of its own; and the thinning of negatives that are there already."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recdistill.code import code_digest
from recdistill.config.run import Run
from recdistill.data.log.listing import Log
from recdistill.data.negatives.check import check_source
from recdistill.data.negatives.draw import uniform
from recdistill.data.negatives.write import write_sampled
from recdistill.files import damage, digest, manifest, whole_folder

_KEEPING = 2**63  # a draw that no negative has
_DEPENDS_ON = ("negatives", "time", "time_unit", "user", "request", "start", "end")

logger = logging.getLogger("recdistill")


def sampled_log(run: Run, log: Log, root: Path) -> Path:
    """The folder under `root` of the log's positives with their negatives: reused where it is there, else written.

    BadInput for a config or a log that does not fit sampling.
    """
    check_source(run, log)
    data = run.section("data")["data"]
    settings = {name: data[name] for name in _DEPENDS_ON}
    about = {"log": log.fingerprint, "data": settings, "seed": run.seed, "code": code_digest(Path(__file__))}
    key = digest(about)
    folder = root / f"sampled-{key[:12]}"
    if (manifest(folder) or {}).get("key") == key and not damage(folder):
        return folder
    found: dict[str, int] = {}
    with whole_folder(folder, {"key": key, **about, "found": found}) as out:
        found |= write_sampled(log, out, run.data, run.seed)
    logger.info(
        "negatives: %s for %s positives among %s items; %s draws were dropped, as items of the same request; for %s "
        "positives nothing was known to draw from; %s rows lack a time, an item or a request",
        *(f"{found[name]:,}" for name in ("negatives", "positives", "items", "dropped", "nothing_known", "unusable")),
    )
    return folder


def kept(row_id: NDArray[np.int64], label: NDArray[np.float32], rate: float, seed: int) -> NDArray[np.bool_]:
    """[n] whether a row stays when negatives are thinned: every positive, and a negative by its own number's chance.

    Thinning multiplies the odds of the label by 1 / rate: with -log(rate) added to the logit in training, on rows of
    both labels, scores stay those of the whole log.
    """
    return (label > 0) | (uniform(seed, row_id, _KEEPING) < rate)
