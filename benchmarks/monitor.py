"""The alarm's false-alarm rate and delay as one JSON line: python benchmarks/monitor.py (minutes).

Histories of days of scored requests are made and judged by the monitor itself (recdistill.monitor.quality.judge, its
bootstrap errors, all series of three slices together), with labels drawn from the scores; then with a planted change.

    stated_within_n         the most that the bound allows: chance of any alarm within `windows` windows, n / A
    false_within_n          what was seen without a change: share of `histories` with any alarm
    stated_every, false_every_at_least   A; windows looked at over alarms seen (over 1 where none was)
    delay_*                 windows from the change to the first alarm, median and 90th percentile, of `histories`;
                            missed: no alarm within the `windows` after it; before: false alarms before it
    level_*                 the same of the detector alone on normal windows whose errors vary, of many more histories
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

DAY_US = 86_400_000_000
CANDIDATES, USERS = 6, 150
CHANGES: dict[str, dict[str, Any]] = {
    "auc_half_lost": {"blind": 0.5},
    "twice_predicted": {"shift": float(np.log(2))},
    "one_slice_blind": {"blind": 1.0, "only": "country=de"},
}


def day(generator: np.random.Generator, number: int, rows: int, change: dict[str, Any] | None) -> pa.Table:
    """A day's judged rows; blind: the share of them whose labels do not follow the scores."""
    num = int(rows / CANDIDATES * generator.uniform(0.6, 1.4))
    score = generator.normal(-1.5, 1.2, num * CANDIDATES)
    country = np.repeat(np.where(generator.random(num) < 0.3, "de", "fr"), CANDIDATES)
    user = np.repeat(generator.integers(0, USERS, num), CANDIDATES)
    truth = score + generator.normal(0, 0.5, USERS)[user]
    if change is not None:
        hit = country == change["only"].removeprefix("country=") if "only" in change else np.ones(len(score), bool)
        hit &= generator.random(len(score)) < change.get("blind", 1.0)
        truth = np.where(hit, generator.permutation(truth) if "blind" in change else truth - change["shift"], truth)
    label = (generator.random(len(score)) < 1 / (1 + np.exp(-truth))).astype(np.float64)
    return pa.table(
        {
            "time": np.full(len(score), number * DAY_US),
            "request": np.repeat(np.arange(num), CANDIDATES).astype(str),
            "user": user.astype(str),
            "score": score,
            "model": np.full(len(score), "-"),
            "slice country": country,
            "label": label,
        }
    )


def history(run: Any, seed: int, windows: int, rows: int, change_at: int, change: dict[str, Any] | None) -> list[int]:
    """The windows at which anything fired."""
    from recdistill.monitor.quality import alarms, judge

    generator = np.random.default_rng([seed, 7])
    watched = [["country", "de"], ["country", "fr"]]
    judged = []
    for number in range(windows):
        table = day(generator, number, rows, change if number >= change_at else None)
        judged.append(judge(run, number * DAY_US, table, watched))
    starts = [window["start"] for window in judged]
    return sorted({starts.index(one["window"]) for one in alarms(run, judged)})


def level(every: int, histories: int, windows: int) -> dict[str, float]:
    """The detector alone."""
    from recdistill.monitor.detect import detect

    fired = 0
    for seed in range(histories):
        generator = np.random.default_rng([seed, 8])
        errors = generator.uniform(0.5, 2.0, windows)
        fired += any(step.fires for step in detect(generator.normal(0, errors), errors, "either", every))
    return {"level_false_within_n": round(fired / histories, 4), "level_histories": histories}


def main() -> None:
    """Simulate, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=40)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--rows", type=int, default=1200, help="of a day, on average")
    parser.add_argument("--every", type=int, default=365, help="monitor.false_alarm_every")
    given = parser.parse_args()
    from recdistill.config.load import load

    settings = ["monitor.draws=50", f"monitor.false_alarm_every={given.every}", "monitor.slices=[country]"]
    run = load(Path("configs/demo.yaml"), settings)
    size, found = (given.windows, given.rows), {"histories": given.histories, "windows": given.windows}
    quiet = [history(run, seed, *size, given.windows, None) for seed in range(given.histories)]
    num_alarms = sum(map(len, quiet))
    found |= {
        "stated_within_n": round(given.windows / given.every, 4),
        "false_within_n": round(sum(map(bool, quiet)) / given.histories, 4),
        "stated_every": given.every,
        "false_every_at_least": round(given.histories * given.windows / max(1, num_alarms)),
    }
    print(f"no change: {num_alarms} alarms", file=sys.stderr)
    for name, change in CHANGES.items():
        found |= delays(
            name,
            [history(run, seed, *size, given.windows // 2, change) for seed in range(given.histories)],
            given.windows // 2,
        )
    print(json.dumps({**found, **level(given.every, 20 * given.histories, given.windows)}))


def delays(name: str, fired: list[list[int]], change_at: int) -> dict[str, Any]:
    """How soon after the change, and how often before it."""
    after = [next((place - change_at + 1 for place in places if place >= change_at), None) for places in fired]
    seen = [place for place in after if place is not None]
    middle, late = np.quantile(seen, [0.5, 0.9]).tolist() if seen else (None, None)
    before = sum(bool(places) and places[0] < change_at for places in fired)
    told = {"median": middle, "p90": late, "missed": len(fired) - len(seen), "before": before}
    return {f"delay_{name}": told}


if __name__ == "__main__":
    main()
