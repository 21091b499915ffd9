"""What tests of objectives share: every objective that looks at scores alone, in all its variants, and rows for it."""

import dataclasses
import inspect
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from recdistill.distil.facts import Facts, Popularity
from recdistill.distil.lesson import made
from recdistill.plugins import Choice, load_all
from recdistill.types import Batch, Scores

INSIDE = {"hidden", "blocks", "pooled", "live_teacher"}  # objectives with one of these: test_objectives_inside.py
OBJECTIVES = {name: plugin for name, plugin in load_all("objectives").items() if not plugin.needs & INSIDE}
REQUEST = [4, 1, 4, 9, 1, 4, 7, 1]  # three rows each in 1 and 4, one each in 7 and 9
ITEMS = [0, 0, 1, 2, 1, 3, 1, 2, 0]  # items 0, 1 and 2 are one popularity group, every other one is its own
FACTS = Facts(base_rate=-0.4, popularity=Popularity(column=0, counts=torch.tensor([1.0, 1, 1, 9, 9, 9])))
BY_LABEL = {"label.bce", "label.smoothed_bce", "point.variance_reduction"}  # the label moves their optimum
GROUPED = {"pair.unkd", "list.popularity_kl"}  # popularity groups are never compared
TOP = {  # only the teacher's top is told apart: its rows from one another, or (False) only from the rest
    "rank.relaxed_ranking": True,
    "rank.rankdistil": True,
    "rank.item_side": True,
    "list.closure": True,
    "rank.ranking_distillation": False,
}


def variants(plugin):
    """The defaults, then every other way of working: a temperature, a switch, another word of a choice."""
    yield {}
    for name, parameter in plugin.parameters.items():
        if name == "temperature":
            yield {name: 2.5}
        elif isinstance(parameter.default, bool):
            yield {name: not parameter.default}
        elif isinstance(parameter.default, str):
            words = get_args(get_type_hints(made_of(plugin))[name])
            yield from ({name: word} for word in words if word != parameter.default)


def made_of(plugin):
    """What its settings are annotated on."""
    return plugin.make.__init__ if inspect.isclass(plugin.make) else plugin.make


CASES = [
    pytest.param(name, plugin.settings(given), id=f"{name}-{'-'.join(map(str, given.values()))}")
    for name, plugin in OBJECTIVES.items()
    for given in variants(plugin)
]
each_case = pytest.mark.parametrize(("name", "settings"), CASES)


def subject(name, settings, wrap=lambda function: function):
    """An objective as the checks take it: (student, teacher, batch) -> loss, with its needs."""
    plugin = OBJECTIVES[name]
    ready = made(Choice(plugin=plugin, settings=settings), FACTS)
    if isinstance(ready, nn.Module):
        ready = ready.eval()
    function = wrap(ready)
    return SimpleNamespace(
        name=name,
        needs=plugin.needs,
        settings=settings,
        tempered="temperature" in plugin.parameters and "teacher" in plugin.needs,
        function=function,
        loss=function,
    )


def data(request=REQUEST, seed=0):
    """(student, teacher, batch) of random float64 scores, hidden vectors too, labels of both classes."""
    generator = torch.Generator().manual_seed(seed)

    def scores():
        shape = (len(request),)
        logit = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
        return Scores(logit=logit, hidden=torch.randn((*shape, 3), generator=generator, dtype=torch.float64))

    label = (torch.arange(len(request)) % 2).double()
    ids = torch.tensor(ITEMS[: len(request)]).unsqueeze(1)
    batch = dataclasses.replace(Batch.example(label=label.tolist(), request=request), label=label, ids=ids)
    return scores(), scores(), batch


def columns(batch):
    """The tensors of a batch by name."""
    found = {field.name: getattr(batch, field.name) for field in dataclasses.fields(Batch)}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def take(index, student, teacher, batch):
    """These rows alone."""
    rows = {name: value[index] for name, value in columns(batch).items()}
    both = [Scores(logit=s.logit[index], hidden=s.hidden[index]) for s in (student, teacher)]
    return *both, Batch(**rows)
