"""The comparison: every recipe and control under the same budget, with paired intervals, as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from recdistill import files
from recdistill.compare.arms import CONTROL, Arm, Task, Training, arms_of, finished
from recdistill.compare.judge import LOGGED, Judge, against, holm, judge, rarer_half
from recdistill.compare.pairs import PairJudge, pair_judge
from recdistill.compare.served import served
from recdistill.compare.training import train_all
from recdistill.compare.tune import tune_all
from recdistill.config.pairs import PAIR_METRICS
from recdistill.config.run import Run
from recdistill.data.items import find_item, item_ids, positive_counts
from recdistill.data.scores import open_scores
from recdistill.data.store import open_rows
from recdistill.evaluate import judged_rows, recovery
from recdistill.metrics.bootstrap import Draws, interval
from recdistill.metrics.measure import HIGHER_IS_BETTER
from recdistill.metrics.rows import Floats
from recdistill.pipeline import run_all

UNSERVED: Mapping[str, Any] = {"bytes": None, "p99_ms": None, "p99_ratio": None}
HIGHER = {**HIGHER_IS_BETTER, "tail_auc": True, "tail_recall_at_10": True}


def compare(
    run: Run,
    recipes: Mapping[str, Run],
    refused: Mapping[str, str],
    *,
    num_seeds: int,
    processes: int,
    trials: int = 0,
    bigger: bool = True,
) -> dict[str, Any]:
    """Train what is not trained yet and judge all of it on the test window.

    recipes: name -> the same run with that recipe. refused: name -> why the run's config cannot give a recipe what it
    needs. trials: of the settings of every arm, see tune.py; 0 takes them as they are. bigger: see arms_of. Every arm
    has the same teacher scores, rows, seeds, initial weights and budget. Returns {"models": [...], "num_rows", ...}, an
    entry per recipe and control; see `line`. A recipe that cannot run here has one with `refused`.
    """
    folders = run_all(run, until="score").folders
    inputs = {name: folders[name] for name in ("prepare", "train_teacher", "score")}
    root, seeds = Path(run.folder) / "compare", range(run.seed, run.seed + num_seeds)
    arms = arms_of(run, recipes, bigger=bigger)
    root.mkdir(parents=True, exist_ok=True)
    files.sweep(root)
    if trials:
        arms, hopeless = tune_all(arms, trials, run.seed, root, inputs, processes)
        refused = {**refused, **hopeless}
    tasks = [Task(arm=arm, seed=seed, out=arm.folder(root, seed, inputs)) for seed in seeds for arm in arms]
    refused = {**refused, **train_all([task for task in tasks if finished(task.out) is None], inputs, processes)}
    found = {arm.name: [finished(task.out) for task in tasks if task.arm is arm] for arm in arms}
    done = {name: [t for t in trained if t is not None] for name, trained in found.items() if None not in trained}
    at, teacher, num_rows, num_users = (_judge if run.data.pairs is None else pair_judge)(run, inputs, num_seeds)
    size = files.read_json(inputs["train_teacher"] / "teacher.json")["parameters"]
    as_file = served(arms, inputs) if run.data.pairs is None else {arm.name: UNSERVED for arm in arms}
    with ThreadPoolExecutor(processes) as pool:
        drawn = dict(zip(done, pool.map(lambda trained: _drawn(at, trained), done.values()), strict=True))
    models = _models(run, at([teacher]), drawn, done, size, as_file, {arm.name: arm for arm in arms})
    models += [{"name": name, "refused": why} for name, why in refused.items()]
    return {
        "name": run.name,
        "num_rows": num_rows,
        "num_users": num_users,
        "seeds": num_seeds,
        "trials": trials,
        "models": models,
    }


def _judge(run: Run, inputs: Mapping[str, Path], num_seeds: int) -> tuple[Judge, Floats, int, int]:
    """(the judge, the teacher's logits, test rows, users)."""
    rows, test = (open_rows(inputs["prepare"], name) for name in ("train", "test"))
    teacher = open_scores(inputs["score"], "test", test, inputs["prepare"]).logit.astype(np.float64)
    item, tail = find_item(run, rows.layout), np.zeros(len(test), dtype=bool)
    if item is not None:
        tail = rarer_half(item_ids(test, item), positive_counts(rows, item))
    judged = judged_rows(run, test)
    at = judge(judged, teacher, tail, draws=run.evaluate.draws, num_seeds=num_seeds, seed=run.seed)
    return at, teacher, len(test), judged.num_users


def _drawn(at: Judge | PairJudge, trained: Sequence[Training]) -> Draws:
    return at([t.logit.astype(np.float64) for t in trained])


def _models(
    run: Run,
    whole: Draws,
    drawn: Mapping[str, Draws],
    done: Mapping[str, Sequence[Training]],
    teacher_parameters: int,
    as_file: Mapping[str, Mapping[str, Any]],
    arms: Mapping[str, Arm],
) -> list[dict[str, Any]]:
    """The teacher, the control, and all others by what they gain over their control, with p-values corrected for their
    number. whole, drawn: metrics of the teacher and of each arm."""
    metric = run.gates.metric
    own = {name: arms[name].control for name in drawn if arms[name].control in drawn}
    p = holm({name: against(drawn[name], drawn[own[name]], metric)[1] for name in own if name != CONTROL})
    lines = [
        line(name, drawn[name], drawn[control], whole, metric)
        | _about(done[name], done[control])
        | dict(as_file[name])
        | {"tuned": arms[name].tuned, "control": control, "p": p.get(name)}
        for name, control in own.items()
    ]
    order = sorted(lines, key=lambda found: -(found["gain"][metric][0] or 0.0))
    first = {"parameters": teacher_parameters, "cost": None, "control": CONTROL, "p": None, **UNSERVED}
    return [line("teacher", whole, drawn[CONTROL], whole, metric) | first, *order]


def line(name: str, draws: Draws, control: Draws, teacher: Draws, metric: str) -> dict[str, Any]:
    """metrics and gain over the control: metric -> [value, low, high]; recovery of the teacher's lead."""
    gap = _gain(teacher, control, metric)
    return {
        "name": name,
        "metrics": {m: interval(draws[m]).to_json() for m in draws},
        "gain": {
            m: interval(draws[m] - control[m]).to_json()
            for m in draws
            if m in LOGGED or m in PAIR_METRICS or m.endswith("popular")
        },
        "recovery": recovery(_gain(draws, control, metric), gap),
    }


def _gain(one: Draws, other: Draws, metric: str) -> Any:
    return (one[metric] - other[metric]) * (1 if HIGHER.get(metric, True) else -1)


def _about(trained: Sequence[Training], control: Sequence[Training]) -> dict[str, Any]:
    cost = float(np.median([t.seconds_per_epoch for t in trained]) / np.median([t.seconds_per_epoch for t in control]))
    return {"parameters": trained[0].parameters, "valid_auc": [t.valid_auc for t in trained], "cost": cost}
