"""Write docs/teachers-results.md: what teachers reach and what each part adds: python benchmarks/teachers.py [CASE...].

A case is a log with variants of its config, each trained with three seeds up to the score step and judged on the test
window. Intervals are 95%, over users and seeds; differences are paired, draw by draw. Cases that are not named keep
what the file says of them.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from baselines import item_knn, popularity, popularity_now, two_tower
from numpy.typing import NDArray

from recdistill.config.load import load
from recdistill.data.scores import open_scores
from recdistill.data.store import open_rows
from recdistill.evaluate import judged_rows
from recdistill.metrics.bootstrap import Draws, bootstrap, cell, interval
from recdistill.metrics.measure import measure
from recdistill.metrics.rows import Rows
from recdistill.pipeline import run_all
from recdistill.train.progress import logger

ROOT = Path(__file__).parent.parent
PAGE, FIGURES = ROOT / "docs/teachers-results.md", ROOT / "docs/teachers-results.json"
SEEDS = 3
Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Case:
    """variants: what it is called -> overrides of the config; the first is what the others are compared with."""

    config: str
    about: str
    variants: Mapping[str, Sequence[str]]
    shown: Sequence[str] = ("auc", "gauc", "ndcg_at_10", "log_loss")
    draws: int = 1000
    baselines: bool = False
    log: Sequence[str] = field(default=())


CASES = {
    "ml-1m": Case(
        config="configs/ml-1m-teacher.yaml",
        about="MovieLens-1M by time, label rating >= 4",
        variants={
            "the config": [],
            "without aggregates": ["features.aggregates=[]"],
            "history of 10": ["features.history={item: movie_id, outcomes: [rating], length: 10}"],
            "history by its mean": ["teacher.history=mean"],
            "without history and aggregates": ["features.history=null", "features.aggregates=[]"],
        },
    ),
    "globo": Case(
        config="configs/globo-teacher.yaml",
        about="news clicks, days 1-6 train, 7 valid, 8 test; a click against 20 recent-popularity negatives",
        variants={"the config": []},
        shown=("auc", "hit_rate_at_10", "mrr_at_10"),
        draws=200,
        baselines=True,
    ),
    "synth-10m": Case(
        config="configs/synth-10m.yaml",
        about="ten million generated rows with a planted truth",
        variants={"the config": []},
        draws=200,
        log=("runs/synth-10m-log", "--rows", "10000000"),
    ),
}


def scored(case: Case, overrides: Sequence[str], seed: int) -> tuple[Any, Path, Logits, float]:
    """(run, folder of the prepare step, test logits, minutes) of one teacher; NaN minutes if it was trained before."""
    run = load(ROOT / case.config, [*overrides, f"seed={seed}", f"root=runs/teachers/{Path(case.config).stem}"])
    began = time.monotonic()
    done = run_all(run, until="score")
    folders, minutes = done.folders, (time.monotonic() - began) / 60
    rows = open_rows(folders["prepare"], "test")
    logit = open_scores(folders["score"], "test", rows, folders["prepare"]).logit
    return run, folders["prepare"], np.array(logit), minutes if "train_teacher" in done.did else float("nan")


def draws_of(logits: Sequence[Logits], judged: Sequence[Rows], num_draws: int) -> Draws:
    """Metric -> [draws + 1] means over drawn seeds under drawn users; the first is the point value.

    judged: of every seed, as negatives are drawn anew with each; or of all.
    """
    drawn = bootstrap(judged[0].num_users, num_draws, len(logits), np.random.default_rng(2))
    every = judged if len(judged) > 1 else [*judged] * len(logits)
    measured = [measure(one.astype(np.float64), rows, drawn.weights) for one, rows in zip(logits, every, strict=True)]
    return drawn.over_seeds(measured)


def measured(case: Case) -> Iterator[tuple[str, Draws, float]]:
    """(name, draws, minutes of a seed) of every variant and baseline."""
    first: tuple[Any, Path] | None = None
    for name, overrides in case.variants.items():
        runs = [scored(case, overrides, seed) for seed in range(SEEDS)]
        run, prepared = runs[0][:2]
        first = first or (run, prepared)
        judged = [judged_rows(run, open_rows(folder, "test")) for folder in dict.fromkeys(r[1] for r in runs)]
        logits, minutes = [r[2] for r in runs], [r[3] for r in runs]
        yield name, draws_of(logits, judged, case.draws), float(np.median(minutes))
        if not overrides and len(judged) == 1:
            together = np.mean(logits, axis=0, dtype=np.float32)
            yield f"the {SEEDS} seeds' mean logit", draws_of([together], judged, case.draws), float(np.sum(minutes))
    if case.baselines and first is not None:
        run, prepared = first
        train, test = open_rows(prepared, "train"), open_rows(prepared, "test")
        judged = [judged_rows(run, test)]
        of_item = [spec.title for spec in run.features.aggregates if spec.by == [run.data.negatives.item]]
        for name, logits in baseline_logits(train, test, of_item):
            yield name, draws_of(logits, judged, case.draws), float("nan")


def baseline_logits(train: Any, test: Any, of_item: list[str]) -> Iterator[tuple[str, list[Logits]]]:
    """Name -> test logits, one array a seed."""
    yield "popularity of the train window", [popularity(train, test)]
    yield "popularity up to the row's time", [popularity_now(test, next(n for n in of_item if n.startswith("count")))]
    yield "item-kNN", [item_knn(train, test)]
    yield "two-tower", [two_tower(train, test, of_item, seed=seed) for seed in range(SEEDS)]


def figures(name: str, case: Case) -> Iterator[dict[str, Any]]:
    """All that the page shows of a case, as JSON, again with each line that is added."""
    base: Draws = {}
    lines: dict[str, Any] = {}
    found: dict[str, Any] = {"about": case.about, "config": case.config, "shown": case.shown, "lines": lines}
    if case.log:
        truth = json.loads((ROOT / case.log[0] / "_truth.json").read_text())
        found["ceiling"] = truth["last_tenth"]["ceiling"]["no_position"]["auc"]
    for variant, draws, minutes in measured(case):
        base = base or draws
        values = {metric: interval(draws[metric]).to_json() for metric in case.shown}
        apart = interval(draws["auc"] - base["auc"]).to_json()
        lines[variant] = {"values": values, "difference": apart, "minutes": minutes}
        logger.info("%s, %s: %s", name, variant, values)
        yield found


def section(name: str, found: Mapping[str, Any]) -> list[str]:
    """The Markdown of a case."""
    shown = found["shown"]
    lines = [f"## {name}", "", f"`{found['config']}`: {found['about']}; {SEEDS} seeds.", ""]
    lines += [
        f"| teacher | {' | '.join(shown)} | AUC less the first line's | minutes a seed |",
        "|---" * (len(shown) + 3) + "|",
    ]
    for variant, line in found["lines"].items():
        cells = [cell(line["values"][metric]) for metric in shown]
        minutes = "" if np.isnan(line["minutes"]) else f"{line['minutes']:.1f}"
        lines.append(f"| {variant} | {' | '.join(cells)} | {cell(line['difference'], signed=True)} | {minutes} |")
    if "ceiling" in found:
        value = found["lines"]["the config"]["values"]["auc"][0]
        lines += ["", "The planted truth's own AUC on the test window, for one who does not see the position: "]
        lines[-1] += f"{found['ceiling']:.4f}; the teacher is {found['ceiling'] - value:.4f} below it."
    return [*lines, ""]


def write(kept: Mapping[str, Any]) -> None:
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n")
    head = ["# What teachers reach", "", "Written by `python benchmarks/teachers.py`; do not edit.", ""]
    body = [line for case in CASES if case in kept for line in section(case, kept[case])]
    PAGE.write_text("\n".join([*head, *body]))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in sys.argv[1:] or CASES:
        if CASES[name].log and not (ROOT / CASES[name].log[0]).exists():
            subprocess.run([Path(sys.executable).with_name("recdistill"), "synth", *CASES[name].log], check=True)
        for found in figures(name, CASES[name]):
            kept[name] = found
            write(kept)
    print(json.dumps({name: found["lines"] for name, found in kept.items()}))


if __name__ == "__main__":
    main()
