"""The model card of a bundle: what it is, from which data, how good and how large, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from recdistill.types import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a card tells. data: the prepare step's data.json. sizes: table -> {parameters, bytes} as it ships.

    float_sizes: the same before quantisation. valid_auc: of the check whose weights were kept, in torch.
    """

    name: str
    title: str
    layout: Layout
    data: Mapping[str, Any]
    sizes: Mapping[str, Mapping[str, int]]
    float_sizes: Mapping[str, Mapping[str, int]]
    valid_auc: float
    quality: Mapping[str, Any] | None
    recipe: Mapping[str, Any]


def card(facts: Facts) -> str:
    """Markdown; the same for the same run, so that a bundle's digest is of its content."""
    return "\n".join(
        [f"# {facts.name}: {facts.title}", "", *_data(facts), *_quality(facts), *_tables(facts), *_use(facts)]
    )


def _data(facts: Facts) -> list[str]:
    windows = facts.data["windows"]
    lines = [
        "## Data",
        "",
        f"fingerprint `{facts.data['fingerprint']}`",
        "",
        "| window | from | to | rows |",
        "|---|---|---|---|",
    ]
    for name, start, end in (("train", "start", "valid"), ("valid", "valid", "test"), ("test", "test", "end")):
        begins, ends = (datetime.fromtimestamp(windows[at] / 1e6, UTC).isoformat(" ", "seconds") for at in (start, end))
        lines.append(f"| {name} | {begins} | {ends} | {facts.data[name]['rows']:,} |")
    return [*lines, ""]


def _quality(facts: Facts) -> list[str]:
    lines = ["## Quality", "", f"AUC on the validation window while training: {facts.valid_auc:.4f}."]
    if facts.quality is not None:
        whole, small = facts.quality["float"], facts.quality["quantised"]
        for name in ("auc", "ndcg_at_10"):
            lines.append(f"{name}: {whole[name]:.6f} in float, {small[name]:.6f} as it ships.")
    terms = ", ".join(f"{term.get('weight', 1)} {term['use']}" for term in facts.recipe.get("terms", []))
    return [
        *lines,
        f"Trained by the recipe: {terms}. The test window is judged after the export: see the run's report.",
        "",
    ]


def _tables(facts: Facts) -> list[str]:
    lines = ["## Size", "", "| table | parameters | bytes | bytes in float |", "|---|---|---|---|"]
    for name, size in facts.sizes.items():
        lines.append(f"| {name} | {size['parameters']:,} | {size['bytes']:,} | {facts.float_sizes[name]['bytes']:,} |")
    total = sum(size["bytes"] for size in facts.sizes.values())
    whole = sum(size["bytes"] for size in facts.float_sizes.values())
    return [*lines, f"| all | {sum(s['parameters'] for s in facts.sizes.values()):,} | {total:,} | {whole:,} |", ""]


def _use(facts: Facts) -> list[str]:
    ids = ", ".join(f"{feature.name} ({feature.kind})" for feature in facts.layout.ids)
    numbers = ", ".join(facts.layout.dense) or "none"
    return [
        "## Use",
        "",
        f"Reads ids {ids}; numbers {numbers}. Gives a logit: the log-odds of the label.",
        "A request is as in request.json.",
        "golden.arrow holds rows of the log with their scores: treat the bundle as you treat the log.",
        "Not for users or items unlike those of the train window: it ranks what the log's own policy showed.",
        "",
    ]
