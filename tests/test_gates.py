"""Every gate lets through what it should and nothing that is missing, not a number or on the wrong side."""

import math

import pytest
from conftest import make_run
from pydantic import ValidationError

from recdistill.config.gates import Gates
from recdistill.promotion.gates import Decision, Gate, decide_gates

SETTINGS = Gates(metric="auc", floors={"auc": 0.6, "gauc": 0.55}, control_margin=0.001, champion_margin=0.01)


def evidence(**changes):
    """What passes every gate of SETTINGS, by a little."""
    made = {
        "auc": 0.6,
        "gauc": 0.56,
        "ece": 0.05,
        "gain_low": 0.0011,
        "parameter_share": 0.125,
        "max_difference": 1e-4,
        "champion": {"version": 3, "difference": {"auc": [0, -0.009, 1]}, "window_end": 7, "candidate_window_end": 7},
        "reference": {"version": 1, "difference": {"auc": [0, -0.0049, 1]}},
        "boot": {"answered": 64},
    }
    made |= changes
    shipped = {name: [made[name], None, None] for name in ("auc", "gauc", "ece") if name in made}
    report = {"models": {"shipped": shipped}, "gain": {"auc": [1.0, made["gain_low"], 1.0]}}
    kept = {name: made[name] for name in made if name not in ("auc", "gauc", "ece", "gain_low")}
    return {"report": report, **kept}


def champion(low=-0.009, ours=7, theirs=7):
    difference = {"auc": [0.0, low, 0.1]}
    return {"version": 3, "difference": difference, "window_end": theirs, "candidate_window_end": ours}


def verdicts(**changes):
    return {gate.name: gate.verdict for gate in decide_gates(SETTINGS, evidence(**changes)).gates}


NAMES = {
    "auc": "auc floor",
    "gauc": "gauc floor",
    "gain_low": "auc over control, low end",
    "ece": "calibration (ece)",
    "parameter_share": "parameters over teacher's",
    "max_difference": "bundle against torch",
}


def test_what_meets_every_bound_passes():
    decision = decide_gates(SETTINGS, evidence())
    assert decision.verdict == "PASS"
    assert len(decision.gates) == len(NAMES) + 4
    assert {gate.verdict for gate in decision.gates} == {"PASS"}
    assert len({gate.name for gate in decision.gates}) == len(decision.gates)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("auc", 0.5999),
        ("gauc", 0.5499),
        ("gain_low", 0.001),  # not above the margin
        ("gain_low", -0.2),
        ("ece", 0.0501),
        ("parameter_share", 0.1251),
        ("max_difference", 1.01e-4),
    ],
)
def test_one_step_beyond_a_bound_fails_that_gate_and_the_whole(field, value):
    found = verdicts(**{field: value})
    assert [name for name, verdict in found.items() if verdict == "FAIL"] == [NAMES[field]]
    assert decide_gates(SETTINGS, evidence(**{field: value})).verdict == "FAIL"


@pytest.mark.parametrize("field", NAMES)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_nothing_missing_or_not_finite_passes(field, value):
    assert verdicts(**{field: value})[NAMES[field]] == "FAIL"


def test_a_metric_that_was_not_measured_fails_its_floor():
    gates = Gates(floors={"auc": 0.5, "ndcg_at_10": 0.1})
    found = {gate.name: gate for gate in decide_gates(gates, evidence()).gates}
    assert (found["ndcg_at_10 floor"].verdict, found["ndcg_at_10 floor"].found) == ("FAIL", "missing")


WITH_DRIFT = SETTINGS.model_copy(update={"max_drift": 0.25, "max_unknown": 0.1})
DRIFT = {"max_psi": 0.25, "psi_feature": "price", "max_unknown": 0.1, "unknown_feature": "item"}


def drift_gates(settings, drift):
    lines = decide_gates(settings, {**evidence(), "drift": drift}).gates
    return {gate.name: gate for gate in lines if gate.name in ("drift (psi)", "unknown ids")}


def test_drift_at_its_limits_passes_and_names_the_feature():
    found = drift_gates(WITH_DRIFT, DRIFT)
    assert {name: gate.verdict for name, gate in found.items()} == {"drift (psi)": "PASS", "unknown ids": "PASS"}
    assert (found["drift (psi)"].found, found["drift (psi)"].wanted) == ("0.25 (price)", "<= 0.25")
    assert (found["unknown ids"].found, found["unknown ids"].wanted) == ("0.1 (item)", "<= 0.1")


