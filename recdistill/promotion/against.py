"""A version of the registry against the candidate on the same rows: the files, their seeds, and every slice."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.bundle import open_bundle
from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import windows_as
from recdistill.data.store import Rows, open_rows
from recdistill.evaluate import SCORES, bundle_logits, compare, draws_for, judged_rows
from recdistill.files import read_json
from recdistill.metrics.bootstrap import Bootstrap, interval, simultaneous
from recdistill.metrics.measure import RANKING
from recdistill.metrics.rows import Floats, numbered
from recdistill.metrics.rows import Rows as Judged
from recdistill.metrics.seed_noise import beyond_seeds
from recdistill.problems import BadInput
from recdistill.promotion.registry import Registry
from recdistill.promotion.seeds import seeds_of
from recdistill.promotion.slices import slices
from recdistill.ship.write_bundle import bundle_name

_SHOWN = ("auc", "gauc", "ndcg_at_10", "log_loss", "ne", "ece")
Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side's logits of the test window, in its order: of the file that ships, and of every seed."""

    shipped: Logits
    seeds: tuple[Logits, ...]


def candidate(run: Run, inputs: Mapping[str, Path]) -> Side:
    """The run's own side, as the evaluate step scored it."""
    with pa.ipc.open_file(pa.memory_map(str(inputs["evaluate"] / SCORES))) as reader:
        table = reader.read_all()
    names = [bundle_name("student", number) for number in range(run.student.seeds)]
    shipped = read_json(inputs["export"] / "export.json")["shipped"]
    return Side(shipped=table.column(shipped).to_numpy(), seeds=tuple(table.column(n).to_numpy() for n in names))


def champion(run: Run, inputs: Mapping[str, Path], registry: Registry, number: int, out: Path) -> dict[str, Any]:
    """{"version", "difference" (metric -> [value, low, high]), "value" (its own, by the gates' metric), "window_end",
    "candidate_window_end", "slices"} and, where gates.superior asks, "beyond_seeds" and "num_seeds"; {"version",
    "error"} for one that cannot score this log.
    """
    rows, ours = open_rows(inputs["prepare"], "test"), candidate(run, inputs)
    try:
        theirs = _theirs(run, inputs, registry, number, out, with_seeds=run.gates.superior)
    except BadInput as error:
        return _unfit(number, error)
    found = {
        "version": number,
        "difference": compare(run, rows, ours.shipped, theirs.shipped, _SHOWN),
        "window_end": int(registry.version(number).tags.get("window_end", "0")),
        "candidate_window_end": read_json(inputs["prepare"] / "data.json")["windows"]["end"],
    }
    judged = judged_rows(run, rows)
    drawn = draws_for(run, judged)
    alone = RANKING[run.gates.metric](theirs.shipped.astype(np.float64), judged, drawn.weights)
    found["value"] = interval(alone).to_json()
    found["slices"] = _in_slices(run, inputs, rows, judged, drawn, ours, theirs)
    if run.gates.superior:
        found |= _beyond_seeds(run, judged, drawn, ours.seeds, theirs.seeds)
    return found


def reference(run: Run, inputs: Mapping[str, Path], registry: Registry, number: int, out: Path) -> dict[str, Any]:
    """{"version", "difference"} against the frozen champion, or {"version", "error"}."""
    rows, ours = open_rows(inputs["prepare"], "test"), candidate(run, inputs)
    try:
        theirs = _theirs(run, inputs, registry, number, out, with_seeds=False)
    except BadInput as error:
        return _unfit(number, error)
    return {"version": number, "difference": compare(run, rows, ours.shipped, theirs.shipped, _SHOWN)}


def _unfit(number: int, error: BadInput) -> dict[str, Any]:
    return {"version": number, "error": f"version {number} cannot score this log: {error.problems[0]}"}


def _theirs(
    run: Run, inputs: Mapping[str, Path], registry: Registry, number: int, out: Path, *, with_seeds: bool
) -> Side:
    """A version's logits, the rows encoded by its own encoder."""
    version, threads = registry.version(number), run.threads or 1
    with registry.download(version) as folder, tempfile.TemporaryDirectory(dir=out) as scratch:
        bundle = open_bundle(folder, threads)
        (theirs,) = windows_as(run, inputs["prepare"], bundle.encoder, Path(scratch), ("test",))
        seeds = seeds_of(registry, version, bundle, threads) if with_seeds else []
        found = [bundle_logits(one, theirs) for one in (bundle, *seeds)]
    return Side(shipped=found[0], seeds=tuple(found[1:]))


def _beyond_seeds(
    run: Run, judged: Judged, drawn: Bootstrap, ours: Sequence[Logits], theirs: Sequence[Logits]
) -> dict[str, Any]:
    metric = RANKING[run.gates.metric]
    sides = [[metric(logit.astype(np.float64), judged, drawn.weights) for logit in side] for side in (ours, theirs)]
    found = beyond_seeds(sides[0], sides[1], np.random.default_rng([run.seed, 3]))
    return {"beyond_seeds": interval(found).to_json(), "num_seeds": [len(ours), len(theirs)]}


def _in_slices(
    run: Run, inputs: Mapping[str, Path], rows: Rows, judged: Judged, drawn: Bootstrap, ours: Side, theirs: Side
) -> list[dict[str, Any]]:
    """{"name", "rows", "users", "difference"} of each slice; None as the difference of one with too few users."""
    if not run.gates.slices:
        return []
    encoder = Encoder.open(inputs["prepare"] / "encoder")
    found = slices(run.gates.slices, encoder, open_rows(inputs["prepare"], "train", encoder.layout), rows)
    users = [len(np.unique(judged.user[mask])) for _, mask in found]
    num = sum(many >= run.gates.slice_users for many in users)
    metric = RANKING[run.gates.metric]

    def difference(mask: NDArray[np.bool_]) -> list[float | None]:
        inside, weights = within(judged, drawn.weights, mask)
        one, other = (metric(side.shipped[mask].astype(np.float64), inside, weights) for side in (ours, theirs))
        return simultaneous(one - other, num).to_json()

    return [
        {
            "name": name,
            "rows": int(mask.sum()),
            "users": many,
            "difference": difference(mask) if many >= run.gates.slice_users else None,
        }
        for (name, mask), many in zip(found, users, strict=True)
    ]


def within(judged: Judged, weight_BU: Floats, mask: NDArray[np.bool_]) -> tuple[Judged, Floats]:
    """Some of the rows, their users and requests numbered anew, and the weights [B, V] of the users that are left."""
    offset = None if judged.offset is None else judged.offset[mask]
    user, request = numbered(judged.user[mask]), numbered(judged.request[mask])
    left = np.unique(judged.user[mask])
    return Judged(label=judged.label[mask], user=user, request=request, offset=offset), weight_BU[:, left]
