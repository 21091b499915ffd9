"""Every worked example in the package runs, and every plug-in has one."""

import dataclasses
import doctest
import importlib
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import recdistill
from recdistill.distil.facts import Facts, Popularity, RowLogits, Widths
from recdistill.distil.inside import Inside
from recdistill.plugins import GRAMMAR, find
from recdistill.types import Batch, Scores

ROOT = Path(recdistill.__file__).parent
PLUGINS = {path for kind in GRAMMAR for path in find(kind).values()}
IN_PLUGINS = {"math": math, "torch": torch, "Batch": Batch, "Scores": Scores, "replace": dataclasses.replace}
IN_PLUGINS |= {"Facts": Facts, "Widths": Widths, "Popularity": Popularity, "RowLogits": RowLogits, "Inside": Inside}
IN_PLUGINS |= {"SimpleNamespace": SimpleNamespace}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def name_of(path):
    return ".".join([ROOT.name, *path.relative_to(ROOT).with_suffix("").parts])


def examples(path):
    """The doctests of a module, plug-ins with the names that their readers know."""
    module = importlib.import_module(name_of(path))
    extra = IN_PLUGINS if path in PLUGINS else {}
    found = doctest.DocTestFinder().find(module, extraglobs=extra)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_examples_run(path, capsys):
    runner = doctest.DocTestRunner()
    for test in examples(path):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(PLUGINS), ids=name_of)
def test_a_plugin_shows_an_example(path):
    assert examples(path)


def test_there_are_modules_and_plugins_and_examples():
    assert len(FILES) >= 40
    assert len(PLUGINS) >= 10
    assert sum(len(examples(path)) for path in FILES) >= 15