@pytest.mark.parametrize(("field", "name"), [("max_psi", "drift (psi)"), ("max_unknown", "unknown ids")])
@pytest.mark.parametrize("value", [0.2501, None, math.nan, math.inf, -math.inf])
def test_drift_beyond_its_limit_missing_or_not_finite_fails_that_gate_and_the_whole(field, name, value):
    found = drift_gates(WITH_DRIFT, {**DRIFT, field: value})
    assert [gate.name for gate in found.values() if gate.verdict == "FAIL"] == [name]
    assert decide_gates(WITH_DRIFT, {**evidence(), "drift": {**DRIFT, field: value}}).verdict == "FAIL"


@pytest.mark.parametrize("drift", [None, {}])
def test_drift_that_was_not_measured_fails_where_a_limit_is_set(drift):
    found = drift_gates(WITH_DRIFT, drift)
    assert [(gate.verdict, gate.found) for gate in found.values()] == [("FAIL", "missing")] * 2
    assert decide_gates(WITH_DRIFT, evidence()).verdict == "FAIL"  # nor where nobody passed it on


def test_without_limits_drift_has_no_gate():
    assert drift_gates(SETTINGS, {**DRIFT, "max_psi": 9.0}) == {}
    assert list(drift_gates(SETTINGS.model_copy(update={"max_unknown": 0.0}), DRIFT)) == ["unknown ids"]


def test_an_unknown_share_of_zero_meets_a_limit_of_zero():
    gates = SETTINGS.model_copy(update={"max_unknown": 0.0})
    assert drift_gates(gates, {**DRIFT, "max_unknown": 0.0})["unknown ids"].verdict == "PASS"


def test_without_a_champion_there_is_no_baseline_and_the_whole_may_pass():
    decision = decide_gates(SETTINGS, evidence(champion=None, reference=None))
    assert [gate.verdict for gate in decision.gates].count("NO_BASELINE") == 2
    assert decision.verdict == "PASS"
    assert decide_gates(SETTINGS, evidence(champion=None, auc=0.1)).verdict == "FAIL"


def test_a_champion_that_cannot_be_scored_fails():
    decision = decide_gates(SETTINGS, evidence(champion={"error": "bundle of version 3 is damaged"}))
    (gate,) = [gate for gate in decision.gates if gate.verdict == "FAIL"]
    assert "version 3 is damaged" in gate.found


@pytest.mark.parametrize(("low", "verdict"), [(-0.0099, "PASS"), (-0.01, "FAIL"), (-0.5, "FAIL"), (0.3, "PASS")])
def test_a_candidate_may_lose_to_the_champion_by_less_than_the_margin(low, verdict):
    assert verdicts(champion=champion(low))["auc over champion, low end"] == verdict


@pytest.mark.parametrize("low", [None, math.nan])
def test_a_comparison_without_an_interval_fails(low):
    assert verdicts(champion=champion(low))["auc over champion, low end"] == "FAIL"


@pytest.mark.parametrize(("ours", "theirs", "verdict"), [(7, 7, "PASS"), (8, 7, "PASS"), (6, 7, "FAIL")])
def test_data_older_than_the_champions_fail(ours, theirs, verdict):
    assert verdicts(champion=champion(ours=ours, theirs=theirs))["data not older than champion's"] == verdict


def test_another_metric_is_compared_where_the_config_says_so():
    gates = Gates(metric="gauc", floors={}, control_margin=0.0)
    given = evidence(champion={**champion(), "difference": {"gauc": [0, -1, 0], "auc": [1, 1, 1]}})
    given["report"]["gain"] = {"gauc": [0.1, -0.1, 0.2], "auc": [1, 1, 1]}
    failed = [gate.name for gate in decide_gates(gates, given).gates if gate.verdict == "FAIL"]
    names = ("control", "champion", "reference")  # of the reference gauc is missing
    assert failed == [f"gauc over {name}, low end" for name in names]


def named(settings, **changes):
    return {gate.name: gate for gate in decide_gates(settings, evidence(**changes)).gates}


@pytest.mark.parametrize(("low", "verdict"), [(-0.0049, "PASS"), (-0.005, "FAIL"), (None, "FAIL"), (math.nan, "FAIL")])
def test_many_small_losses_are_seen_against_the_reference(low, verdict):
    reference = {"version": 1, "difference": {"auc": [0.0, low, 0.1]}}
    assert named(SETTINGS, reference=reference)["auc over reference, low end"].verdict == verdict
    assert decide_gates(SETTINGS, evidence(reference=reference)).verdict == verdict


