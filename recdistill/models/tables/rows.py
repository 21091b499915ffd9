"""Rows of numbers by place: as floats, as floats that learn to be quantised, or as codes of 8 or 4 bits."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

Bits = Literal[8, 4]
OPSET = 20  # of every ONNX graph that we write
SPREAD = 0.1  # standard deviation of fresh rows
_SPARSE_FROM = 50_000  # rows from which a gradient is kept as the touched rows alone


class TrainedRows(nn.Embedding):
    """An embedding with the gradient of index_select, which a CPU computes sooner than that of embedding."""

    def forward(self, place: Tensor) -> Tensor:
        """place: [...] int64 -> [..., E]."""
        if self.sparse or not self.training:
            return super().forward(place)
        return self.weight.index_select(0, place.reshape(-1)).view(*place.shape, self.embedding_dim)


def float_rows(num_rows: int, width: int) -> nn.Embedding:
    """Trainable rows; `reset` gives them their first values."""
    return TrainedRows(num_rows, width, sparse=num_rows > _SPARSE_FROM)


def reset(table: nn.Module) -> None:
    """Fresh values for all rows of a table, in the order of its parts."""
    for module in table.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=SPREAD)


def quantise_rows(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Symmetric codes and a scale for each row: codes [R, E] int8 in -(2^(bits-1) - 1).. and scale [R] float16.

    scale_r = max_e |w_re| / (2^(bits-1) - 1),    code_re = round(w_re / scale_r)

    A row of zeros has the scale 1. Off by at most half a scale, and a little more where float16 rounds the scale down.

    >>> codes, scale = quantise_rows(torch.tensor([[7.0, -3.4], [0.0, 0.0]]), 4)
    >>> codes.tolist(), scale.tolist()
    ([[7, -3], [0, 0]], [1.0, 1.0])
    """
    limit = 2 ** (bits - 1) - 1
    scale = (weight.detach().abs().amax(dim=1) / limit).to(torch.float16)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    codes = torch.round(weight.detach() / scale.float().unsqueeze(1)).clamp(-limit, limit)
    return codes.to(torch.int8), scale


class AwareRows(nn.Module):
    """Float rows that are read as if quantised, with the gradient of the float (straight-through).

    Source: Jacob et al., CVPR 2018, section 3; Bengio et al., arXiv:1308.3432 for the gradient. Differs: row by row and
    only the rows that are read, so that gradients stay sparse; no moving averages, the range is the row's own.
    """

    def __init__(self, rows: nn.Embedding, bits: Bits) -> None:
        super().__init__()
        self.rows = rows
        self.bits = bits

    def forward(self, place: Tensor) -> Tensor:
        """place: [...] int64 -> [..., E]."""
        found: Tensor = self.rows(place)
        codes, scale = quantise_rows(found.reshape(-1, found.shape[-1]), self.bits)
        read = (codes.float() * scale.float().unsqueeze(1)).reshape(found.shape)
        return found + (read - found).detach()


class QuantisedRows(nn.Module):
    """Codes and scales alone: what ships. Two codes of 4 bits share a byte: column e with column e + E/2."""

    codes: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bits: Bits) -> None:
        super().__init__()
        codes, scale = quantise_rows(weight, bits)
        self.bits = bits
        self.width = codes.shape[1]
        self.register_buffer("codes", codes if bits == 8 else _packed(codes))
        self.register_buffer("scale", scale)

    def forward(self, place: Tensor) -> Tensor:
        """place: [...] int64 -> [..., E] float32. In an ONNX graph: Gather, then DequantizeLinear."""
        flat = place.reshape(-1)
        codes = self.codes.index_select(0, flat)
        scale = self.scale.index_select(0, flat).float()
        if torch.onnx.is_in_onnx_export():
            read = _onnx8(codes, scale) if self.bits == 8 else _onnx4(codes, scale)
        else:
            plain = codes.float() if self.bits == 8 else torch.cat([codes & 15, codes >> 4], dim=1).float() - 8
            read = plain * scale.unsqueeze(1)
        return read[:, : self.width].reshape(*place.shape, self.width)


def _packed(codes: Tensor) -> Tensor:
    """[R, E] codes of 4 bits -> [R, ceil(E / 2)] bytes; a code is kept plus 8, so that none is negative."""
    if codes.shape[1] % 2:
        codes = nn.functional.pad(codes, (0, 1))
    low, high = (codes + 8).to(torch.uint8).chunk(2, dim=1)
    return low | (high << 4)


def _onnx8(codes: Tensor, scale: Tensor) -> Tensor:
    return _node("DequantizeLinear", codes, scale, dtype=torch.float32, shape=codes.shape, axis=0)


def _onnx4(codes: Tensor, scale: Tensor) -> Tensor:
    """The bit operations as ONNX has them: the exporter's own `>>` widens bytes to signed numbers."""
    mask, shift = (torch.full_like(codes, value) for value in (15, 4))
    low = _node("BitwiseAnd", codes, mask, dtype=torch.uint8, shape=codes.shape)
    high = _node("BitShift", codes, shift, dtype=torch.uint8, shape=codes.shape, direction="RIGHT")
    both = torch.cat([low, high], dim=1)
    zero = torch.full_like(scale, 8, dtype=torch.uint8)
    return _node("DequantizeLinear", both, scale, zero, dtype=torch.float32, shape=both.shape, axis=0)


def _node(name: str, *inputs: Tensor, dtype: torch.dtype, shape: torch.Size, **attributes: Any) -> Tensor:
    found: Tensor = torch.onnx.ops.symbolic(
        name, inputs, attrs=attributes, dtype=dtype, shape=tuple(shape), version=OPSET
    )
    return found


def quantised(table: nn.Module, bits: Bits) -> nn.Module:
    """The table with every part of float rows replaced by codes; in place, but for a table that is rows alone."""
    if isinstance(table, nn.Embedding):
        return QuantisedRows(table.weight, bits)
    if isinstance(table, AwareRows):
        return QuantisedRows(table.rows.weight, bits)
    for name, part in list(table.named_children()):
        setattr(table, name, quantised(part, bits))
    return table
