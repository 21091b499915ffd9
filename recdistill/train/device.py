"""Where a run computes, with how many threads and which memory, and whether in bf16."""

from __future__ import annotations

from typing import Literal

import torch

from recdistill.heap import keep_freed_memory
from recdistill.problems import BadInput, problem


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device asked for; auto is CUDA where there is one. BadInput for a CUDA that is not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        remedy = "use device=cpu, or see `recdistill doctor`"
        raise BadInput(problem("device", wanted="a CUDA device", found="none", remedy=remedy))
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def use_bf16(wanted: Literal["auto", "on", "off"], device: torch.device) -> bool:
    """Whether to autocast: auto where the device multiplies in bf16 by itself, as emulation is slower than float32."""
    if wanted != "auto":
        return wanted == "on"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported())


def ready_process(threads: int | None) -> None:
    """Give torch so many CPU threads, None its default, and let this process keep the memory that a step frees."""
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
