"""What single objectives over rows promise: formulas, limits of one another, what a residual explains."""

import dataclasses
import math

import pytest
import torch
from objective_rows import FACTS, OBJECTIVES, data, subject

from recdistill.distil.lesson import made
from recdistill.plugins import Choice
from recdistill.types import Batch, Scores


def test_soft_bce_at_temperature_two_is_the_formula():
    z, t = 0.7, -1.3
    p = 1 / (1 + math.exp(-t / 2))
    q = 1 / (1 + math.exp(-z / 2))
    wanted = 4 * -(p * math.log(q) + (1 - p) * math.log(1 - q))
    student, teacher = (Scores(logit=torch.tensor([v], dtype=torch.float64)) for v in (z, t))
    loss = subject("point.soft_bce", {"temperature": 2.0}).loss(student, teacher, Batch.example(label=[1.0]))
    assert loss.item() == pytest.approx(wanted, rel=1e-12)


def test_soft_bce_tends_to_a_quarter_of_logit_mse_as_the_temperature_grows():
    student, teacher, batch = data()
    soft = subject("point.soft_bce", {"temperature": 1e3})
    excess = soft.loss(student, teacher, batch) - soft.loss(teacher, teacher, batch)
    quarter = subject("point.logit_mse", {}).loss(student, teacher, batch) / 4
    assert torch.allclose(excess, quarter, rtol=1e-3)


def test_bce_is_soft_bce_of_a_teacher_that_knows_the_label():
    student, _, batch = data()
    certain = Scores(logit=(batch.label * 2 - 1) * 1e3)
    wanted = subject("label.bce", {}).loss(student, None, batch)
    assert torch.allclose(subject("point.soft_bce", {"temperature": 1.0}).loss(student, certain, batch), wanted)


def test_variance_reduction_has_the_gradient_of_the_control_variate():
    """(p_s - y) - lam (p_t - y), with lam as it stands before any row was seen."""
    student, teacher, batch = data()
    logit = student.logit.clone().requires_grad_()
    settings = OBJECTIVES["point.variance_reduction"].settings({"start": 0.3})
    it = subject("point.variance_reduction", settings)
    it.loss(Scores(logit=logit), teacher, batch).sum().backward()
    p, t = torch.sigmoid(student.logit), torch.sigmoid(teacher.logit)
    assert torch.allclose(logit.grad, (p - batch.label) - 0.3 * (t - batch.label), atol=1e-6)


def test_variance_reduction_finds_the_regression_of_the_residuals():
    """A teacher whose residual explains half of the student's: lam tends to 1/2, rho to the correlation."""
    generator = torch.Generator().manual_seed(0)
    module = made(
        Choice(
            plugin=OBJECTIVES["point.variance_reduction"],
            settings=OBJECTIVES["point.variance_reduction"].settings({"groups": 1, "held_out": 0.5, "memory": 1e9}),
        ),
        FACTS,
    )
    seen = []
    for step in range(40):
        label = (torch.rand(500, generator=generator) < 0.4).float()
        student, teacher = (torch.randn(500, generator=generator) for _ in range(2))
        batch = dataclasses.replace(
            Batch.example(label=label.tolist()),
            ids=torch.zeros((500, 1), dtype=torch.int64),
            row_id=torch.arange(500) + 500 * step,
        )
        module(Scores(logit=student), Scores(logit=teacher), batch)
        seen.append((torch.sigmoid(student) - label, torch.sigmoid(teacher) - label))
    s, t = (torch.cat(part) for part in zip(*seen, strict=True))
    found = module.metrics()
    assert found["lambda.0"].item() == pytest.approx(((s * t).sum() / (t * t).sum()).item(), abs=0.02)
    assert found["rho"].item() == pytest.approx(torch.corrcoef(torch.stack([s, t]))[0, 1].item(), abs=0.02)


def test_continuation_ignores_what_an_ensemble_does_not_agree_on():
    student, teacher, batch = data()
    it = subject("point.continuation", {"margin": None})
    near = Scores(logit=teacher.logit + 0.3)
    torn = dataclasses.replace(teacher, variance=torch.full_like(teacher.logit, 0.1))
    assert (it.loss(near, torn, batch) == 0).all()
    assert torch.allclose(it.loss(near, teacher, batch), torch.full_like(teacher.logit, 0.09))
    assert torch.allclose(
        it.loss(student, torn, batch, phi=0.5), (it.loss(student, teacher, batch, phi=0.5) - 0.05).clamp_min(0)
    )
