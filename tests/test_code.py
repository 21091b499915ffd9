"""A module's digest follows the sources that it is made of, and nothing else."""

import pytest

from recdistill import code

SOURCES = {
    "a.py": "from recdistill import b\n",
    "b.py": "def f():\n    from recdistill.sub.c import thing\n",
    "sub/__init__.py": "",
    "sub/c.py": "import json\nimport recdistill.d as d\n",
    "d.py": "import recdistill.a\n",
    "alone.py": "x = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of that name in which a -> b -> sub.c -> d -> a, and one module stands alone."""
    root = tmp_path / "recdistill"
    for name, text in SOURCES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(code, "ROOT", root)
    return root


def test_the_closure_follows_every_form_of_import_and_ends_on_a_cycle(package):
    found = [path.relative_to(package).as_posix() for path in code.closure(package / "a.py")]
    assert found == ["a.py", "b.py", "d.py", "sub/c.py"]
    assert code.closure(package / "alone.py") == [package / "alone.py"]


@pytest.mark.parametrize("name", ["a.py", "b.py", "sub/c.py", "d.py"])
def test_a_changed_source_changes_the_digest_of_all_made_of_it(package, name):
    before = code.code_digest(package / "a.py"), code.code_digest(package / "alone.py")
    (package / name).write_text(SOURCES[name] + "# changed\n")
    after = code.code_digest(package / "a.py"), code.code_digest(package / "alone.py")
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_a_digest_does_not_depend_on_the_order_of_the_files(package):
    one, other = package / "alone.py", package / "d.py"
    assert code.code_digest(one, other) == code.code_digest(other, one)


def test_the_real_recipe_is_made_of_its_values_and_of_no_model():
    found = {path.relative_to(code.ROOT).as_posix() for path in code.closure(code.ROOT / "distil/recipe.py")}
    assert {"distil/recipe.py", "distil/stress.py", "distil/hashed.py", "plugins.py", "types.py"} == found
