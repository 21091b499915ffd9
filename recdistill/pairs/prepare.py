"""The prepare step of pairs: log -> k-core -> windows -> two vocabularies -> the store of rows, all positives."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.config.run import Run
from recdistill.data.columns import Source
from recdistill.data.encoder import Encoder
from recdistill.data.split import SPLITS
from recdistill.data.store import ROWS, record_type
from recdistill.data.tables import Table, Vocabulary
from recdistill.files import write_json
from recdistill.pairs.log import Positives, open_positives, read_positives
from recdistill.pairs.split import TRAIN, k_core, which_window
from recdistill.problems import BadInput, problem
from recdistill.types import FIRST_KNOWN, IdFeature, Layout

logger = logging.getLogger("recdistill")


def prepare(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write encoder/, rows/ and data.json, as the other shape does; a row's ids are its user and its item.

    Users and items that the train window does not hold are left out of the others, and counted in data.json.
    """
    log = open_positives(run)
    every = read_positives(run, log)
    positives, window = windowed(run, every)
    encoder = fit(run, positives, window)
    ids = np.column_stack([_known(side, window) for side in (positives.user, positives.item)])
    is_known = (ids >= 0).all(axis=1)
    about: dict[str, Any] = {}
    for number, name in enumerate(SPLITS):
        here = np.flatnonzero((window == number) & is_known)
        _write(out / "rows" / name, positives, ids, here)
        unseen = int(((window == number) & ~is_known).sum())
        about[name] = {"rows": len(here), "positives": len(here), "unseen": unseen}
    _check(about, log.source)
    (out / "events").mkdir()
    encoder.save(out / "encoder")
    times = positives.time[window >= 0]
    ends = _windows(positives, window, int(times.min()), int(times.max()) + 1)
    about |= {"num_users": encoder.layout.ids[0].num_rows - FIRST_KNOWN, "read": len(every)}
    about |= {"num_items": encoder.layout.ids[1].num_rows - FIRST_KNOWN, "windows": ends, "encoder": encoder.digest}
    about |= {"fingerprint": log.fingerprint, "num_files": len(log.files), "source": log.source, "extra": log.extra}
    _say(about)
    write_json(out / "log.json", log.to_json())
    write_json(out / "data.json", about)


def windowed(run: Run, every: Positives) -> tuple[Positives, NDArray[np.int8]]:
    """The pairs of the k-core, and the window of each. BadInput where nothing is left."""
    assert run.data.pairs is not None
    kept = np.flatnonzero(k_core(every.user, every.item, run.data.pairs.core))
    if not len(kept):
        found, remedy = f"core: {run.data.pairs.core}, of which there is none", "lower it"
        raise BadInput(problem("data.pairs.core", wanted="a core of the log", found=found, remedy=remedy))
    left = Positives(
        user=every.user[kept],
        item=every.item[kept],
        user_values=every.user_values,
        item_values=every.item_values,
        time=every.time[kept],
        row_id=every.row_id[kept],
        part=every.part[kept],
    )
    return left, which_window(left, run.data, np.random.default_rng([run.seed, 11]))


def fit(run: Run, positives: Positives, window: NDArray[np.int8]) -> Encoder:
    """Two features of one value each, known by the train window."""
    features: list[IdFeature] = []
    tables: dict[str, Table] = {}
    columns = (run.data.user, run.features.titles[1])
    sides = ((positives.user, positives.user_values), (positives.item, positives.item_values))
    for place, (name, (numbers, values)) in enumerate(zip(columns, sides, strict=True)):
        known = Vocabulary(name=name, values=values.take(pa.array(np.unique(numbers[window == TRAIN]))))
        tables[name], rows = known, known.num_rows
        features.append(IdFeature(name=name, table=name, start=place, width=1, num_rows=rows, kind="single"))
    return Encoder(
        features=run.features,
        layout=Layout(ids=tuple(features), dense=()),
        sources={name: Source(columns=(name,)) for name in columns},
        tables=tables,
        scales=(),
        means={},
        served={},
    )


def _known(numbers: NDArray[np.int64], window: NDArray[np.int8]) -> NDArray[np.int64]:
    """[N] ids from 2 on by the train window; -1 for what it does not hold."""
    known = np.unique(numbers[window == TRAIN])
    place = np.minimum(np.searchsorted(known, numbers), max(len(known) - 1, 0))
    return np.where(known[place] == numbers, place + FIRST_KNOWN, -1) if len(known) else np.full(len(numbers), -1)


def _write(folder: Path, positives: Positives, ids: NDArray[np.int64], here: NDArray[np.int64]) -> None:
    """One window as the store has it: by user, then in time."""
    here = here[np.lexsort((positives.row_id[here], positives.time[here], ids[here, 0]))]
    kind = record_type(2, 0, int(ids.max(initial=0)) + 1, past=False)
    records = np.zeros(len(here), dtype=kind)
    records["row_id"], records["time"] = positives.row_id[here], positives.time[here]
    records["user"] = records["request"] = ids[here, 0]
    records["label"], records["ids"] = 1.0, ids[here]
    folder.mkdir(parents=True)
    np.save(folder / ROWS, records, allow_pickle=False)


def _windows(positives: Positives, window: NDArray[np.int8], start: int, end: int) -> dict[str, int]:
    """Where each window begins, as far as they follow one another in time: else all of them hold the whole time."""
    found = {"start": start, "valid": start, "test": start, "end": end, "embargo": 0}
    later = [positives.time[window == number] for number in (0, 1, 2)]
    if all(len(times) for times in later) and later[0].max() < later[1].min() and later[1].max() < later[2].min():
        found |= {"valid": int(later[1].min()), "test": int(later[2].min())}
    return found


def _check(about: Mapping[str, Any], source: str) -> None:
    lines = [
        problem(f"{source}: {name} window", wanted="pairs", found="none", remedy="mend data.split or data.pairs")
        for name in SPLITS
        if not about[name]["rows"]
    ]
    if lines:
        raise BadInput(lines)


def _say(about: Mapping[str, Any]) -> None:
    text = "pairs: %s read; %s users, %s items; train %s, valid %s, test %s"
    counts = [about["read"], about["num_users"], about["num_items"], *(about[name]["rows"] for name in SPLITS)]
    logger.info(text, *(f"{count:,}" for count in counts))
