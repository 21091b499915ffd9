"""The shared layers against their formulas, written out."""

import math

import pytest
import torch
from torch import nn

from recdistill.models.history.target_attention import TargetAttention
from recdistill.models.layers import Cross, CrossMixture, tower

N, T, E, H = 5, 4, 3, 6


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return TargetAttention(E, hidden=H).double()


def inputs():
    """(query, keys, mask) with full, short and gappy histories, and one empty."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn((N, E), generator=generator, dtype=torch.float64)
    keys = torch.randn((N, T, E), generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=torch.bool)
    return query, keys, mask


def by_concatenation(layer, query, keys, mask):
    """MLP([q, k, q * k]) per event with one big first layer, a softmax over the events there are, row by row."""
    first = nn.Linear(3 * E, H).double()
    with torch.no_grad():
        first.weight.copy_(torch.cat([layer.query.weight, layer.key.T, layer.product.T], dim=1))
        first.bias.copy_(layer.query.bias)
    out = torch.zeros_like(query)
    for n in range(len(query)):
        events = keys[n][mask[n]]
        if len(events):
            both = torch.cat([query[n].expand_as(events), events, query[n] * events], dim=1)
            out[n] = torch.softmax(layer.out(torch.relu(first(both))).squeeze(1), dim=0) @ events
    return out


def test_attention_is_the_mlp_on_the_concatenation(attention):
    assert torch.allclose(attention(*inputs()), by_concatenation(attention, *inputs()))


def test_attention_has_the_gradient_of_the_concatenation(attention):
    for index in (0, 1):
        grads = []
        for form in (lambda *a: attention(*a), lambda *a: by_concatenation(attention, *a)):
            values = list(inputs())
            values[index].requires_grad_()
            (form(*values) ** 2).sum().backward()
            grads.append(values[index].grad)
        assert torch.allclose(*grads)
        assert grads[0].any()


def test_an_empty_history_gives_zero_and_no_bad_gradient(attention):
    query, keys, mask = inputs()
    keys.requires_grad_()
    out = attention(query, keys, mask)
    assert out[-1].tolist() == [0.0] * E
    out.sum().backward()
    assert torch.isfinite(keys.grad).all()
    assert not keys.grad[~mask].any()


def test_what_stands_in_the_padding_does_not_matter(attention):
    query, keys, mask = inputs()
    other = torch.where(mask.unsqueeze(2), keys, torch.full_like(keys, 1e3))
    assert torch.allclose(attention(query, other, mask), attention(query, keys, mask))


def test_the_order_of_the_events_does_not_matter(attention):
    query, keys, mask = inputs()
    order = [2, 0, 3, 1]
    assert torch.allclose(attention(query, keys[:, order], mask[:, order]), attention(query, keys, mask))


def test_one_event_is_itself_and_equal_events_are_their_mean(attention):
    query, keys, _ = inputs()
    one = torch.tensor([[True, False, False, False]] * N)
    assert torch.allclose(attention(query, keys, one), keys[:, 0])
    same = keys[:, :1].expand(-1, T, -1)
    assert torch.allclose(attention(query, same, torch.ones((N, T), dtype=torch.bool)), keys[:, 0])


def test_the_candidate_decides_what_is_looked_at(attention):
    query, keys, mask = inputs()
    moved = attention(query + 2, keys, mask)
    plain = attention(query, keys, mask)
    assert not torch.allclose(moved[0], plain[0])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_masking_holds_in_half_precision(attention, kind):
    query, keys, mask = inputs()
    found = attention.to(kind)(query.to(kind), keys.to(kind), mask)
    assert torch.isfinite(found).all()
    assert found[-1].tolist() == [0.0] * E
    assert torch.allclose(found[3], keys[3, 3].to(kind))


def test_cross_is_its_recurrence():
    torch.manual_seed(0)
    cross = Cross(3, 2)
    x = torch.randn(4, 3)
    first = x * (x @ cross.layers[0].weight.T + cross.layers[0].bias) + x
    second = x * (first @ cross.layers[1].weight.T + cross.layers[1].bias) + first
    assert torch.allclose(cross(x), second, atol=1e-6)
    assert torch.equal(Cross(3, 0)(x), x)


def test_a_tower_is_linear_and_relu_with_dropout_only_where_asked():
    assert [type(layer) for layer in tower(3, [4, 2])] == [nn.Linear, nn.ReLU] * 2
    assert [type(layer) for layer in tower(3, [4], dropout=0.3)] == [nn.Linear, nn.ReLU, nn.Dropout]
    assert [layer.out_features for layer in tower(3, [4, 2]) if isinstance(layer, nn.Linear)] == [4, 2]
    x = torch.randn(2, 3)
    assert torch.equal(tower(3, [])(x), x)


def test_a_mixture_of_one_expert_with_full_rank_and_no_nonlinearity_is_the_full_cross():
    torch.manual_seed(0)
    full = Cross(5, 2)
    mixture = CrossMixture(5, 2, rank=5, experts=1, nonlinearity=nn.Identity())
    with torch.no_grad():
        for layer, down, core, up in zip(full.layers, mixture.down, mixture.core, mixture.up, strict=True):
            core.copy_(torch.randn(1, 5, 5))
            up.weight.copy_(layer.weight @ torch.linalg.inv(core[0] @ down.weight))
            up.bias.copy_(layer.bias)
    x = torch.randn(N, 5)
    assert torch.allclose(mixture(x), full(x), atol=1e-3)


def test_a_mixture_is_its_equation_expert_by_expert():
    torch.manual_seed(0)
    mixture = CrossMixture(5, 1, rank=2, experts=3)
    x = torch.randn(N, 5)
    (down,), (core,), (up,), (gate,) = mixture.down, mixture.core, mixture.up, mixture.gate
    p = torch.softmax(x @ gate.weight.T, dim=1)
    total = x.clone()
    for i in range(3):
        part = slice(2 * i, 2 * i + 2)
        low = torch.tanh(torch.tanh(x @ down.weight[part].T) @ core[i].T)
        total = total + p[:, i : i + 1] * x * (low @ up.weight[:, part].T + up.bias)
    assert torch.allclose(mixture(x), total, atol=1e-5)
    assert math.isclose(p.sum().item(), N, rel_tol=1e-5)
