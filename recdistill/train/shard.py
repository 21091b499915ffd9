"""DistributedModelParallel around a model: gloo on CPU, nccl on CUDA; one process needs no torchrun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.optim import (  # type: ignore[attr-defined]
    _apply_optimizer_in_backward as apply_optimizer_in_backward,
)
from torchrec import EmbeddingBagCollection, EmbeddingCollection
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
from torchrec.distributed.types import ShardingType
from torchrec.optim import RowWiseAdagrad


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes that train together. rank: this one's number, of `size`. device: where this one computes."""

    rank: int
    size: int
    device: torch.device


@contextmanager
def world(device: torch.device) -> Iterator[World]:
    """A process group of this process alone, in memory: no port, no file, no environment."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield World(rank=0, size=1, device=device)
    finally:
        dist.destroy_process_group()


def shard(model: nn.Module, device: torch.device, embedding_learning_rate: float) -> DistributedModelParallel:
    """Place the tables by TorchRec's planner and fuse row-wise Adagrad into their backward.

    A table then needs no gradient of its own size and 4 bytes of optimiser state per row.
    """
    for module in model.modules():
        if isinstance(module, EmbeddingBagCollection | EmbeddingCollection):
            apply_optimizer_in_backward(RowWiseAdagrad, module.parameters(), {"lr": embedding_learning_rate})
    topology = Topology(world_size=dist.get_world_size(), compute_device=device.type)
    planner = EmbeddingShardingPlanner(topology=topology, constraints=_constraints(model))
    plan = planner.collective_plan(model, sharders(), dist.group.WORLD)
    return DistributedModelParallel(module=model, device=device, plan=plan, sharders=sharders())


def _constraints(model: nn.Module) -> dict[str, ParameterConstraints]:
    """Fused kernels only: for tables of a few rows the planner would take a dense one, without the fused optimiser."""
    collections = (EmbeddingBagCollection, EmbeddingCollection)
    found = [module for module in model.modules() if isinstance(module, collections)]
    configs = [
        config
        for module in found
        for config in (
            module.embedding_bag_configs() if isinstance(module, EmbeddingBagCollection) else module.embedding_configs()
        )
    ]
    sharding = [ShardingType.TABLE_WISE.value, ShardingType.ROW_WISE.value, ShardingType.COLUMN_WISE.value]
    fused = ParameterConstraints(sharding_types=sharding, compute_kernels=[EmbeddingComputeKernel.FUSED.value])
    return {config.name: fused for config in configs}


def sharders() -> list[object]:
    from torchrec.distributed.embedding import EmbeddingCollectionSharder
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder

    return [EmbeddingBagCollectionSharder(), EmbeddingCollectionSharder()]


def dense_parameters(model: DistributedModelParallel) -> list[nn.Parameter]:
    """Those that the fused optimisers leave to an ordinary one."""
    fused = {name for name, _ in model.fused_optimizer.params.items()}
    return [parameter for name, parameter in model.named_parameters() if name not in fused]


def plain_state(model: DistributedModelParallel) -> dict[str, Tensor]:
    """Every weight as a plain tensor on the CPU, whole tables, copied."""
    return {name: _local(value).detach().cpu().clone() for name, value in model.state_dict().items()}


def restore(model: DistributedModelParallel, state: dict[str, Tensor]) -> None:
    """Put plain weights back. KeyError where one is missing."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            _local(value).copy_(state[name])


def _local(value: Tensor) -> Tensor:
    """This process's part of a sharded tensor; in a world of one that is all of it."""
    shards = getattr(value, "local_shards", None)
    if shards is None:
        return value
    (only,) = shards()
    whole: Tensor = only.tensor
    return whole