def test_a_reference_that_cannot_be_scored_fails():
    found = named(SETTINGS, reference={"version": 1, "error": "no column price"})
    assert found["auc over reference, low end"].verdict == "FAIL"


SUPERIOR = SETTINGS.model_copy(update={"superior": True})


@pytest.mark.parametrize(
    ("beyond", "verdict"),
    [([0.1, 0.001, 0.2], "PASS"), ([0.1, 0.0, 0.2], "FAIL"), ([None, None, None], "FAIL"), (None, "FAIL")],
)
def test_superiority_is_asked_for_beyond_seeds(beyond, verdict):
    found = named(SUPERIOR, champion={**champion(), "beyond_seeds": beyond, "num_seeds": [3, 2]})
    assert found["auc beyond seeds, low end"].verdict == verdict
    assert found["auc beyond seeds, low end"].found.endswith("(3 seeds against 2)")
    assert "auc beyond seeds, low end" not in named(SETTINGS)


def test_the_first_champion_need_not_be_superior_to_none():
    assert decide_gates(SUPERIOR, evidence(champion=None)).verdict == "PASS"


SLICED = SETTINGS.model_copy(update={"slices": ["hour"], "slice_margin": 0.02, "slice_users": 10})


@pytest.mark.parametrize(
    ("users", "low", "verdict"),
    [(10, -0.019, "PASS"), (10, -0.02, "FAIL"), (9, None, "NO_BASELINE"), (10, None, "FAIL"), (10, math.nan, "FAIL")],
)
def test_a_slice_may_lose_less_than_its_margin_and_is_left_out_with_few_users(users, low, verdict):
    one = {"name": "hour 03", "rows": 50, "users": users, "difference": [0.0, low, 0.1]}
    found = named(SLICED, champion={**champion(), "slices": [one]})
    assert found["auc in hour 03, low end"].verdict == verdict


def test_slices_that_were_not_cut_fail():
    assert named(SLICED)["slices, low ends"].verdict == "FAIL"


@pytest.mark.parametrize(
    ("limit", "field", "fine", "wrong", "name"),
    [
        ({"max_bytes": 100}, "bytes", 100, 101, "bytes of the bundle"),
        ({"max_p99_ratio": 2.0}, "p99_ratio", 2.0, 2.01, "p99 over the reference graph's"),
        ({"denied": ["zip*"]}, "denied", [], ["zip_code"], "feature policy"),
    ],
)
def test_size_speed_and_policy_are_gates_where_they_are_set(limit, field, fine, wrong, name):
    settings = SETTINGS.model_copy(update=limit)
    assert named(settings, **{field: fine})[name].verdict == "PASS"
    for value in (wrong, None):
        assert named(settings, **{field: value})[name].verdict == "FAIL"
    assert name not in named(SETTINGS, **{field: wrong})


@pytest.mark.parametrize("booted", [None, {"error": "the server says no"}, {"answered": 0}])
def test_a_bundle_that_no_server_answers_with_fails(booted):
    assert named(SETTINGS, boot=booted)["golden requests, from a server"].verdict == "FAIL"


@pytest.mark.parametrize("slices", [["gender"], ["item"], ["hour", "history.item_id"]])
def test_slices_are_kinds_or_features(tmp_path, slices):
    make_run(tmp_path, tmp_path, gates={"slices": ["hour", "tail", "price", "country"]})
    with pytest.raises(ValidationError, match=r"gates.slices: wanted features, new_users"):
        make_run(tmp_path, tmp_path, gates={"slices": slices})


def test_a_decision_is_json_with_found_and_wanted_for_a_reader():
    gate = Gate(name="auc floor", verdict="PASS", found="0.61", wanted=">= 0.6")
    wanted = {
        "verdict": "PASS",
        "gates": [{"name": "auc floor", "verdict": "PASS", "found": "0.61", "wanted": ">= 0.6"}],
    }
    assert Decision(gates=(gate,)).to_json() == wanted
    shown = {g.name: (g.found, g.wanted) for g in decide_gates(SETTINGS, evidence(auc=0.61234)).gates}
    assert shown["auc floor"] == ("0.6123", ">= 0.6")
