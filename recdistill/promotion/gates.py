"""Reports -> Decision: PASS, FAIL or NO_BASELINE per gate; pure, and nothing missing or not finite ever passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from recdistill.config.gates import Gates

Verdict = Literal["PASS", "FAIL", "NO_BASELINE"]
Value = Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One line of the table. found and wanted are for a reader."""

    name: str
    verdict: Verdict
    found: str
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All gates. The whole is PASS when no gate is FAIL."""

    gates: tuple[Gate, ...]

    @property
    def verdict(self) -> Verdict:
        return "FAIL" if any(gate.verdict == "FAIL" for gate in self.gates) else "PASS"

    def to_json(self) -> dict[str, Any]:
        lines = [{"name": g.name, "verdict": g.verdict, "found": g.found, "wanted": g.wanted} for g in self.gates]
        return {"verdict": self.verdict, "gates": lines}


def decide_gates(settings: Gates, evidence: Mapping[str, Any]) -> Decision:
    """evidence: report (of evaluate); max_difference, parameter_share, bytes, p99_ratio; boot: {"answered"} or
    {"error"}; denied: names that the policy denies and the bundle has; drift: None where it was not measured, else
    {"max_psi", "psi_feature", "max_unknown", "unknown_feature"}; champion and reference: None without one, else what
    `promotion.against` says. What is missing fails its gate.
    """
    report = evidence["report"]
    shipped = report["models"]["shipped"]
    gates = [_above(f"{metric} floor", _at(shipped, metric), least) for metric, least in settings.floors.items()]
    gain = _low(report["gain"].get(settings.metric))
    gates.append(_above(f"{settings.metric} over control, low end", gain, settings.control_margin, strictly=True))
    if settings.max_ece is not None:
        gates.append(_below("calibration (ece)", _at(shipped, "ece"), settings.max_ece))
    gates.append(_below("parameters over teacher's", evidence["parameter_share"], settings.max_parameter_share))
    gates.append(_below("bundle against torch", evidence["max_difference"], 1e-4))
    gates += _of_drift(settings, evidence.get("drift") or {})
    gates += _of_bundle(settings, evidence)
    gates += _against_champion(settings, evidence["champion"])
    return Decision(gates=(*gates, _against_reference(settings, evidence.get("reference"))))


def _of_drift(settings: Gates, drift: Mapping[str, Any]) -> list[Gate]:
    """A gate for each limit that is set; each names the feature that lies furthest off."""
    limits = (("drift (psi)", settings.max_drift, "psi"), ("unknown ids", settings.max_unknown, "unknown"))
    gates = [
        (_below(name, drift.get(f"max_{key}"), most), drift.get(f"{key}_feature"))
        for name, most, key in limits
        if most is not None
    ]
    return [gate if feature is None else replace(gate, found=f"{gate.found} ({feature})") for gate, feature in gates]


def _of_bundle(settings: Gates, evidence: Mapping[str, Any]) -> list[Gate]:
    """Size and speed where a limit is set, features where any is denied, and that a server answers with it."""
    gates = []
    if settings.max_bytes is not None:
        size = evidence.get("bytes")
        found = "missing" if size is None else f"{size:,}"
        gates.append(replace(_below("bytes of the bundle", size, settings.max_bytes), found=found))
    if settings.max_p99_ratio is not None:
        gates.append(_below("p99 over the reference graph's", evidence.get("p99_ratio"), settings.max_p99_ratio))
    if settings.denied:
        denied = evidence.get("denied")
        found = "missing" if denied is None else ", ".join(denied) or "none"
        wanted = f"none of {', '.join(settings.denied)}"
        gates.append(_said("feature policy", denied is not None and not denied, found, wanted))
    booted = evidence.get("boot") or {"error": "missing"}
    found = str(booted.get("error") or f"{booted['answered']} answered")
    fine = "error" not in booted and booted["answered"] > 0
    return [*gates, _said("golden requests, from a server", fine, found, "each within 0.0001")]


def _against_champion(settings: Gates, champion: Mapping[str, Any] | None) -> list[Gate]:
    name = f"{settings.metric} over champion, low end"
    first = _not_worse(name, settings, champion, settings.champion_margin, "no champion")
    if champion is None or "error" in champion:
        return [first]
    newer = champion["candidate_window_end"] >= champion["window_end"]
    found = "newer or equal" if newer else "older"
    dated = _said("data not older than champion's", newer, found, "newer or equal")
    return [first, *_superior(settings, champion), *_in_slices(settings, champion), dated]


def _against_reference(settings: Gates, frozen: Mapping[str, Any] | None) -> Gate:
    name = f"{settings.metric} over reference, low end"
    return _not_worse(name, settings, frozen, settings.reference_margin, "no reference but the champion")


def _not_worse(name: str, settings: Gates, other: Mapping[str, Any] | None, margin: float, absent: str) -> Gate:
    """Non-inferiority: the low end of ours - theirs is above minus the margin."""
    wanted = f"> {0 - margin:g}"
    if other is None:
        return Gate(name=name, verdict="NO_BASELINE", found=absent, wanted=wanted)
    if "error" in other:
        return _said(name, False, str(other["error"]), wanted)
    return _above(name, _low(other["difference"].get(settings.metric)), 0 - margin, strictly=True)


def _superior(settings: Gates, champion: Mapping[str, Any]) -> list[Gate]:
    """Superiority, where it is asked for: the low end over users and seeds is above 0."""
    if not settings.superior:
        return []
    low = _low(champion.get("beyond_seeds"))
    ours, theirs = champion.get("num_seeds") or ("no", "no")
    gate = _above(f"{settings.metric} beyond seeds, low end", low, 0.0, strictly=True)
    return [replace(gate, found=f"{gate.found} ({ours} seeds against {theirs})")]


def _in_slices(settings: Gates, champion: Mapping[str, Any]) -> list[Gate]:
    """A gate for each slice; one with too few users has no baseline. Slices that were asked for and not cut fail."""
    wanted = f"> {0 - settings.slice_margin:g}"
    found = champion.get("slices") or []
    if settings.slices and not found:
        return [_said("slices, low ends", False, "missing", wanted)]
    return [_of_slice(settings, one, wanted) for one in found]


def _of_slice(settings: Gates, one: Mapping[str, Any], wanted: str) -> Gate:
    name, users = f"{settings.metric} in {one['name']}, low end", one["users"]
    if users < settings.slice_users:
        few = f"{users} users, of {settings.slice_users} needed"
        return Gate(name=name, verdict="NO_BASELINE", found=few, wanted=wanted)
    gate = _above(name, _low(one["difference"]), 0 - settings.slice_margin, strictly=True)
    return replace(gate, found=f"{gate.found} ({users:,} users)")


def _at(values: Mapping[str, Value], metric: str) -> float | None:
    return values[metric][0] if metric in values else None


def _low(found: Value | None) -> float | None:
    """The low end of [value, low, high]."""
    return None if found is None else found[1]


def _above(name: str, found: float | None, least: float, *, strictly: bool = False) -> Gate:
    fine = found is not None and math.isfinite(found) and (found > least if strictly else found >= least)
    return _gate(name, fine, found, f"{'>' if strictly else '>='} {least:g}")


def _below(name: str, found: float | None, most: float) -> Gate:
    fine = found is not None and math.isfinite(found) and found <= most
    return _gate(name, fine, found, f"<= {most:g}")


def _gate(name: str, fine: bool, found: float | None, wanted: str) -> Gate:
    return _said(name, fine, "missing" if found is None else f"{found:.4g}", wanted)


def _said(name: str, fine: bool, found: str, wanted: str) -> Gate:
    return Gate(name=name, verdict="PASS" if fine else "FAIL", found=found, wanted=wanted)
