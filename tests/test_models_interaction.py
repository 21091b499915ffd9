"""Each interaction against its formula, written out on small numbers."""

import pytest
import torch

from recdistill.models.embed import Fields, Shape
from recdistill.models.interaction.dcnv2 import Dcnv2
from recdistill.models.interaction.deepfm import Deepfm, products
from recdistill.models.interaction.dlrm import Dlrm, pairs
from recdistill.models.interaction.finalmlp import Finalmlp, bilinear
from recdistill.models.interaction.masknet import Masknet
from recdistill.models.interaction.mlp import Mlp
from recdistill.models.layers import Cross, CrossMixture
from recdistill.plugins import find, load

N, F, E, D = 7, 4, 3, 2
SHAPE = Shape(fields=F, width=E, dense=D)


def fields(num_rows=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Fields(
        vectors=torch.randn((num_rows, F, E), generator=generator),
        dense=torch.randn((num_rows, D), generator=generator),
    )


@pytest.mark.parametrize("name", find("interaction"))
def test_an_interaction_gives_a_vector_of_the_size_it_says(name):
    plugin = load("interaction", name)
    for shape, given in (
        (SHAPE, fields()),
        (Shape(fields=F, width=E, dense=0), Fields(vectors=fields().vectors, dense=torch.zeros(N, 0))),
    ):
        layer = plugin.make(shape)
        found = layer(given)
        assert found.shape == (N, layer.size)
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", find("interaction"))
def test_all_have_a_dropout_that_is_off_in_evaluation(name):
    layer = load("interaction", name).make(SHAPE, dropout=0.5)
    assert not torch.equal(layer(fields()), layer(fields()))
    layer.eval()
    assert torch.equal(layer(fields()), layer(fields()))


def test_mlp_is_its_tower_on_all_side_by_side():
    layer = Mlp(SHAPE, hidden=[5])
    given = fields()
    x = torch.cat([given.vectors.reshape(N, F * E), given.dense], dim=1)
    assert torch.allclose(layer(given), torch.relu(x @ layer.tower[0].weight.T + layer.tower[0].bias))


def test_dot_products_are_those_of_all_pairs_in_order():
    vectors = fields().vectors
    wanted = [(vectors[:, i] * vectors[:, j]).sum(dim=1) for i in range(F) for j in range(i + 1, F)]
    assert len(wanted) == 6
    assert torch.allclose(pairs(vectors), torch.stack(wanted, dim=1), atol=1e-6)


def test_dlrm_is_its_numbers_vector_and_the_products_of_all():
    layer = Dlrm(SHAPE, bottom=[], hidden=[])
    given = fields()
    first = given.dense @ layer.bottom[0].weight.T + layer.bottom[0].bias
    everything = torch.cat([first.unsqueeze(1), given.vectors], dim=1)
    assert torch.allclose(layer(given), torch.cat([first, pairs(everything)], dim=1), atol=1e-6)
    assert layer.size == E + 5 * 4 // 2


def test_dlrm_without_numbers_meets_every_field_with_one_learned_vector():
    layer = Dlrm(Shape(fields=F, width=E, dense=0), hidden=[])
    given = Fields(vectors=fields().vectors, dense=torch.zeros(N, 0))
    assert torch.allclose(layer(given)[:, E : E + F], given.vectors @ layer.constant, atol=1e-6)


def test_the_sum_of_products_is_rendle_s_identity():
    vectors = fields().vectors.double()
    wanted = sum(vectors[:, i] * vectors[:, j] for i in range(F) for j in range(i + 1, F))
    assert torch.allclose(products(vectors), wanted)


def test_deepfm_with_a_head_of_ones_is_a_factorisation_machine_beside_a_tower():
    """First order, all pairs of fields and numbers, and the tower's units, summed."""
    layer = Deepfm(SHAPE, hidden=[5])
    given = fields()
    u = torch.cat([given.vectors, given.dense.unsqueeze(2) * layer.numbers], dim=1)
    second = sum((u[:, i] * u[:, j]).sum(dim=1) for i in range(F + D) for j in range(i + 1, F + D))
    first = given.flat() @ layer.first.weight[0]
    wanted = first + second + layer.tower(given.flat()).sum(dim=1)
    assert torch.allclose(layer(given).sum(dim=1), wanted, atol=1e-5)
    assert layer.size == 1 + E + 5


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
def test_dcnv2_is_a_cross_beside_or_below_a_tower(structure):
    layer = Dcnv2(SHAPE, hidden=[5], structure=structure)
    x = fields().flat()
    crossed = layer.cross(x)
    wanted = torch.cat([crossed, layer.tower(x)], dim=1) if structure == "parallel" else layer.tower(crossed)
    assert torch.equal(layer(fields()), wanted)


def test_dcnv2_of_low_rank_has_fewer_weights():
    kinds = [type(Dcnv2(SHAPE, rank=rank).cross) for rank in (None, 2)]
    assert kinds == [Cross, CrossMixture]
    wide = Shape(fields=20, width=16, dense=0)
    full, low = (sum(p.numel() for p in Dcnv2(wide, rank=rank, experts=2).cross.parameters()) for rank in (None, 16))
    assert low < full / 4


def test_groups_of_the_bilinear_product_are_apart():
    first, second = torch.randn(N, 6), torch.randn(N, 6)
    weight = torch.randn(3, 2, 2)
    wanted = [
        ((first[:, s] @ weight[h]) * second[:, s]).sum(dim=1)
        for h, s in enumerate((slice(0, 2), slice(2, 4), slice(4, 6)))
    ]
    assert torch.allclose(bilinear(first, second, weight), torch.stack(wanted, dim=1), atol=1e-6)


def test_finalmlp_is_two_gated_towers_and_their_product():
    layer = Finalmlp(SHAPE, hidden=[8, 5], gate=4, groups=2)
    x = fields().flat()
    first, second = (
        tower(x * 2 / (1 + torch.exp(-gate(x)))) for gate, tower in zip(layer.gates, layer.towers, strict=True)
    )
    assert first.shape == (N, 6)  # 5 rounded up to two groups
    wanted = torch.cat([first, second, bilinear(first, second, layer.bilinear)], dim=1)
    assert torch.allclose(layer(fields()), wanted, atol=1e-6)


def by_hand(block, x, y):
    """relu(norm(W (mask(x) * y)))."""
    masked = (
        torch.relu(x @ block.mask[0].weight.T + block.mask[0].bias) @ block.mask[2].weight.T + block.mask[2].bias
    ) * y
    out = masked @ block.out[0].weight.T
    out = (out - out.mean(dim=1, keepdim=True)) / (out.var(dim=1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return torch.relu(out)


@pytest.mark.parametrize("structure", ["serial", "parallel"])
def test_masknet_is_its_blocks_in_a_row_or_side_by_side(structure):
    torch.manual_seed(0)
    layer = Masknet(SHAPE, structure=structure, blocks=3, block=6, reduction=0.5, hidden=[])
    given = fields()
    x = given.flat()
    normed = torch.nn.functional.layer_norm(given.vectors, (E,))
    y = torch.cat([normed.flatten(1), given.dense], dim=1)
    if structure == "serial":
        for block in layer.blocks:
            y = by_hand(block, x, y)
    else:
        y = torch.cat([by_hand(block, x, y) for block in layer.blocks], dim=1)
    assert torch.allclose(layer(given), y, atol=1e-5)
    assert layer.blocks[0].mask[0].out_features == (F * E + D) // 2
