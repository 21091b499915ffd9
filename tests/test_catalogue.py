"""The catalogue names every recipe and every plug-in with paper, settings and needs; every recipe says whose it is."""

import re
import shlex
from pathlib import Path

import pytest

from recdistill.catalogue import detail, entries, overview
from recdistill.plugins import KINDS, find
from recdistill.problems import BadInput

FOLDER = Path(__file__).resolve().parent.parent / "configs/recipes"
ENTRIES = entries(FOLDER)


def test_the_overview_holds_every_recipe_and_every_plug_in():
    starts = [line.split()[0] for line in overview(FOLDER).splitlines() if line]
    plugins = [name for kind in KINDS for name in find(kind)]
    assert len(ENTRIES) >= 68
    assert len(plugins) >= 80
    assert starts == ["recipe", *(entry.name for entry in ENTRIES), "plug-in", *plugins]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_recipe_begins_with_its_command_and_says_its_paper(entry):
    first, *_ = entry.text.splitlines()
    command, *overrides = first.partition(f" recipe={entry.name}")[::2]
    assert command == "# recdistill run configs/demo.yaml"
    assert all(re.fullmatch(r"[a-z._]+=[^=]+", override) for override in shlex.split(" ".join(overrides))), first
    ours = entry.name in ("warm_start", "warm_start_frozen")
    assert ours or re.search(r"\b(19|20)\d\d\b", entry.about), "no year of a paper"
    assert all(len(line) <= 120 for line in entry.text.splitlines())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_sweep_names_settings_that_are_there(entry):
    for name, values in entry.section.sweep.items():
        found = entry.section.model_dump()
        for step in name.split("."):
            found = found[int(step)] if step.isdigit() else found[step]
        assert found in values
        assert len(values) >= 2


def test_a_recipe_in_full_lists_its_plug_ins_and_needs():
    said = detail(FOLDER, "unkd")
    assert "arXiv 2211.14729" in said
    assert "needs: item_popularity, requests" in said
    assert re.search(r"^  pair\.unkd +Unbiased distillation", said, re.MULTILINE)


def test_a_plug_in_in_full_shows_its_formula_needs_and_settings():
    said = detail(FOLDER, "list.decoupled")
    assert said.startswith("objectives/list.decoupled\n")
    assert "KL(Q_T || Q_S)" in said
    assert "needs: requests, teacher" in said
    assert "  rest: 8.0" in said


def test_a_name_of_both_shows_both():
    said = detail(FOLDER, "residual")
    assert "schedules/residual" in said
    assert "recipe=residual" in said


def test_an_unknown_name_and_a_broken_recipe_are_told(tmp_path):
    with pytest.raises(BadInput, match=r"wanted a recipe's or a plug-in's name, found 'unkdd'; did you mean unkd\?"):
        detail(FOLDER, "unkdd")
    (tmp_path / "one.yaml").write_text("# a\nterms: [point.no_such]\n")
    (tmp_path / "two.yaml").write_text("# a\nterms: [\n")
    with pytest.raises(BadInput) as caught:
        overview(tmp_path)
    assert [line.partition(": wanted a recipe")[0] for line in caught.value.problems] == [
        str(tmp_path / "one.yaml"),
        str(tmp_path / "two.yaml"),
    ]
