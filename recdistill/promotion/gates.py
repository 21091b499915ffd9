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
    """evidence: report (of evaluate), max_difference, parameter_share, drift: None where it was not measured, else
    {"max_psi", "psi_feature", "max_unknown", "unknown_feature"}, and champion: None without one, else
    {"version", "difference" (metric -> [value, low, high]), "window_end", "candidate_window_end"} or {"error"}."""
    report = evidence["report"]
    shipped = report["models"]["shipped"]
    gates = [_above(f"{metric} floor", _at(shipped, metric), least) for metric, least in settings.floors.items()]
    gain = report["gain"][settings.metric]
    gates.append(_above(f"{settings.metric} over control, low end", gain[1], settings.control_margin, strictly=True))
    if settings.max_ece is not None:
        gates.append(_below("calibration (ece)", _at(shipped, "ece"), settings.max_ece))
    gates.append(_below("parameters over teacher's", evidence["parameter_share"], settings.max_parameter_share))
    gates.append(_below("bundle against torch", evidence["max_difference"], 1e-4))
    gates += _of_drift(settings, evidence.get("drift") or {})
    return Decision(gates=(*gates, *_against_champion(settings, evidence["champion"])))


def _of_drift(settings: Gates, drift: Mapping[str, Any]) -> list[Gate]:
    """A gate for each limit that is set; each names the feature that lies furthest off."""
    limits = (("drift (psi)", settings.max_drift, "psi"), ("unknown ids", settings.max_unknown, "unknown"))
    gates = [
        (_below(name, drift.get(f"max_{key}"), most), drift.get(f"{key}_feature"))
        for name, most, key in limits
        if most is not None
    ]
    return [gate if feature is None else replace(gate, found=f"{gate.found} ({feature})") for gate, feature in gates]


def _against_champion(settings: Gates, champion: Mapping[str, Any] | None) -> list[Gate]:
    name, wanted = f"{settings.metric} over champion, low end", f"> {0 - settings.champion_margin:g}"
    if champion is None:
        return [Gate(name=name, verdict="NO_BASELINE", found="no champion", wanted=wanted)]
    if "error" in champion:
        return [Gate(name=name, verdict="FAIL", found=str(champion["error"]), wanted=wanted)]
    low = champion["difference"][settings.metric][1]
    newer = champion["candidate_window_end"] >= champion["window_end"]
    return [
        _above(name, low, 0 - settings.champion_margin, strictly=True),
        Gate(
            name="data not older than champion's",
            verdict="PASS" if newer else "FAIL",
            found="newer or equal" if newer else "older",
            wanted="newer or equal",
        ),
    ]


def _at(values: Mapping[str, Value], metric: str) -> float | None:
    return values[metric][0] if metric in values else None


def _above(name: str, found: float | None, least: float, *, strictly: bool = False) -> Gate:
    fine = found is not None and math.isfinite(found) and (found > least if strictly else found >= least)
    return _gate(name, fine, found, f"{'>' if strictly else '>='} {least:g}")


def _below(name: str, found: float | None, most: float) -> Gate:
    fine = found is not None and math.isfinite(found) and found <= most
    return _gate(name, fine, found, f"<= {most:g}")


def _gate(name: str, fine: bool, found: float | None, wanted: str) -> Gate:
    shown = "missing" if found is None else f"{found:.4g}"
    return Gate(name=name, verdict="PASS" if fine else "FAIL", found=shown, wanted=wanted)
