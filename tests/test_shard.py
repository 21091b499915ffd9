"""DistributedModelParallel around a teacher, one process on the CPU: the same numbers, there and back to the bit."""

import pytest
import torch
import torch.distributed as dist
from conftest import small_batch, small_layout
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.models.teacher import TeacherModel
from recdistill.plugins import choose
from recdistill.train.shard import dense_parameters, plain_state, restore, shard, world

LAYOUT = small_layout()
CPU = torch.device("cpu")


def plain(device="cpu", seed=0):
    torch.manual_seed(seed)
    history = choose("history", "target_attention", {"hidden": 8})
    interaction = choose("interaction", "dcnv2", {"layers": 1, "hidden": [16]})
    parts = {"history": history, "interaction": interaction, "head": choose("heads", "single", {})}
    return TeacherModel(LAYOUT, width=8, device=torch.device(device), **parts)


@pytest.fixture
def model():
    with world(CPU):
        yield shard(plain("meta"), CPU, embedding_learning_rate=0.1)


def step(model, batch):
    """One training step of all of it; returns the loss before."""
    optimiser = torch.optim.SGD(dense_parameters(model), 0.1)
    loss = binary_cross_entropy_with_logits(model(batch.ids, batch.dense).logit, batch.label)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def logit(model, batch):
    with torch.no_grad():
        return model(batch.ids, batch.dense).logit


def test_tables_are_left_to_the_fused_optimiser_and_all_else_is_not(model):
    tables = {name for name in plain_state(model) if "tables" in name}
    assert len(tables) == 4
    dense = {id(parameter) for parameter in dense_parameters(model)}
    left = {name for name, parameter in model.named_parameters() if id(parameter) not in dense}
    assert {name.split(".")[-2] for name in left} == {name.split(".")[-2] for name in tables}
    assert {name for name in left if "tables" not in name} == set()


def test_a_step_moves_every_weight_and_lowers_the_loss(model):
    batch = small_batch(LAYOUT, num_rows=64)
    before = plain_state(model)
    losses = [step(model, batch) for _ in range(3)]
    assert losses[2] < losses[0]
    still = [name for name, value in plain_state(model).items() if torch.equal(value, before[name])]
    assert still == ["history.out.bias"]  # a softmax does not know it
    table = next(name for name in before if "country" in name)
    assert torch.equal(plain_state(model)[table][0], before[table][0])  # absent: never looked up


def test_plain_weights_there_and_back_are_equal_to_the_bit(model):
    batch = small_batch(LAYOUT)
    step(model, batch)
    kept, wanted = plain_state(model), logit(model, batch)
    for _ in range(3):
        step(model, batch)
    assert not torch.equal(logit(model, batch), wanted)
    restore(model, kept)
    again = plain_state(model)
    assert list(again) == list(kept)
    assert all(torch.equal(again[name], kept[name]) for name in kept)
    assert torch.equal(logit(model, batch), wanted)


def test_plain_weights_are_copies_of_whole_tables(model):
    kept = plain_state(model)
    sizes = {name.split(".")[-2]: len(value) for name, value in kept.items() if "tables" in name}
    assert sizes == LAYOUT.tables
    before = {name: value.clone() for name, value in kept.items()}
    step(model, small_batch(LAYOUT))
    assert all(torch.equal(kept[name], before[name]) for name in kept)
    assert {type(value) for value in kept.values()} == {torch.Tensor}


def test_a_sharded_model_scores_as_the_plain_one_with_its_weights(model):
    batch = small_batch(LAYOUT, num_rows=64)
    step(model, batch)
    alone = plain(seed=5)
    alone.load_state_dict(plain_state(model))
    assert torch.allclose(logit(alone, batch), logit(model, batch), atol=1e-5)


def test_another_process_group_continues_where_one_ended():
    batch = small_batch(LAYOUT)
    with world(CPU):
        model = shard(plain("meta"), CPU, 0.1)
        step(model, batch)
        kept, wanted = plain_state(model), logit(model, batch)
    with world(CPU):
        model = shard(plain("meta", seed=9), CPU, 0.1)
        assert not torch.equal(logit(model, batch), wanted)
        restore(model, kept)
        assert torch.equal(logit(model, batch), wanted)


def test_a_missing_weight_is_a_key_error(model):
    kept = plain_state(model)
    kept.popitem()
    with pytest.raises(KeyError):
        restore(model, kept)


def test_the_process_group_ends_with_its_block_however_it_ends():
    def fail():
        with world(CPU):
            assert dist.get_world_size() == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not dist.is_initialized()
