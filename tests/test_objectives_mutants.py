"""Mutations of every objective: each is caught by the check of the contract that is there for it."""

import dataclasses

import pytest
import torch
from objective_checks import (
    check_finite,
    check_gradient,
    check_groups,
    check_independence,
    check_not_negative,
    check_order,
    check_permutation,
    check_shape,
    check_single,
    check_temperature,
)
from objective_rows import BY_LABEL, GROUPED, OBJECTIVES, columns, subject

from recdistill.types import Batch, Scores


def wrong_sign(function):
    return lambda student, teacher, batch, **settings: -function(student, teacher, batch, **settings)


def no_squared_temperature(function):
    def mutant(student, teacher, batch, **settings):
        return function(student, teacher, batch, **settings) / settings.get("temperature", 1.0) ** 2

    return mutant


def groups_ignored(function):
    """All rows count as equally popular."""

    def mutant(student, teacher, batch, **settings):
        return function(student, teacher, dataclasses.replace(batch, ids=torch.zeros_like(batch.ids)), **settings)

    return mutant


def teacher_forgotten(function):
    def mutant(student, teacher, batch, **settings):
        zeros = Scores(logit=torch.zeros_like(teacher.logit), hidden=teacher.hidden)
        return function(student, zeros, batch, **settings)

    return mutant


def one_big_request(function):
    """Requests are ignored: all rows are ranked together."""

    def mutant(student, teacher, batch, **settings):
        merged = dataclasses.replace(batch, request=torch.zeros_like(batch.request))
        return function(student, teacher, merged, **settings)

    return mutant


def unmasked_padding(function):
    """The mask of the padded view is ignored: short requests get phantom rows of logit 0."""

    def mutant(student, teacher, batch, **settings):
        keys, sizes = batch.request.unique(return_counts=True)
        phantom = torch.repeat_interleave(keys, sizes.max() - sizes)
        num = len(phantom)

        def longer(values):
            return torch.cat([values, values.new_zeros((num, *values.shape[1:]))])

        rows = {name: longer(value) for name, value in columns(batch).items()}
        rows["request"] = torch.cat([batch.request, phantom])
        rows["weight"] = torch.ones_like(rows["weight"])  # a row of no weight may be left out of a list by right
        both = [Scores(logit=longer(s.logit), hidden=longer(s.hidden)) for s in (student, teacher)]
        return function(*both, Batch(**rows), **settings)

    return mutant


def reduced(function):
    return lambda student, teacher, batch, **settings: function(student, teacher, batch, **settings).mean()


def half_detached(function):
    """Half of the gradient is cut: the value is right, the gradient is not."""

    def mutant(student, teacher, batch, **settings):
        half = Scores(logit=(student.logit + student.logit.detach()) / 2, hidden=student.hidden)
        return function(half, teacher, batch, **settings)

    return mutant


def positions_matter(function):
    def mutant(student, teacher, batch, **settings):
        loss = function(student, teacher, batch, **settings)
        shifted = Scores(logit=student.logit + torch.arange(len(batch)), hidden=student.hidden)
        return loss + function(shifted, teacher, batch, **settings)

    return mutant


def exp_of_raw_scores(function):
    """exp without log-sum-exp, as in some listwise losses: exp(3 * 40) overflows in float32."""

    def mutant(student, teacher, batch, **settings):
        return function(student, teacher, batch, **settings) * (student.logit * 3).exp().mean()

    return mutant


def mutants():
    """(objective, mutation, the check that must catch it), for every objective that a mutation can touch."""
    for name, plugin in OBJECTIVES.items():
        yield name, wrong_sign, check_not_negative if name in BY_LABEL else check_order
        yield name, reduced, check_shape
        yield name, half_detached, check_gradient
        yield name, positions_matter, check_permutation
        yield name, exp_of_raw_scores, check_finite
        if "teacher" in plugin.needs:
            yield name, teacher_forgotten, check_order
        if "temperature" in plugin.parameters and "teacher" in plugin.needs:
            yield name, no_squared_temperature, check_temperature
        if name in GROUPED:
            yield name, groups_ignored, check_groups
        if "requests" in plugin.needs:
            yield name, one_big_request, check_shape
            if "batch" not in plugin.needs:
                yield name, unmasked_padding, check_independence
            yield name, unmasked_padding, check_single


MUTANTS = [pytest.param(*m, id=f"{m[0]}-{m[1].__name__}-{m[2].__name__}") for m in mutants()]


@pytest.mark.parametrize(("name", "mutation", "check"), MUTANTS)
def test_the_contract_catches(name, mutation, check):
    with pytest.raises((AssertionError, RuntimeError)):
        check(subject(name, OBJECTIVES[name].settings({}), mutation))
