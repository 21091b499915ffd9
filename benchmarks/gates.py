"""Whether a gate that asks for superiority tells luck from a better model; python benchmarks/gates.py, one JSON line.

Three ways to the same question. `retrained`: the demo's student, trained for real with 8 seeds, of which 3 play the
champion and 3 others the candidate, which is the same again or better by a planted share of the log's true logit.
`simulated`: models made of scores, on users drawn anew for every repeat. `power`: the variances that the real students
have, at other numbers of seeds and sizes of the test window. The gate is the one of the package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from gates_worlds import Simulated, retrained_students
from numpy.typing import NDArray
from scipy.stats import nct, t

from recdistill.config.gates import Gates
from recdistill.metrics.bootstrap import bootstrap, interval
from recdistill.metrics.ranking import auc
from recdistill.metrics.rows import Rows
from recdistill.metrics.seed_noise import beyond_seeds
from recdistill.promotion.gates import decide_gates

Floats = NDArray[np.float64]
FOLDER = Path("runs/bench-gates")
POOL, SEEDS, REPEATS, DRAWS = 8, 3, 40, 200
LOGS, MORE_SEEDS = (1, 4, 16, 64), (3, 5, 10, 20, 50)
_PASSING = {"parameter_share": 0.1, "max_difference": 0.0, "boot": {"answered": 1}}


def main() -> None:
    """Measure, and print one line."""
    real = retrained_students(FOLDER, POOL)
    gap = real.teacher_auc - real.control_auc
    effects = {"1% of the gap": 0.01 * gap, "a third of the gap": gap / 3, "+1% AUC": 0.01 * real.student_auc}
    retrained = {"identical": 0.0, **effects}
    drawn = bootstrap(real.rows.num_users, DRAWS, SEEDS, np.random.default_rng(0))
    pools = {name: [auc(z, real.rows, drawn.weights) for z in real.better(by)] for name, by in retrained.items()}
    noise = variances(pools["identical"])
    found = {
        "auc": {"teacher": real.teacher_auc, "student": real.student_auc, "control": real.control_auc, "gap": gap},
        "effects": effects,
        "seed_sd": noise[0],
        "user_sd": noise[1],
        "retrained": {name: share(_of_pool(pools["identical"], better, 1)) for name, better in pools.items()},
        "simulated": {name: share(_simulated(retrained[name])) for name in ("identical", "+1% AUC")},
        "power": power(noise, effects),
        "seeds needed": {name: seeds_needed(noise, effect) for name, effect in effects.items()},
    }
    print(json.dumps(found))


def variances(draws_SB: Sequence[Floats]) -> tuple[float, float]:
    """Standard deviations of AUC: what a seed does to everyone, and what it does to the users of this window."""
    variance_B = np.stack(draws_SB).var(axis=0, ddof=1)
    of_users = max(0.0, variance_B[1:].mean() - variance_B[0])
    return float(np.sqrt(max(0.0, variance_B[0] - of_users))), float(np.sqrt(of_users))


Sides = tuple[Sequence[Floats], Sequence[Floats]]  # draws [B + 1] of each seed, the one that ships first


def _of_pool(same: Sequence[Floats], better: Sequence[Floats], seed: int) -> Iterator[Sides]:
    """Repeats: seeds of the pool on either side, never one on both; of each side the best on validation ships."""
    generator = np.random.default_rng(seed)
    for _ in range(REPEATS):
        order = generator.permutation(POOL)
        ours, theirs = np.sort(order[:SEEDS]), np.sort(order[SEEDS : 2 * SEEDS])
        yield [better[k] for k in ours], [same[k] for k in theirs]


def _simulated(effect: float) -> Iterator[Sides]:
    world = Simulated(effect)
    for repeat in range(REPEATS):
        rows, ours, theirs = world.drawn(SEEDS, np.random.default_rng([5, repeat]))
        weights = bootstrap(rows.num_users, 60, SEEDS, np.random.default_rng([6, repeat])).weights
        yield _aucs(ours, rows, weights), _aucs(theirs, rows, weights)


def _aucs(logits: Sequence[Floats], rows: Rows, weights: Floats) -> list[Floats]:
    return [auc(logit, rows, weights) for logit in logits]


def share(repeats: Iterator[Sides]) -> dict[str, Any]:
    """How many repeats are promoted by the gate, and by two others: users alone, and seeds drawn again."""
    by_gate, by_users, by_redrawn, num = 0, 0, 0, 0
    for number, (ours, theirs) in enumerate(repeats):
        num += 1
        by_gate += promoted(ours, theirs, number)
        by_users += interval(ours[0] - theirs[0]).low > 0
        seeds = bootstrap(1, len(ours[0]) - 1, len(ours), np.random.default_rng([7, number]))
        one, other = ([{"auc": draws} for draws in side] for side in (ours, theirs))
        by_redrawn += interval(seeds.over_seeds(one)["auc"] - seeds.over_seeds(other)["auc"]).low > 0
    return {"of": num, "promoted": by_gate, "by users alone": by_users, "by seeds drawn again": by_redrawn}


def promoted(ours: Sequence[Floats], theirs: Sequence[Floats], seed: int) -> bool:
    """The package's gate on one candidate, all but its comparison with the champion in order."""
    beyond = interval(beyond_seeds(ours, theirs, np.random.default_rng([8, seed]))).to_json()
    champion = {"difference": {"auc": interval(ours[0] - theirs[0]).to_json()}, "window_end": 0}
    champion |= {"candidate_window_end": 0, "beyond_seeds": beyond, "num_seeds": [len(ours), len(theirs)]}
    report = {"models": {"shipped": {"auc": [0.6], "ece": [0.0]}}, "gain": {"auc": [0.1, 0.1, 0.1]}}
    evidence = {**_PASSING, "report": report, "champion": champion}
    return decide_gates(Gates(superior=True), evidence).verdict == "PASS"


def power(noise: tuple[float, float], effects: dict[str, float]) -> list[dict[str, Any]]:
    """Share promoted in 400 repeats by seeds a side and times the test window, of nothing and of each effect."""
    lines = []
    for times, seeds in [*((times, SEEDS) for times in LOGS), *((1, num) for num in MORE_SEEDS[1:]), (64, 50)]:
        line: dict[str, Any] = {"log": times, "seeds": seeds}
        for name, effect in {"identical": 0.0, **effects}.items():
            repeats = _of_parts(noise[0], noise[1] / np.sqrt(times), seeds, effect)
            line[name] = sum(promoted(*sides, number) for number, sides in enumerate(repeats)) / 400
        lines.append(line)
    return lines


def seeds_needed(noise: tuple[float, float], effect: float) -> int:
    """The fewest a side by which a t test of the effect, on this window, has a power of 80%."""
    seeds = np.arange(2, 10_000)
    centre = effect / (np.hypot(*noise) * np.sqrt(2 / seeds))
    found = nct.sf(t.ppf(0.975, 2 * seeds - 2), 2 * seeds - 2, centre)
    return int(seeds[np.argmax(found >= 0.8)])


def _of_parts(seed_sd: float, user_sd: float, seeds: int, effect: float) -> Iterator[Sides]:
    generator = np.random.default_rng(9)
    for _ in range(400):
        mean = generator.normal(0, np.hypot(seed_sd, user_sd), (2, seeds, 1)) + np.array([effect, 0.0])[:, None, None]
        draws = mean + generator.normal(0, user_sd, (2, seeds, DRAWS + 1)) * (np.arange(DRAWS + 1) > 0)
        yield list(draws[0]), list(draws[1])


if __name__ == "__main__":
    main()
