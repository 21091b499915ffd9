"""A YAML and its overrides become a run, or a list of everything that is wrong with them, a clear line each."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import make_run, the_line
from pydantic import ValidationError
from recipe_rows import ENTRIES

from recdistill.config.load import load
from recdistill.config.run import Run
from recdistill.config.unfit import runs_on
from recdistill.problems import BadInput

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
RECIPES = sorted((ROOT / "configs/recipes").glob("*.yaml"))
ROWS_ALONE = {entry.name for entry in ENTRIES if runs_on(entry.section) == ("rows",)}
DRAWS_LABELS = {"label_smoothing", "study_imbalance", "study_label_noise"}  # not beside student.pairs.negatives: all

GOOD = """
name: shop
data:
  source: log
  time: timestamp
  user: user_id
  label: {column: clicked}
features:
  ids: [item_id, country]
  dense: [price]
  history: {item: item_id, outcomes: [clicked], length: 30}
"""


def write(tmp_path, text=GOOD, name="shop.yaml"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems(path, *overrides):
    with pytest.raises(BadInput) as caught:
        load(path, overrides)
    return caught.value.problems


def test_a_small_yaml_is_a_whole_run_with_the_defaults_of_the_schema(tmp_path):
    run = load(write(tmp_path))
    assert run.name == run.experiment == "shop"
    assert (run.folder, run.model) == ("runs/shop", "shop-student")
    assert run.features.ids[0].column == "item_id"
    assert run.features.dense[0].transform == "standardise"
    assert [term.use for term in run.recipe.terms] == ["label.bce", "point.soft_bce"]
    assert run.recipe.terms[1].choice().settings == {"temperature": 1.0}


def test_overrides_reach_any_depth_and_are_read_as_yaml(tmp_path):
    path = write(tmp_path)
    overrides = ["teacher.epochs=2", "student.tower=[8, 4]", "data.split.train=0.6", "name=other", "root=null"]
    run = load(path, [*overrides, "recipe={terms: [{use: point.soft_bce, temperature: 4}]}"])
    assert (run.teacher.epochs, run.student.tower, run.data.split.train) == (2, [8, 4], 0.6)
    assert (run.name, run.root) == ("other", None)
    assert run.recipe.terms[0].choice().settings == {"temperature": 4.0}
    assert load(path, ["seed=1", "seed=2"]).seed == 2


def test_overrides_make_the_run_that_the_same_yaml_would(tmp_path):
    by_yaml = load(write(tmp_path, GOOD + "teacher: {epochs: 3}\n"))
    assert load(write(tmp_path), ["teacher.epochs=3"]) == by_yaml


def test_every_problem_is_told_at_once(tmp_path):
    text = (
        GOOD.replace("time: timestamp", "tiem: timestamp") + "seed: -1\nteacher: {epochs: 0, batch: 9}\nstudnet: {}\n"
    )
    lines = problems(write(tmp_path, text), "student.seeds=none")
    assert len(lines) == 7, lines
    the_line(lines, "data.tiem", "did you mean time?")
    the_line(lines, "data.time", "found none; write it")
    the_line(lines, ": seed:", "greater than or equal to 0", "-1")
    the_line(lines, "teacher.epochs", "greater than 0", "found 0")
    the_line(lines, "teacher.batch:", "did you mean batch_size?")
    the_line(lines, "studnet", "did you mean student?")
    the_line(lines, "command line 'student.seeds=none'", "student.seeds", "integer")
    assert len([line for line in lines if "shop.yaml" in line]) == 6


def test_an_unknown_key_far_from_any_lists_those_that_are_known(tmp_path):
    line = the_line(problems(write(tmp_path, GOOD + "teacher: {zzz: 1}\n")), "teacher.zzz")
    assert "epochs" in line
    assert "interaction" in line


def test_an_unknown_key_of_a_list_entry_is_placed(tmp_path):
    text = GOOD.replace("[item_id, country]", "[item_id, {column: country, min_cuont: 3}]")
    the_line(problems(write(tmp_path, text)), "features.ids.1.min_cuont", "did you mean min_count?")


def test_an_unknown_key_of_an_override_names_the_command_line(tmp_path):
    lines = problems(write(tmp_path), "teacher.epoch=2")
    line = the_line(lines, "command line 'teacher.epoch=2'", "did you mean epochs?")
    assert "shop.yaml" not in line


@pytest.mark.parametrize("override", ["teacher.epochs", "=3", ".epochs=3", "teacher.=3", "teacher..epochs=3"])
def test_an_override_that_is_none_says_how_one_looks(tmp_path, override):
    the_line(problems(write(tmp_path), override), "command line", repr(override), "as in teacher.epochs=2")


def test_an_override_reaches_an_entry_of_a_list(tmp_path):
    path = write(tmp_path)
    recipe = "recipe={terms: [{use: label.bce}, {use: point.soft_bce}]}"
    run = load(path, [recipe, "recipe.terms.1.weight=0.25", "student.tower=[8, 4]", "student.tower.0=16"])
    assert [term.weight for term in run.recipe.terms] == [1.0, 0.25]
    assert run.student.tower == [16, 4]


def test_an_override_changes_what_the_config_leaves_unsaid(tmp_path):
    path = write(tmp_path)
    run = load(path, ["recipe.terms.0.weight=0.5", "student.tower.0=16"])
    first, second = run.recipe.terms
    assert (first.use, first.weight, second.use, second.weight) == ("label.bce", 0.5, "point.soft_bce", 0.8)
    assert (run.student.tower, load(path).student.tower) == ([16, 32], [64, 32])


def test_an_override_of_an_unsaid_plug_in_keeps_its_name(tmp_path):
    assert (
        load(write(tmp_path), ["teacher.interaction.layers=2"]).teacher.interaction
        == load(write(tmp_path), ["teacher.interaction={use: dcnv2, layers: 2}"]).teacher.interaction
    )


@pytest.mark.parametrize("name", ["features.ids.7", "features.ids.x", "features.ids.-1", "features.ids.9.min_count"])
def test_an_entry_that_a_list_has_not_is_told(tmp_path, name):
    the_line(problems(write(tmp_path), f"{name}=2"), name, "a place in a list of 2, from 0", "or give the whole list")


def test_an_override_below_a_value_is_told(tmp_path):
    the_line(problems(write(tmp_path), "data.user.x=1"), "command line 'data.user.x=1': data.user: wanted a section")


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path):
    for text in (GOOD + "name: again\n", GOOD.replace("user: user_id", "user: user_id\n  user: other")):
        line = the_line(problems(write(tmp_path, text)), "stands twice")
        assert "line " in line


def test_yaml_that_cannot_be_read_says_so(tmp_path):
    the_line(problems(tmp_path / "nowhere.yaml"), "nowhere.yaml", "No such file", "configs/demo.yaml")
    the_line(problems(write(tmp_path, "name: [a")), "readable YAML")
    the_line(problems(write(tmp_path, "- a\n- b\n")), "wanted sections", "list")
    the_line(problems(write(tmp_path, "")), "wanted sections")
    the_line(problems(write(tmp_path, "x: !!python/object/apply:os.getcwd []\n")), "readable YAML")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00name")
    the_line(problems(tmp_path / "bytes.yaml"), "readable YAML")


def test_the_default_remedy_names_a_file_that_works():
    load(ROOT / "configs/demo.yaml")


def test_an_unknown_objective_is_told_with_the_nearest(tmp_path):
    text = GOOD + "recipe: {terms: [{use: point.soft_bse}, label.bce]}\n"
    line = the_line(problems(write(tmp_path, text)), "recipe.terms.0", "point.soft_bse")
    assert "did you mean point.soft_bce?" in line
    assert "list.clid" in line  # those that there are


@pytest.mark.parametrize(
    ("section", "value", "place"),
    [
        ("targets", "[{use: clup}]", "recipe.targets.0"),
        ("selection", "sure", "recipe.selection"),
        ("schedule", "{use: lineer}", "recipe.schedule"),
    ],
)
def test_every_kind_of_plugin_is_looked_up_in_its_own_folder(tmp_path, section, value, place):
    text = GOOD + f"recipe: {{terms: [label.bce], {section}: {value}}}\n"
    the_line(problems(write(tmp_path, text)), place, "wanted one of")


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("{use: point.soft_bce, temperature: 0}", ["temperature", "greater than 0"]),
        ("{use: point.soft_bce, temperature: hot}", ["temperature", "number"]),
        ("{use: point.soft_bce, temprature: 2}", ["temprature", "takes temperature"]),
        ("{use: label.bce, temperature: 2}", ["temperature", "takes none"]),
    ],
)
def test_wrong_settings_of_a_plugin_are_told_with_what_it_takes(tmp_path, term, words):
    the_line(problems(write(tmp_path, GOOD + f"recipe: {{terms: [{term}]}}\n")), "recipe.terms.0", *words)


def test_settings_of_a_plugin_may_be_overridden_and_are_checked(tmp_path):
    path = write(tmp_path, GOOD + "recipe: {terms: [label.bce], schedule: {use: linear}}\n")
    assert load(path, ["recipe.schedule.end=0.5"]).recipe.schedule.choice().settings == {"start": 1.0, "end": 0.5}
    the_line(problems(path, "recipe.schedule.end=-1"), "recipe.schedule", "end")


def test_a_recipe_by_name_is_read_from_beside_the_config(tmp_path):
    write(tmp_path, "terms: [{use: list.clid, weight: 0.7}]\n", "recipes/mine.yaml")
    by_key = load(write(tmp_path, GOOD + "recipe: mine\n"))
    by_override = load(write(tmp_path), ["recipe=mine"])
    assert by_key == by_override
    assert [(term.use, term.weight) for term in by_key.recipe.terms] == [("list.clid", 0.7)]


def test_an_unknown_recipe_is_told_with_the_nearest_and_with_those_there_are(tmp_path):
    write(tmp_path, "terms: [label.bce]\n", "recipes/clid.yaml")
    line = the_line(problems(write(tmp_path), "recipe=clidd"), "recipe", "'clidd'", "did you mean clid?")
    assert "recipes" in line


def test_a_recipe_without_weight_or_terms_is_refused(tmp_path):
    the_line(problems(write(tmp_path, GOOD + "recipe: {terms: []}\n")), "recipe.terms")
    nothing = GOOD + "recipe: {terms: [{use: label.bce, weight: 0}]}\n"
    the_line(problems(write(tmp_path, nothing)), "recipe", "weight above 0")
    negative = GOOD + "recipe: {terms: [{use: label.bce, weight: -1}]}\n"
    the_line(problems(write(tmp_path, negative)), "recipe.terms.0.weight")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[item_id, country]", "[item_id, country, price]", ["features", "every name once", "price"]),
        ("[item_id, country]", "[]", ["features.ids"]),
        ("item: item_id", "item: product", ["features", "history.item"]),
        ("ids: [item_id,", "ids: [{column: item_id, max_values: 2},", ["features", "history.item"]),
        ("label:", "request: {}\n  label:", ["data.request", "exactly one"]),
        ("label:", "request: {column: r, user_every: day}\n  label:", ["data.request", "exactly one"]),
        ("label:", "split: {train: 0.9, valid: 0.1}\n  label:", ["data.split", "test window"]),
        ("label:", "time_unit: minutes\n  label:", ["data.time_unit", "'minutes'"]),
        ("name: shop", "name: ../etc", ["name", "'../etc'"]),
    ],
)
def test_settings_that_do_not_fit_together_are_told(tmp_path, old, new, words):
    assert old in GOOD
    the_line(problems(write(tmp_path, GOOD.replace(old, new))), *words)


def test_a_column_that_the_student_goes_without_must_be_one(tmp_path):
    the_line(problems(write(tmp_path), "student.without=[item]"), "student.without", "item")
    assert load(write(tmp_path), ["student.without=[country]"]).student.without == ["country"]


def test_a_run_is_frozen_and_its_sections_are_json(tmp_path):
    run = make_run(tmp_path / "log", tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        run.seed = 3
    assert set(run.section("teacher", "seed")) == {"teacher", "seed"}
    assert run.section("recipe")["recipe"]["terms"][1]["use"] == "point.soft_bce"


def test_a_dumped_run_is_the_same_run(tmp_path):
    recipe = {"terms": [{"use": "point.soft_bce", "temperature": 3.0}], "schedule": {"use": "linear", "end": 0.2}}
    run = make_run(tmp_path / "log", tmp_path, recipe=recipe)
    again = Run.model_validate(run.model_dump(mode="json"))
    assert again == run
    assert again.recipe.recipe() == run.recipe.recipe()
    assert again.recipe.terms[0].choice().settings == {"temperature": 3.0}


def test_there_are_configs_and_recipes():
    assert len(CONFIGS) >= 2
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_runs_by_itself_and_starts_with_its_command(path):
    run = load(path)
    assert run.name == path.stem
    first = path.read_text().splitlines()[0]
    assert re.fullmatch(rf"# (make drill( CONFIG=configs/{path.name})?|recdistill .*\bconfigs/{path.name}\b.*)", first)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_fits_every_config_and_starts_with_its_command(config, path):
    """With what its first line asks of a run; only demo.yaml has the columns that a first line may name."""
    command = shlex.split(path.read_text().splitlines()[0].removeprefix("# "))
    assert command[:4] == ["recdistill", "run", "configs/demo.yaml", f"recipe={path.stem}"]
    overrides = [item for item in command[3:] if config.stem == "demo" or not item.startswith("features.")]
    if len(overrides) < len(command[3:]):
        the_line(problems(config, *overrides), "recipe.privileged", "serve: never")
        return
    base = load(config)
    unfit = ROWS_ALONE | (DRAWS_LABELS if base.student.pairs.negatives == "all" else set())
    if base.data.pairs is not None and path.stem in unfit:
        the_line(problems(config, *overrides), "recipe", " use ")
        return
    run = load(config, overrides)
    assert [term.use for term in run.recipe.terms] == [t["use"] for t in yaml.safe_load(path.read_text())["terms"]]


def test_no_tracked_yaml_stands_outside_what_is_tested_here():
    found = subprocess.run(["git", "ls-files", "configs"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if found.returncode == 0:  # an unpacked archive has no git
        assert {ROOT / line for line in found.stdout.split()} <= {*CONFIGS, *RECIPES}


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("teecher.epochs=2", "did you mean teacher?"),
        ("data.split.train=0.95", "test window"),
        ("recipe={terms: [label.bce], schedule: {use: linear, end: -1}}", "end"),
        ("recipe.schedule.end=-1", "recipe.schedule"),
        ("recipe.terms.0.weight=2", "recipe.terms"),
    ],
)
def test_a_problem_that_an_override_makes_names_the_command_line(tmp_path, override, word):
    path = write(tmp_path, GOOD + "recipe: {terms: [label.bce], schedule: {use: linear}}\n")
    line = the_line(problems(path, override), "command line", word)
    assert "shop.yaml" not in line


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("[item_id, country]", "[item_id, clicked]", "clicked"),  # the label as a feature of its own row
        ("dense: [price]", "dense: [clicked]", "clicked"),
        ("outcomes: [clicked]", "outcomes: [clicked, clicked]", "clicked"),
        ("outcomes: [clicked]", "outcomes: [item_id]", "item_id"),
    ],
)
def test_a_label_is_no_feature_and_an_outcome_stands_once(tmp_path, old, new, word):
    the_line(problems(write(tmp_path, GOOD.replace(old, new))), "features", word)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ("{name: dear, column: price, at_least: 9}", ["features", "task dear's own price"]),
        ("{name: same, column: buy}, {name: same, column: cart}", ["data.tasks", "every task's name once"]),
        ("{name: a/b, column: buy}", ["data.tasks.0.name"]),
    ],
)
def test_another_outcome_has_a_name_and_is_no_feature(tmp_path, tasks, words):
    text = GOOD.replace("label:", f"tasks: [{tasks}]\n  label:")
    assert text != GOOD
    the_line(problems(write(tmp_path, text)), *words)


def test_a_list_may_not_share_the_table_of_a_history(tmp_path):
    shared = GOOD.replace("ids: [item_id,", "ids: [item_id, {column: tags, max_values: 4, table: item_id},")
    assert shared != GOOD
    the_line(problems(write(tmp_path, shared)), "features", "tables of the history", "found the list tags")
