"""A run's report as one HTML page that needs nothing else: no network, no script, readable on a phone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from recdistill.files import manifest
from recdistill.report.blocks import Section
from recdistill.report.facts import Facts
from recdistill.report.lineage import changes, lineage
from recdistill.report.making import cost, drift, learning
from recdistill.report.quality import models, popularity, scores, slices
from recdistill.report.words import ends, moment, number, size

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure that is seen at a glance. note: its interval, or what it is held against."""

    title: str
    value: str
    note: str


def page(facts: Facts) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    about = manifest(facts.folders["publish"])
    assert about is not None, "a finished run was published"
    return environment.get_template("page.html").render(
        facts=facts,
        key=about["key"],
        style=Markup((HERE / "page.css").read_text()),
        headline=headline(facts),
        window=" to ".join(moment(facts.data["windows"][at])[:10] for at in ("start", "end")),
        tiles=tiles(facts),
        gates=sorted(facts.decision["gates"], key=lambda gate: gate["verdict"] != "FAIL"),
        sections=sections(facts),
        markup=Markup,
    )


def headline(facts: Facts) -> str:
    """What came of the run, in a sentence."""
    who = f"{facts.published['model']} version {facts.published['version']}"
    gates = facts.decision["gates"]
    failed = sum(gate["verdict"] == "FAIL" for gate in gates)
    if facts.decision["verdict"] == "PASS":
        return f"{who} passed its gates."
    return f"{who} may not become champion: {failed} of {len(gates)} gates failed."


def tiles(facts: Facts) -> list[Tile]:
    """The figures under the verdict."""
    report, metric = facts.evaluated, facts.metric
    student, gain, recovery = report["models"]["student"][metric], report["gain"][metric], report["recovery"]
    found = [
        Tile(title=f"student's {metric}", value=number(student[0]), note=ends(student)),
        Tile(title="over control", value=number(gain[0], signed=True), note=ends(gain)),
        Tile(title="recovery", value="none" if recovery[0] is None else f"{recovery[0]:.0%}", note=_percent(recovery)),
    ]
    if facts.champion is not None:
        apart = facts.champion["difference"][metric]
        found.append(Tile(title="over champion", value=number(apart[0], signed=True), note=ends(apart)))
    share = f"{facts.decision['parameter_share']:.1%} of the teacher's parameters"
    return [*found, Tile(title="bundle", value=size(facts.exported["bytes"]), note=share)]


def _percent(value: list[float | None]) -> str:
    return "the teacher does not lead" if value[1] is None or value[2] is None else f"{value[1]:.0%} to {value[2]:.0%}"


def sections(facts: Facts) -> list[Section]:
    """All that the run has something to say of, in the order of the page."""
    builders = (models, changes, slices, scores, popularity, learning, cost, drift, lineage)
    made = [build(facts) for build in builders]
    return [section for section in made if section is not None]
