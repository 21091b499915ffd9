"""Heads of several tasks against their formulas, and what each task may learn from."""

import pytest
import torch

from recdistill.models.heads.mmoe import Mmoe
from recdistill.models.heads.ple import Ple
from recdistill.plugins import find, load

N, H, M = 9, 6, 3


def hidden():
    return torch.randn((N, H), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", find("heads"))
@pytest.mark.parametrize("num_tasks", [1, M])
def test_a_head_gives_a_logit_per_row_and_task(name, num_tasks):
    torch.manual_seed(0)
    found = load("heads", name).make(H, num_tasks)(hidden())
    assert found.shape == (N, num_tasks)
    assert (found.std(dim=0) > 0).all()


@pytest.mark.parametrize("name", find("heads"))
def test_rows_do_not_see_one_another(name):
    torch.manual_seed(0)
    head = load("heads", name).make(H, M)
    assert torch.allclose(head(hidden()[3:4]), head(hidden())[3:4], atol=1e-6)


def test_mmoe_is_its_equation():
    torch.manual_seed(0)
    head = Mmoe(H, M, experts=2, expert=[4], tower=[3])
    x = hidden()
    experts = [torch.relu(x @ e[0].weight.T + e[0].bias) for e in head.experts.experts]
    for m in range(M):
        p = torch.softmax(x @ head.gates[m].weigh.weight.T, dim=1)
        mixed = p[:, :1] * experts[0] + p[:, 1:] * experts[1]
        assert torch.allclose(head(x)[:, m], head.towers.towers[m](mixed).squeeze(1), atol=1e-6)


def touched(head, task):
    """Names of the parameters that a task's logit depends on."""
    head.zero_grad(set_to_none=True)
    head(hidden())[:, task].square().sum().backward()
    return {name for name, p in head.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_in_ple_of_one_level_a_task_s_own_experts_hear_of_no_other_task():
    torch.manual_seed(0)
    head = Ple(H, 2, levels=1, shared=2, own=1)
    first, second = touched(head, 0), touched(head, 1)
    shared = {name for name in first | second if ".shared." in name}
    assert shared == first & second
    assert len(shared) == 2 * 2
    assert all(".own.0." in name or ".gates.0." in name or "towers.0." in name for name in first - shared)


def test_in_ple_of_two_levels_the_tasks_meet_through_what_is_shared():
    torch.manual_seed(0)
    head = Ple(H, 2, levels=2)
    assert {name for name in touched(head, 0) if "levels.0.own.1." in name}
    assert not {name for name in touched(head, 0) if "levels.1.own.1." in name}


def test_in_mmoe_all_tasks_share_all_experts():
    torch.manual_seed(0)
    head = Mmoe(H, 2)
    both = touched(head, 0) & touched(head, 1)
    assert both == {name for name, _ in head.named_parameters() if name.startswith("experts.")}
