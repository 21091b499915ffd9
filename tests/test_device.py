"""Where a run computes: what is asked for, or what there is; a CUDA that is not there is said so."""

import pytest
import torch

from recdistill.problems import BadInput
from recdistill.train.device import choose_device, ready_process, use_bf16

CPU = torch.device("cpu")


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    for there, wanted in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device("auto").type == wanted
        assert choose_device("cpu") == CPU


def test_a_missing_cuda_is_bad_input(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="device: wanted a CUDA device, found none; use device=cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("native", [True, False])
def test_bf16_is_on_where_the_device_multiplies_in_it(monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0) if native else (7, 5))
    for device in (CPU, torch.device("cuda")):
        assert use_bf16("auto", device) is native
        assert use_bf16("on", device) is True
        assert use_bf16("off", device) is False


def test_threads_are_left_alone_unless_told():
    before = torch.get_num_threads()
    try:
        ready_process(None)
        assert torch.get_num_threads() == before
        ready_process(2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
