"""DistributedModelParallel around a teacher, one process on the CPU: the same numbers, there and back to the bit."""

import pytest
import torch
import torch.distributed as dist
from conftest import small_batch, small_layout
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.distributed.planner import Topology

from recdistill.models.teacher import TeacherModel
from recdistill.plugins import choose
from recdistill.problems import BadInput
from recdistill.train.teachers.placement import FUSED, Placement, parts, plan, shown
from recdistill.train.teachers.shard import dense_parameters, plain_state, restore, shard, world

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


def tables(**num_rows):
    """A model of pooled tables 64 wide, without weights."""
    configs = [
        EmbeddingBagConfig(name=name, embedding_dim=64, num_embeddings=rows, feature_names=[name])
        for name, rows in num_rows.items()
    ]
    return nn.Sequential(EmbeddingBagCollection(tables=configs, device=torch.device("meta")))


def planned_for(model, *, ranks=1, device_gib=0, host_gib=500, kind="cuda", kinds=FUSED):
    """Table -> (sharding, kernel) on machines with so much memory, none of which needs to be there."""
    topology = Topology(
        world_size=ranks,
        local_world_size=ranks,
        compute_device=kind,
        hbm_cap=device_gib * 2**30,
        ddr_cap=host_gib * 2**30,
    )
    found = plan(model, torch.device(kind), Placement(kinds=kinds), topology)
    return {name: (how.sharding_type, how.compute_kernel) for name, how in found.plan["0"].items()}


@pytest.mark.parametrize(
    ("ranks", "device_gib", "kernel"),
    [(1, 200, "fused"), (1, 80, "fused_uvm_caching"), (1, 4, "fused_uvm"), (2, 80, "fused")],
)
def test_tables_beyond_the_devices_memory_are_kept_in_the_hosts(ranks, device_gib, kernel):
    """100 GiB of weights in one table: whole, in parts over two devices, or behind a cache."""
    found = planned_for(tables(small=1000, large=400_000_000), ranks=ranks, device_gib=device_gib)
    assert found["large"][1] == kernel
    assert found["small"][1] == "fused"


def test_tables_beyond_all_memory_are_told():
    with pytest.raises(BadInput, match="teacher: tables: wanted tables that fit the devices, found Unable to find"):
        planned_for(tables(large=400_000_000), kind="cpu", host_gib=10)


@pytest.mark.parametrize("kind", [*FUSED, "data_parallel"])
def test_the_planner_takes_what_it_is_told_to(kind):
    how = planned_for(tables(one=5000, two=70), ranks=2, device_gib=80, kinds=[kind])
    assert set(how.values()) == {(kind, "dense" if kind == "data_parallel" else "fused")}


def test_the_plan_is_shown_with_what_each_rank_holds():
    sizes = {"item": (1000, 64), "country": (10, 64)}
    found = plan(tables(item=1000, country=10), CPU, Placement(kinds=["data_parallel"]), Topology(2, "cpu"))
    lines = shown(parts(found, sizes)).splitlines()
    assert lines[0].split() == ["table", "sharding", "kernel", "rank", "rows", "columns", "MiB"]
    assert len(lines) == 1 + 4 + 2
    held = round(1000 * 64 * 4 / 2**20, 3) + round(10 * 64 * 4 / 2**20, 3)
    assert lines[-2:] == [f"rank {rank}: {held:.3f} MiB" for rank in (0, 1)]


def test_first_weights_come_from_the_seed_and_are_spread_as_they_should_be():
    states = []
    for seed in (3, 3, 4):
        with world(CPU):
            states.append(plain_state(shard(plain("meta", seed=seed), CPU, 0.1)))
    names = [name for name in states[0] if "tables" in name]
    assert len(names) == 4
    assert all(torch.equal(states[0][name], states[1][name]) for name in names)
    assert not any(torch.equal(states[0][name], states[2][name]) for name in names)
    together = torch.cat([state[name].flatten() for state in states[1:] for name in names])
    assert together.std() == pytest.approx(0.05, rel=0.15)
    assert together.mean().abs() < 0.01


def test_a_world_within_a_world_is_that_one():
    with world(CPU) as outer:
        with world(CPU) as inner:
            assert inner == outer
        assert dist.is_initialized()
    assert not dist.is_initialized()
