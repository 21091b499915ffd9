"""Write docs/results.md and docs/results.svg from fresh runs: python benchmarks/results.py CONFIG... (`make results`).

Every figure in them comes from the run's own last line; time and memory are of the whole command, from an empty folder.
--keep: the runs that docs/results.json holds, and what the leaderboards come to by now (`make leaderboards`).
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
from leaderboards import summary

from recdistill.metrics.bootstrap import cell

matplotlib.use("svg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parent.parent / "docs"
MODELS = ("teacher", "student", "control")
START, END = "<!-- results, written by `make results` -->", "<!-- end of results -->"
METRICS = ("auc", "gauc", "ndcg_at_10", "log_loss", "ne", "ece", "teacher_correlation")


def fresh_run(config: Path) -> dict[str, Any]:
    """The result of one run in a folder of its own, with minutes and peak_gib of the command."""
    root = Path("runs") / f"results-{config.stem}"
    shutil.rmtree(root, ignore_errors=True)
    began = time.monotonic()
    command = [Path(sys.executable).with_name("recdistill"), "run", config, f"root={root}"]
    command += [f"registry.tracking_uri=sqlite:///{root}/mlflow.db", f"registry.artifacts={root}/artifacts"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["minutes"] = (time.monotonic() - began) / 60
    found["peak_gib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    students = json.loads(next(root.glob("distil-*/students.json")).read_text())
    teacher = json.loads(next(root.glob("train_teacher-*/teacher.json")).read_text())
    exported = json.loads(next(root.glob("export-*/export.json")).read_text())
    evaluated = json.loads(next(root.glob("evaluate-*/report.json")).read_text())
    found["parameters"] = {"teacher": teacher["parameters"], "student": students["parameters"]}
    found["bundle_bytes"], found["max_difference"] = exported["bytes"], exported["max_difference"]
    found["rows"], found["users"], found["seeds"] = (evaluated[k] for k in ("num_rows", "num_users", "seeds"))
    return found


def section(config: Path, found: dict[str, Any]) -> list[str]:
    """The Markdown of one run."""
    table = ["| metric | teacher | student | control | student - control |", "|---|---|---|---|---|"]
    for metric in METRICS:
        cells = [cell(found[model][metric]) for model in MODELS] + [cell(found["gain"][metric], signed=True)]
        table.append(f"| {metric} | {' | '.join(cells)} |")
    sizes = found["parameters"]
    low = found["gain"]["auc"][1]
    return [
        f"## {config.as_posix()}",
        "",
        f"`recdistill run {config.as_posix()}`, {found['seeds']} seeds of student and control, test window of "
        f"{found['rows']:,} rows by {found['users']:,} users. 95% intervals over users and seeds.",
        "",
        *table,
        "",
        f"- Recovery of the teacher's lead in AUC: **{cell(found['recovery'])}**.",
        f"- Student against control in AUC: the interval {'excludes' if low > 0 else 'includes'} 0.",
        f"- Parameters: teacher {sizes['teacher']:,}, student {sizes['student']:,} "
        f"({sizes['student'] / sizes['teacher']:.1%}). Bundle: {found['bundle_bytes']:,} bytes.",
        f"- Largest difference between torch and bundle on raw rows: {found['max_difference']:.1e}.",
        f"- Verdict {found['verdict']}; {found['minutes']:.1f} minutes, peak memory {found['peak_gib']:.2f} GiB.",
        "",
    ]


def picture(results: dict[str, dict[str, Any]], path: Path) -> None:
    """AUC of teacher, student and control with intervals, and the paired gain, a line of panels per run."""
    figure, panels = plt.subplots(len(results), 2, figsize=(9, 2.1 * len(results) + 0.4), squeeze=False)
    for (name, found), (left, right) in zip(results.items(), panels, strict=True):
        lines = [*MODELS[::-1]]
        draw(left, lines, [found[model]["auc"] for model in lines], f"{name}: AUC on the test window")
        pairs = {"teacher - control": found["gap"]["auc"], "student - control": found["gain"]["auc"]}
        draw(right, list(pairs), list(pairs.values()), "paired differences in AUC")
        right.axvline(0, color="grey", linewidth=1)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def draw(axes: Any, names: list[str], values: list[list[float]], title: str) -> None:
    for place, (middle, low, high) in enumerate(values):
        axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt="o", capsize=4, color="tab:blue")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_title(title, fontsize=10)


def _readme(results: dict[str, dict[str, Any]]) -> None:
    """Put the short table between its two marks in the README."""
    table = ["| run | teacher AUC | student | control | student - control | recovery | student's parameters |"]
    table.append("|---|---|---|---|---|---|---|")
    for name, found in results.items():
        values = [cell(found[model]["auc"]) for model in MODELS] + [cell(found["gain"]["auc"], signed=True)]
        share = found["parameters"]["student"] / found["parameters"]["teacher"]
        table.append(f"| {name} | {' | '.join(values)} | {cell(found['recovery'])} | {share:.1%} of the teacher's |")
    path = DOCS.parent / "README.md"
    before, rest = path.read_text().split(START)
    path.write_text(f"{before}{START}\n" + "\n".join(table) + f"\n{END}{rest.split(END)[1]}")


def main() -> None:
    keep = sys.argv[1:2] == ["--keep"]
    configs = [Path(argument) for argument in sys.argv[1 + keep :]]
    kept = json.loads((DOCS / "results.json").read_text()) if keep else {}
    results = {config.stem: kept[config.stem] if keep else fresh_run(config) for config in configs}
    lines = ["# Results", "", "Written by `make results`; do not edit. Intervals and recovery as in the README.", ""]
    for config in configs:
        lines += section(config, results[config.stem])
    lines += summary(DOCS / "leaderboards")
    (DOCS / "results.md").write_text("\n".join(lines))
    _readme(results)
    (DOCS / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    matplotlib.rcParams["svg.hashsalt"] = "recdistill"
    picture(results, DOCS / "results.svg")
    print(json.dumps({name: {"recovery": f["recovery"], "gain_auc": f["gain"]["auc"]} for name, f in results.items()}))


if __name__ == "__main__":
    main()
