"""Which process holds which part of which table: TorchRec's planner, told what may be, and its plan as a table."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psutil
import torch
import torch.distributed as dist
from torch import nn
from torchrec import EmbeddingBagCollection, EmbeddingCollection
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.fbgemm_qcomm_codec import CommType, QCommsConfig, get_qcomm_codecs_registry
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
from torchrec.distributed.planner.types import PlannerError
from torchrec.distributed.types import ShardingPlan

from recdistill.problems import BadInput, problem

Kind = Literal["table_wise", "row_wise", "column_wise", "data_parallel"]
Communication = Literal["fp32", "fp16", "int8"]
FUSED: tuple[Kind, ...] = ("table_wise", "row_wise", "column_wise")
_LEAST_COLUMNS = 4  # of a column-wise part: what FBGEMM reads at once

logging.getLogger("torchrec.distributed.planner").setLevel(logging.ERROR)  # its advice is for authors of planners


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How tables may be spread over processes.

    kinds: of sharding, of which the planner takes the fastest for each table. communication: of embeddings between
    processes, forward; gradients go back in fp16 where it is not fp32.
    """

    kinds: Sequence[Kind] = FUSED
    communication: Communication = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a table, as planned. rows, columns: its size. mib: of its weights."""

    table: str
    sharding: str
    kernel: str
    rank: int
    rows: int
    columns: int
    mib: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(
    model: nn.Module, device: torch.device, placement: Placement, topology: Topology | None = None
) -> ShardingPlan:
    """The planner's choice for every table, the same on every rank. BadInput where the tables do not fit.

    topology: of the machines; None takes this process group and this host. Tables of device memory are preferred; on
    CUDA those that do not fit are kept in the host's memory with a cache on the device (UVM caching), or there alone.
    """
    topology = topology or _topology(device)
    planner = EmbeddingShardingPlanner(topology=topology, constraints=_constraints(model, topology, placement))
    try:
        if dist.is_initialized():
            return planner.collective_plan(model, sharders(placement, device), dist.group.WORLD)
        return planner.plan(model, sharders(placement, device))
    except PlannerError as error:
        remedy = "narrow teacher.width, cap ids with max_rows or hash_buckets, or take more teacher.ranks"
        found = str(error).strip().splitlines()[0]
        raise BadInput(
            problem("teacher: tables", wanted="tables that fit the devices", found=found, remedy=remedy)
        ) from None


def _topology(device: torch.device) -> Topology:
    """This process group, with as much memory as its devices and hosts have."""
    size = dist.get_world_size()
    return hosts_like_this(device, size, int(os.environ.get("LOCAL_WORLD_SIZE", size)))


def hosts_like_this(device: torch.device, num_processes: int, per_host: int) -> Topology:
    """So many processes on hosts with this one's memory and devices."""
    on_device = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    return Topology(
        world_size=num_processes,
        compute_device=device.type,
        local_world_size=per_host,
        hbm_cap=on_device,
        ddr_cap=psutil.virtual_memory().total // per_host,
    )


def _constraints(model: nn.Module, topology: Topology, placement: Placement) -> dict[str, ParameterConstraints]:
    """Per table. Kernels are fused, or dense where a table is copied to every rank.

    Left alone, the planner takes a dense kernel for tables of a few rows, and that has no fused optimiser.
    """
    fused = [EmbeddingComputeKernel.FUSED]
    if topology.compute_device == "cuda":
        fused += [EmbeddingComputeKernel.FUSED_UVM_CACHING, EmbeddingComputeKernel.FUSED_UVM]
    found = {}
    for config, pooled in tables(model):
        refused = {"data_parallel"} if not pooled else set()
        refused |= {"column_wise"} if placement.communication == "int8" else set()  # sent by 32 numbers of a row
        kinds = [kind for kind in placement.kinds if kind not in refused]
        if topology.world_size == 1 and set(kinds) & set(FUSED):
            kinds = ["table_wise"]  # one process holds all; the planner would draw, and the bits with it
        kernels = fused + ([EmbeddingComputeKernel.DENSE] if "data_parallel" in kinds else [])
        found[config.name] = ParameterConstraints(
            sharding_types=list(kinds) or ["table_wise"],
            compute_kernels=[kernel.value for kernel in kernels],
            min_partition=_LEAST_COLUMNS if topology.world_size > 1 and config.embedding_dim > _LEAST_COLUMNS else None,
        )
    return found


def tables(model: nn.Module) -> list[tuple[Any, bool]]:
    """Every table's config, and whether its rows are pooled."""
    bags = [m for m in model.modules() if isinstance(m, EmbeddingBagCollection)]
    others = [m for m in model.modules() if isinstance(m, EmbeddingCollection)]
    found = [(config, True) for module in bags for config in module.embedding_bag_configs()]
    return found + [(config, False) for module in others for config in module.embedding_configs()]


def sharders(placement: Placement, device: torch.device) -> list[Any]:
    """For both kinds of collections, with the codecs of what they send."""
    codecs = None
    if placement.communication != "fp32":
        forward = CommType.INT8 if placement.communication == "int8" else CommType.FP16
        config = QCommsConfig(forward_precision=forward, backward_precision=CommType.FP16)
        codecs = get_qcomm_codecs_registry(config, device=device)
    return [
        EmbeddingBagCollectionSharder(qcomm_codecs_registry=codecs),
        EmbeddingCollectionSharder(qcomm_codecs_registry=codecs),
    ]


def planned(
    model: nn.Module, device: torch.device, placement: Placement, topology: Topology | None = None
) -> list[Part]:
    """The parts of every table of a model without weights; every rank of a process group has to ask."""
    sizes = {config.name: (config.num_embeddings, config.embedding_dim) for config, _ in tables(model)}
    return parts(plan(model, device, placement, topology), sizes)


def parts(plan: ShardingPlan, sizes: Mapping[str, tuple[int, int]]) -> list[Part]:
    """Every part of every table, in the order of the plan. sizes: table -> rows and columns, for the copied ones."""
    out = []
    for module in plan.plan.values():
        for table, how in module.items():
            for rank, (rows, columns) in _places(how, sizes[table]):
                mib = round(rows * columns * 4 / 2**20, 3)
                out.append(
                    Part(
                        table=table,
                        sharding=how.sharding_type,
                        kernel=how.compute_kernel,
                        rank=rank,
                        rows=rows,
                        columns=columns,
                        mib=mib,
                    )
                )
    return out


def _places(how: Any, size: tuple[int, int]) -> list[tuple[int, tuple[int, int]]]:
    """(rank, size) of every part of a table; a copied table is whole on each rank."""
    if how.sharding_spec is None:
        return [(rank, size) for rank in how.ranks]
    return [(part.placement.rank(), tuple(part.shard_sizes)) for part in how.sharding_spec.shards]


def shown(planned: Sequence[Part]) -> str:
    """The parts as a table that a person reads, and what each rank holds."""
    heads = ("table", "sharding", "kernel", "rank", "rows", "columns", "MiB")
    lines = [tuple(str(value) for value in part.to_json().values()) for part in planned]
    widths = [max(len(line[place]) for line in [heads, *lines]) for place in range(len(heads))]
    text = [
        "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)) for line in [heads, *lines]
    ]
    ranks = sorted({part.rank for part in planned})
    held = [f"rank {rank}: {sum(part.mib for part in planned if part.rank == rank):,.3f} MiB" for rank in ranks]
    return "\n".join([line.rstrip() for line in [*text, *held]])
