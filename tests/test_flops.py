"""What dense layers cost per row does not know how large tables are, and knows number types and histories."""

import dataclasses

import torch
from conftest import small_layout

from recdistill.config.teacher import Teacher
from recdistill.train.teachers.flops import dense_cost
from recdistill.types import Layout

CPU = torch.device("cpu")
LAYOUT = small_layout()


def cost(layout=LAYOUT, **settings):
    interaction = {"use": "mlp", "hidden": [16]}
    return dense_cost(
        Teacher.model_validate({"width": 8, "interaction": interaction, "bf16": "off", **settings}), layout, CPU
    )


def test_an_mlp_costs_its_matrices_there_and_twice_back():
    layout = Layout(ids=LAYOUT.pooled, dense=LAYOUT.dense)
    found = cost(layout)
    size = 3 * 8 + 1
    assert found.forward == 2 * (size * 16 + 16)
    assert found.training == 3 * found.forward
    assert found.parameters == size * 16 + 16 + 16 + 1
    assert found.hidden == 16


def test_table_sizes_and_batch_sizes_are_no_cost_of_the_layers():
    large = tuple(dataclasses.replace(feature, num_rows=10**9) for feature in LAYOUT.ids)
    assert cost(dataclasses.replace(LAYOUT, ids=large), batch_size=7) == cost()


def test_bf16_keeps_less_for_the_way_back():
    assert cost(bf16="on").activation_bytes < cost().activation_bytes
    assert cost(bf16="on").forward == cost().forward


def test_a_longer_history_costs_more():
    longer = [dataclasses.replace(f, width=8, start=5 + 8 * n) for n, f in enumerate(LAYOUT.histories)]
    found, wider = cost(), cost(dataclasses.replace(LAYOUT, ids=(*LAYOUT.pooled, *longer)))
    assert wider.forward > found.forward
    assert wider.parameters == found.parameters


def test_every_number_between_two_layers_is_kept_and_no_weight():
    small, large = (cost(interaction={"use": "mlp", "hidden": [units]}).activation_bytes for units in (16, 48))
    assert large - small == 4 * (48 - 16)  # what ReLU gives, in float32, kept once though two layers want it
