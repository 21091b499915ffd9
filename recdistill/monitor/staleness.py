"""The staleness curve: what a model loses on later windows against one trained just before; how soon to retrain."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.bundle import Bundle, open_bundle, shipped_bundle
from recdistill.config.run import Run
from recdistill.data.prepare import windows_as
from recdistill.data.store import Rows, open_rows
from recdistill.evaluate import bundle_logits, judged_rows
from recdistill.metrics.bootstrap import cell, interval, user_draws
from recdistill.metrics.measure import HIGHER_IS_BETTER, measure
from recdistill.metrics.rows import Floats
from recdistill.pipeline import run_all
from recdistill.problems import BadInput, problem

Losses = dict[int, list[Floats]]
"""Age in windows -> for each pair of windows so far apart [B + 1] draws of what the older model loses."""


def staleness(run: Run, horizon: int) -> dict[str, Any]:
    """Train before each of the last `horizon` + 1 back-test windows, judge every model on all windows after its own.

    A window is data.split's test window moved back by `every`; runs that are up to date in the run's folder are not
    trained again. An older model is compared with the one of the window itself, on the same rows, each through its own
    encoder, by gates.metric, users drawn alike for both. Returns {metric, every_s, curve, interval}: of each age its
    mean loss [value, low, high] over the pairs of windows, and the longest interval between retrains, in windows, whose
    mean loss stays within monitor.max_loss. BadInput for a split by shares, which cannot be moved.
    """
    if run.data.split.until is None:
        wanted, remedy = "valid_from, test_from, until and every", "give them, as in data.split.until=2026-01-09"
        raise BadInput(problem("data.split", wanted=wanted, found="shares of the rows", remedy=remedy))
    runs = [at(run, run.data.split.back + back) for back in range(horizon + 1)]
    folders = [run_all(one, until="export").folders for one in runs]
    losses: Losses = {age: [] for age in range(1, horizon + 1)}
    for place in range(horizon):
        with tempfile.TemporaryDirectory(prefix="recdistill-staleness-") as scratch:
            for age, drawn in _on_window(runs, folders, place, Path(scratch)).items():
                losses[age].append(drawn)
    return summary(run, losses)


def at(run: Run, back: int) -> Run:
    """The run on a back-test window."""
    split = run.data.split.model_copy(update={"back": back})
    return run.model_copy(update={"data": run.data.model_copy(update={"split": split})})


def _on_window(runs: Sequence[Run], folders: Sequence[dict[str, Path]], place: int, scratch: Path) -> dict[int, Floats]:
    """On the test window of run `place`: what each older run's bundle loses against that run's own; age -> draws."""
    run, metric = runs[place], runs[place].gates.metric
    rows = open_rows(folders[place]["prepare"], "test")
    judged = judged_rows(run, rows)
    weights = user_draws(judged.num_users, run.evaluate.draws, np.random.default_rng([run.seed, place, 3]))
    sign = 1.0 if HIGHER_IS_BETTER[metric] else -1.0

    def measured(bundle: Bundle, theirs: Rows) -> Floats:
        return measure(bundle_logits(bundle, theirs).astype(np.float64), judged, weights)[metric] * sign

    fresh = measured(_shipped(run, folders[place]), rows)
    found = {}
    for older in range(place + 1, len(runs)):
        bundle, out = _shipped(run, folders[older]), scratch / str(older)
        out.mkdir()
        (theirs,) = windows_as(run, folders[place]["prepare"], bundle.encoder, out, ("test",))
        found[older - place] = fresh - measured(bundle, theirs)
    return found


def _shipped(run: Run, folders: dict[str, Path]) -> Bundle:
    return open_bundle(shipped_bundle(folders["export"]), run.threads or 1)


def summary(run: Run, losses: Losses) -> dict[str, Any]:
    """The curve and the interval as JSON. Pairs of windows are drawn too, each draw anew: few of them tell little."""
    generator = np.random.default_rng([run.seed, 4])
    drawn_AB = np.stack([_over_pairs(np.stack(losses[age]), generator) for age in sorted(losses)])
    longest_B = longest(drawn_AB, run.monitor.max_loss).astype(np.float64)
    low, high = np.quantile(longest_B[1:], [0.025, 0.975])
    horizon = len(drawn_AB)
    return {
        "metric": run.gates.metric,
        "every_s": run.data.split.every.total_seconds(),
        "max_loss": run.monitor.max_loss,
        "curve": [
            {"age": age, "pairs": len(losses[age]), "loss": interval(draws).to_json()}
            for age, draws in enumerate(drawn_AB, start=1)
        ],
        "interval": {"windows": int(longest_B[0]), "low": int(low), "high": int(high), "horizon": horizon + 1},
    }


def _over_pairs(draws_PB: Floats, generator: np.random.Generator) -> Floats:
    """[B + 1] means over pairs, which are drawn with replacement for every draw but the first."""
    num_pairs, num_draws = draws_PB.shape
    pairs = generator.integers(0, num_pairs, (num_pairs, num_draws))
    pairs[:, 0] = np.arange(num_pairs)
    return np.asarray(np.take_along_axis(draws_PB, pairs, axis=0).mean(axis=0))


def longest(loss_AB: Floats, most: float) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[B] the longest interval between retrains, in windows, whose mean loss is at most `most`; 1 at least.

    Retrained every I windows, a model serves at the ages 0 to I - 1, with the losses 0, loss_AB[0] .. loss_AB[I - 2].

    >>> longest(np.array([[0.001, 0.004], [0.003, 0.000], [0.008, 0.0]]), 0.002).tolist()  # means 0.0005, 0.0013, 0.003
    [3, 4]
    """
    ages = np.arange(2, len(loss_AB) + 2)[:, np.newaxis]
    fine = np.minimum.accumulate(np.cumsum(loss_AB, axis=0) / ages <= most, axis=0)
    return np.asarray(np.where(fine, ages, 1).max(axis=0, initial=1))


def render(found: dict[str, Any]) -> list[str]:
    """The curve and the interval, as text."""
    lines = [f"{'age':>4}  {'pairs':>5}  loss of {found['metric']}"]
    lines += [f"{one['age']:>4}  {one['pairs']:>5}  {cell(one['loss'], signed=True)}" for one in found["curve"]]
    said, most = found["interval"], found["interval"]["horizon"]
    more = " or more" if said["windows"] == most else ""
    days = found["every_s"] / 86_400
    lines.append(
        f"retrain every {said['windows']}{more} windows of {days:g} days (95%: {said['low']} to {said['high']}) "
        f"for a mean loss of at most {found['max_loss']:g}"
    )
    return lines
