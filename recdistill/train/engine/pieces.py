"""Tensors as the pieces that a process holds, their files, and pieces back into tensors, however either is sharded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from recdistill.files import read_json, write_json
from recdistill.problems import BadInput, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Part of a named tensor, as a view of live memory. offset: where it begins in the whole; whole: its shape.

    shared: whether every process holds the same, so that one of them is enough.
    """

    name: str
    tensor: Tensor
    offset: tuple[int, ...]
    whole: tuple[int, ...]
    shared: bool

    def owned(self) -> Piece:
        """The same, but as a tensor that every process has another one of."""
        return replace(self, shared=False)

    def copied(self) -> Piece:
        """The same values on the CPU, in memory of their own."""
        return replace(self, tensor=self.tensor.to("cpu", copy=True))


def pieces(named: Mapping[str, Any], prefix: str = "") -> list[Piece]:
    """What this process holds of tensors, those of TorchRec's sharded kind among them."""
    return [piece for name, value in named.items() for piece in _pieces(prefix + name, value)]


def _pieces(name: str, value: Any) -> Iterator[Piece]:
    shards = getattr(value, "local_shards", None)
    if shards is None:
        tensor, whole = value.detach(), tuple(value.shape)
        yield Piece(name=name, tensor=tensor, offset=(0,) * len(whole), whole=whole, shared=True)
        return
    whole = tuple(value.metadata().size)
    for held in shards():
        offset = tuple(held.metadata.shard_offsets)
        yield Piece(name=name, tensor=held.tensor.detach(), offset=offset, whole=whole, shared=False)


def write_pieces(folder: Path, held: Iterable[Piece], rank: int) -> None:
    """rank-N.safetensors and its index. What all processes share is left to rank 0."""
    own = [piece for piece in held if rank == 0 or not piece.shared]
    keys = [f"{number}" for number in range(len(own))]
    tensors = {key: piece.tensor.contiguous() for key, piece in zip(keys, own, strict=True)}
    safetensors.torch.save_file(tensors, folder / f"rank-{rank}.safetensors")
    index = [
        {"key": key, "name": p.name, "offset": p.offset, "size": tuple(p.tensor.shape), "whole": p.whole}
        for key, p in zip(keys, own, strict=True)
    ]
    write_json(folder / f"rank-{rank}.json", index)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A piece in a file."""

    file: Path
    key: str
    name: str
    offset: tuple[int, ...]
    size: tuple[int, ...]
    whole: tuple[int, ...]

    def read(self) -> Tensor:
        with safetensors.safe_open(self.file, framework="pt") as file:
            return file.get_tensor(self.key)


class Stored:
    """The tensors in a folder that `write_pieces` filled, by any number of processes. Nothing in it is code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, list[_Entry]] = {}
        for index in sorted(folder.glob("rank-*.json")):
            for entry in read_json(index):
                for name in ("offset", "size", "whole"):
                    entry[name] = tuple(entry[name])
                found = _Entry(file=index.with_suffix(".safetensors"), **entry)
                self.entries.setdefault(found.name, []).append(found)

    def names(self, prefix: str) -> list[str]:
        """What follows the prefix in the names that begin with it."""
        return [name[len(prefix) :] for name in self.entries if name.startswith(prefix)]

    def whole(self, name: str) -> Tensor:
        """One tensor in memory of its own."""
        out = torch.empty(self.entries[name][0].whole, dtype=self.entries[name][0].read().dtype)
        self.fill(Piece(name=name, tensor=out, offset=(0,) * out.dim(), whole=tuple(out.shape), shared=True))
        return out

    def wholes(self, prefix: str) -> dict[str, Tensor]:
        """All tensors whose name begins so, without the prefix."""
        return {name: self.whole(prefix + name) for name in self.names(prefix)}

    def mapped(self, prefix: str) -> dict[str, Tensor]:
        """The same to look at: what lies in one piece stays in its file, mapped, and takes no memory of its own."""
        found = {name: self.entries[prefix + name] for name in self.names(prefix)}
        return {
            name: held[0].read() if held[0].size == held[0].whole else self.whole(prefix + name)
            for name, held in found.items()
        }

    def fill(self, piece: Piece) -> None:
        """Overwrite a live piece with what is stored of it. BadInput where that is not all of it."""
        found = [entry for entry in self.entries.get(piece.name, []) if entry.whole == piece.whole]
        filled = sum(_overlay(piece, entry) for entry in found)
        if filled != piece.tensor.numel():
            shapes = sorted({str(entry.whole) for entry in self.entries.get(piece.name, [])})
            where, remedy = f"{self.folder}: {piece.name}", "remove the folder; training then starts anew"
            wanted = f"a tensor of shape {piece.whole}"
            raise BadInput(problem(where, wanted=wanted, found=", ".join(shapes) or "none", remedy=remedy))


def _overlay(piece: Piece, entry: _Entry) -> int:
    """Copy what a stored piece and a live one have in common; how many numbers that was."""
    ends = [offset + size for offset, size in zip(piece.offset, piece.tensor.shape, strict=True)]
    lows = [max(pair) for pair in zip(piece.offset, entry.offset, strict=True)]
    highs = [min(end, o + s) for end, o, s in zip(ends, entry.offset, entry.size, strict=True)]
    if any(low >= high for low, high in zip(lows, highs, strict=True)):
        return 0
    source = entry.read()[_place(lows, highs, entry.offset)]
    piece.tensor[_place(lows, highs, piece.offset)].copy_(source)
    return source.numel()


def _place(lows: list[int], highs: list[int], offset: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(low - o, high - o) for low, high, o in zip(lows, highs, offset, strict=True))
