"""What a config may not ask of a recipe, and what a recipe may not ask of a run: told at once, with the remedy."""

from pathlib import Path

import pytest
from conftest import make_run
from pydantic import ValidationError
from recipe_rows import ENTRIES, refusal, section

from recdistill.config.load import load
from recdistill.config.unfit import runs_on


@pytest.mark.parametrize("target", ["swap_wrong", "smooth_wrong", "keep_true", "keep_top", "item_similarity"])
def test_targets_edited_by_label_or_request_never_feed_a_calibrated_term(target):
    said = refusal(targets=[target], terms=["label.bce", "point.soft_bce"])
    assert f"wanted point.soft_bce to learn calibrated scores, found {target} before it" in said
    assert "use a list term" in said
    assert target in refusal(terms=[{"use": "point.logit_mse", "targets": [target]}])
    assert section(targets=[target], terms=["label.bce", "list.softmax_kl"]).targets


def test_a_recipe_says_all_that_it_lacks_at_once():
    said = refusal(
        terms=[{"use": "feature.gradient", "weight": 0.0}], trains_tables=False, partner={"terms": ["label.bce"]}
    )
    for part in (
        "wanted teacher: live for feature.gradient, found stored",
        "wanted teacher: joint and a partner together",
        "wanted init: teacher_pca beside trains_tables: false",
        "wanted a term with a weight above 0",
    ):
        assert part in said


def test_settings_of_a_named_recipe_can_be_overridden_in_any_order(tmp_path):
    """The sweep's other points, or the earlier run, from the command line."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text("previous: nowhere\ntargets: [delta]\nterms: [point.soft_bce]\n")
    (tmp_path / "a.yaml").write_text(
        "name: a\ndata: {source: log, time: t, user: u, label: {column: y}}\nfeatures: {ids: [i]}\n"
    )
    for overrides in (["recipe=mine", "recipe.previous=runs/a"], ["recipe.previous=runs/a", "recipe=mine"]):
        run = load(tmp_path / "a.yaml", overrides)
        assert (run.recipe.previous, run.recipe.terms[0].use) == ("runs/a", "point.soft_bce")


def test_an_earlier_run_must_be_named():
    assert "wanted previous: the folder of an earlier run for delta" in refusal(
        targets=["delta"], terms=["point.soft_bce"]
    )


def refused_run(**sections):
    with pytest.raises(ValidationError) as caught:
        make_run(Path("nowhere"), Path("nowhere"), **sections)
    return str(caught.value)


PRIVILEGED = {"ids": ["item_id", {"column": "country", "serve": "never"}]}


def test_privileged_features_must_be_there_and_in_no_student():
    recipe = {"privileged": True, "terms": ["label.bce", "point.soft_bce"]}
    assert make_run(Path("nowhere"), Path("nowhere"), recipe=recipe, features=PRIVILEGED).features.privileged == {
        "country"
    }
    assert "wanted features that the teacher alone reads, found none" in refused_run(recipe=recipe)
    again = {"ids": [*PRIVILEGED["ids"], {"cross": ["country", "categories"], "name": "both"}]}
    assert "found country in both" in refused_run(recipe=recipe, features=again)


def test_members_must_be_stored_and_are_no_live_teachers():
    recipe = {"targets": ["trajectory"], "terms": ["list.softmax_kl"]}
    assert "wanted the logits of the teacher's members, found score.members: false" in refused_run(recipe=recipe)
    assert make_run(Path("nowhere"), Path("nowhere"), recipe=recipe, score={"members": True}).recipe.targets
    assert "wanted teacher: stored for trajectory, found live" in refusal(teacher="live", **recipe)


def test_a_trajectory_never_feeds_a_calibrated_term():
    assert "found trajectory before it" in refusal(targets=["trajectory"], terms=["point.soft_bce"])


def test_recipes_of_top_lists_run_on_pairs_too():
    found = {entry.name for entry in ENTRIES if "pairs" in runs_on(entry.section)}
    assert found >= {"rd", "cd", "rrd", "de", "de_rrd", "ir_rrd", "ftd", "htd", "dcd", "rce", "rankdistil", "unkd"}
    assert found >= {"warm_start", "warm_start_frozen", "warm_lists"}
    assert not found & {"pfd", "hetcomp", "ensemble_gated", "ektf", "exfm", "loopfm", "rocket", "hint", "kd_dagfm"}
