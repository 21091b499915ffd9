"""DistributedModelParallel around a model: gloo on CPU, nccl on CUDA; one process needs no torchrun."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed.optim import (  # type: ignore[attr-defined]
    _apply_optimizer_in_backward as apply_optimizer_in_backward,
)
from torchrec import EmbeddingBagCollection, EmbeddingCollection
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.model_parallel import DefaultDataParallelWrapper
from torchrec.optim import RowWiseAdagrad

from recdistill.train.teachers.placement import Placement, plan, sharders, tables

TIMEOUT = timedelta(minutes=10)  # of one exchange between processes: a silent one ends the job
_BLOCK = 1 << 16  # rows
Fill = Callable[[Tensor], object]
Place = tuple[slice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes that train together. rank: this one's number, of `size`. device: where this one computes."""

    rank: int
    size: int
    device: torch.device


@contextmanager
def world(device: torch.device) -> Iterator[World]:
    """The process group that torchrun started this process in, else one of this process alone, in memory.

    Of several processes on CUDA each takes the device of its local rank. Within another world it is that one.
    """
    if dist.is_initialized():
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=device)
        return
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        dist.init_process_group(backend, timeout=TIMEOUT)
    else:
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=device)
    finally:
        dist.destroy_process_group()


def shard(
    model: nn.Module,
    device: torch.device,
    embedding_learning_rate: float,
    placement: Placement = Placement(),  # noqa: B008 - frozen
    optimiser: type[torch.optim.Optimizer] = RowWiseAdagrad,
) -> DistributedModelParallel:
    """Place the tables by TorchRec's planner and fuse an optimiser into their backward.

    A table then needs no gradient of its own size and, with row-wise Adagrad, 4 bytes of optimiser state per row. First
    weights depend on torch's seed and a table's name, not on how the tables are spread.
    """
    first = _take_first_weights(model)
    for module in model.modules():
        if isinstance(module, EmbeddingBagCollection | EmbeddingCollection):
            apply_optimizer_in_backward(optimiser, module.parameters(), {"lr": embedding_learning_rate})
    sharded = DistributedModelParallel(
        module=model,
        device=device,
        plan=plan(model, device, placement),
        sharders=sharders(placement, device),
        # A static graph looks for the loss among the outputs, does not see into Scores, and never adds up gradients.
        data_parallel_wrapper=DefaultDataParallelWrapper(static_graph=False),
    )
    _begin(sharded, first)
    return sharded


def dense_parameters(model: DistributedModelParallel) -> list[nn.Parameter]:
    """Those that the fused optimisers leave to an ordinary one: the same on every rank, copied tables among them."""
    fused = {name for name, value in model.state_dict().items() if isinstance(value, ShardedTensor)}
    return [parameter for name, parameter in model.named_parameters() if name not in fused]


def plain_state(model: DistributedModelParallel) -> dict[str, Tensor]:
    """Every weight as a plain tensor on the CPU, copied; every rank has to call it.

    Rank 0 gets whole tables, brought together part by part; the others only what every rank holds.
    """
    found = {}
    for name, value in model.state_dict().items():
        whole = _whole(value) if isinstance(value, ShardedTensor) else value.detach().cpu().clone()
        if whole is not None:
            found[name] = whole
    return found


def restore(model: DistributedModelParallel, state: Mapping[str, Tensor]) -> None:
    """Put plain weights back, each rank its own parts. KeyError where one is missing."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            for part, place in _local(value):
                part.copy_(state[name][place])


def _local(value: Tensor) -> list[tuple[Tensor, Place]]:
    """What this process holds of a weight, and where that lies in the whole."""
    if not isinstance(value, ShardedTensor):
        return [(value, (slice(None),))]
    held = [(part.tensor, part.metadata) for part in value.local_shards()]
    return [(tensor, _slices(about.shard_offsets, about.shard_sizes)) for tensor, about in held]


def _slices(offsets: list[int], sizes: list[int]) -> Place:
    return tuple(slice(start, start + size) for start, size in zip(offsets, sizes, strict=True))


def _whole(value: ShardedTensor) -> Tensor | None:
    """A table on the CPU of rank 0, one part after the other; None on other ranks."""
    rank, kind = dist.get_rank(), value.metadata().tensor_properties.dtype
    held = {tuple(part.metadata.shard_offsets): part.tensor.detach() for part in value.local_shards()}
    whole = torch.empty(_size(value), dtype=kind) if rank == 0 else None
    for about in value.metadata().shards_metadata:
        assert about.placement is not None
        owner = about.placement.rank()
        part = held.get(tuple(about.shard_offsets))
        if part is not None and owner != 0:
            dist.send(part.contiguous(), 0)
        if whole is None:
            continue
        if part is None:
            part = torch.empty(about.shard_sizes, dtype=kind, device=_exchange_device())
            dist.recv(part, owner)
        whole[_slices(about.shard_offsets, about.shard_sizes)] = part.cpu()
    return whole


def _exchange_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _take_first_weights(model: nn.Module) -> dict[str, Fill]:
    """Table -> what fills its rows at first; taken out of the configs, so that sharding leaves the rows alone."""
    found = {}
    for config, _ in tables(model):
        found[config.name], config.init_fn = config.init_fn, _leave
    return found


def _leave(weight: Tensor) -> None:
    """The first weights come later."""


def _begin(model: DistributedModelParallel, first: Mapping[str, Fill]) -> None:
    """Fill every table block by block, each block by a seed of its own: the same on any number of ranks."""
    seed = torch.initial_seed()
    device = [torch.cuda.current_device()] if dist.get_backend() == "nccl" else []
    with torch.no_grad(), torch.random.fork_rng(device):
        for name, value in model.state_dict().items():
            if (table := _table(name)) is not None:
                for part, place in _local(value):
                    _fill(part, place, _size(value), first[table], seed + zlib.crc32(table.encode()) * _BLOCK)


def _fill(part: Tensor, place: Place, size: Sequence[int], first: Fill, seed: int) -> None:
    """part: the slice `place` of a table of this size."""
    rows, columns = place if len(place) == 2 else (slice(0, size[0]), slice(0, size[1]))
    for block in range(rows.start // _BLOCK, -(-rows.stop // _BLOCK)):
        torch.manual_seed((seed + block) % 2**63)
        begin, end = block * _BLOCK, min((block + 1) * _BLOCK, size[0])
        whole = torch.empty((end - begin, size[1]), device=part.device, dtype=part.dtype)
        first(whole)
        here = slice(max(begin, rows.start), min(end, rows.stop))
        part[here.start - rows.start : here.stop - rows.start] = whole[here.start - begin : here.stop - begin, columns]


def _size(value: Tensor) -> tuple[int, int]:
    """Rows and columns of a whole table."""
    rows, columns = value.metadata().size if isinstance(value, ShardedTensor) else value.shape
    return rows, columns


def _table(name: str) -> str | None:
    """The table that a weight is; None of all other weights."""
    *_, kind, table, _ = ["", "", *name.split(".")]
    return table if kind in ("embedding_bags", "embeddings") else None
