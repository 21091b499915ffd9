"""What makes one vector of a history: the contract of all of them, then what each says it computes, written out."""

import math

import pytest
import torch
from torch.nn.functional import silu

from recdistill.models.history.mean import Mean
from recdistill.models.history.transformer import Transformer
from recdistill.models.sequence import distance_buckets, sinusoids, with_candidate
from recdistill.plugins import find, load

N, T, E = 5, 4, 6
SETTINGS = {"transformer": [{}, {"layers": 3, "heads": 4}], "hstu": [{}, {"layers": 1, "heads": 3}]}
CASES = [(name, settings) for name in find("history") for settings in SETTINGS.get(name, [{}])]
each = pytest.mark.parametrize("case", CASES, ids=str)


def make(case, seed=0, width=E):
    """In float64, its biases moved away from their zeros."""
    torch.manual_seed(seed)
    layer = load("history", case[0]).make(width, **case[1]).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += torch.randn_like(parameter) * 0.1
    return layer


def inputs():
    """(query, keys, mask) with full, short and gappy histories, and one empty."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn((N, E), generator=generator, dtype=torch.float64)
    keys = torch.randn((N, T, E), generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=torch.bool)
    return query, keys, mask


def test_every_history_is_a_case():
    assert len({name for name, _ in CASES}) == len(find("history")) >= 4


@each
def test_an_empty_history_gives_zero_and_no_bad_gradient(case):
    query, keys, mask = inputs()
    keys.requires_grad_()
    query.requires_grad_()
    out = make(case)(query, keys, mask)
    assert out.shape == (N, E)
    assert out[-1].tolist() == [0.0] * E
    assert out[:-1].abs().min() > 0
    out.square().sum().backward()
    assert torch.isfinite(keys.grad).all()
    assert not keys.grad[~mask].any()
    assert keys.grad[mask].abs().sum(dim=1).min() > 0


@each
def test_what_stands_in_the_padding_does_not_matter(case):
    query, keys, mask = inputs()
    layer = make(case)
    other = torch.where(mask.unsqueeze(2), keys, torch.full_like(keys, 1e3))
    assert torch.allclose(layer(query, other, mask), layer(query, keys, mask))


@each
def test_rows_do_not_see_one_another(case):
    query, keys, mask = inputs()
    layer = make(case)
    alone = [layer(query[n : n + 1], keys[n : n + 1], mask[n : n + 1]) for n in range(N)]
    assert torch.allclose(torch.cat(alone), layer(query, keys, mask))


@each
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_masking_holds_in_half_precision(case, kind):
    query, keys, mask = inputs()
    layer = make(case)
    found = layer.to(kind)(query.to(kind), keys.to(kind), mask)
    assert torch.isfinite(found).all()
    assert found[-1].tolist() == [0.0] * E
    assert torch.allclose(found.double(), make(case)(query, keys, mask), atol=0.1)


@each
def test_only_the_mean_does_not_ask_the_candidate(case):
    query, keys, mask = inputs()
    layer = make(case)
    moved, plain = layer(query + torch.arange(E), keys, mask), layer(query, keys, mask)
    assert torch.allclose(moved[0], plain[0]) == (case[0] == "mean")


@each
def test_only_sequence_encoders_know_the_order(case):
    query, keys, _ = inputs()
    mask = torch.ones((N, T), dtype=torch.bool)
    layer = make(case)
    same = torch.allclose(layer(query, keys[:, [2, 0, 3, 1]], mask), layer(query, keys, mask))
    assert same == (case[0] in ("mean", "target_attention"))


@pytest.mark.parametrize("case", [case for case in CASES if case[0] != "hstu"], ids=str)
def test_a_longer_frame_of_padding_changes_nothing(case):
    query, keys, mask = inputs()
    layer = make(case)
    longer = layer(query, torch.cat([keys, keys], dim=1), torch.cat([mask, torch.zeros_like(mask)], dim=1))
    assert torch.allclose(longer, layer(query, keys, mask))


def test_the_mean_is_the_mean_of_those_present():
    _, keys, mask = inputs()
    found = Mean(E)(keys[:, 0], keys, mask)
    assert torch.allclose(found[2], (keys[2, 0] + keys[2, 2]) / 2)
    assert torch.allclose(found[3], keys[3, 3])


@pytest.mark.parametrize("case", [case for case in CASES if case[0] == "transformer"], ids=str)
def test_the_last_layer_for_the_candidate_alone_is_the_whole_layer_s_first_row(case):
    query, keys, mask = inputs()
    layer = make(case)
    x_NTE, present_NT = with_candidate(query, keys, mask)
    x_NTE = x_NTE + layer.place(sinusoids(T + 1, E, x_NTE.device).double())
    for part in layer.layers:
        x_NTE = part(x_NTE, x_NTE, present_NT)
    assert torch.allclose(layer(query, keys, mask)[:-1], x_NTE[:-1, 0])


def test_a_transformer_s_layer_is_attention_and_a_feed_forward_written_out():
    """One head, the row with three elements: softmax over those present, then the two-layer network, both added."""
    torch.manual_seed(0)
    layer = Transformer(E, heads=1).double()
    part = layer.layers[0]
    query, keys, mask = inputs()
    x = torch.stack([query[2], keys[2, 0], keys[2, 2]])
    x = x + layer.place(sinusoids(T + 1, E, x.device).double())[[0, 1, 3]]
    q = part.query(part.norm(x[:1]))
    k, v = part.key_value(part.norm(x)).split(E, dim=1)
    seen = x[0] + part.out(torch.softmax(q @ k.T / math.sqrt(E), dim=1) @ v)[0]
    wanted = seen + part.hidden(part.norm_hidden(seen))
    assert torch.allclose(layer(query, keys, mask)[2], wanted)


def by_pairs(layer, query, keys, mask):
    """HSTU of one row with one head, pair by pair: i looks at itself and at what is older, 1 / T of each."""
    x = torch.cat([query.unsqueeze(0), keys])
    present = [True, *mask.tolist()]
    bucket = distance_buckets(len(x), 16, x.device)
    for part in layer.layers:
        u, q = silu(part.gate_query(part.norm(x))).chunk(2, dim=1)
        k, v = silu(part.key_value(part.norm(x))).chunk(2, dim=1)
        seen = torch.zeros_like(v)
        for i in range(len(x)):
            for j in range(i, len(x)):
                if present[j]:
                    seen[i] += silu(q[i] @ k[j] / math.sqrt(E) + part.bias[bucket[i, j], 0]) * v[j] / len(x)
        x = x + part.out(part.norm_seen(seen) * u)
    return x[0]


@pytest.mark.parametrize("layers", [1, 2])
def test_hstu_is_its_formula_pair_by_pair(layers):
    layer = make(("hstu", {"layers": layers, "heads": 1}))
    query, keys, mask = inputs()
    found = layer(query, keys, mask)
    for n in range(4):
        assert torch.allclose(found[n], by_pairs(layer, query[n], keys[n], mask[n]))


def test_hstu_counts_what_it_finds_where_pooling_does_not():
    """The same event twice is more than once."""
    query, keys, _ = inputs()
    same = keys[:, :1].expand(-1, T, -1)
    once, twice = (torch.tensor([[event < events for event in range(T)]] * N) for events in (1, 2))
    for name, counts in (("hstu", True), ("mean", False), ("target_attention", False)):
        layer = make((name, {}))
        assert torch.allclose(layer(query, same, once), layer(query, same, twice)) != counts


def test_positions_are_sines_and_cosines():
    found = sinusoids(3, 4, torch.device("cpu"))
    rates = [1.0, 0.01]
    wanted = [[math.sin(t * r) for r in rates] + [math.cos(t * r) for r in rates] for t in range(3)]
    assert torch.allclose(found, torch.tensor(wanted))
    assert sinusoids(3, 5, torch.device("cpu")).shape == (3, 5)


def test_distances_have_buckets_of_their_own_while_near_and_grow_with_age():
    bucket = distance_buckets(60, 16, torch.device("cpu"))
    assert bucket[0, :8].tolist() == list(range(8))
    assert (bucket[0].diff() >= 0).all()
    assert bucket[0].max() == 13
    assert torch.equal(bucket[3, 3:], bucket[0, :-3])
    assert distance_buckets(5000, 16, torch.device("cpu")).max() == 15
