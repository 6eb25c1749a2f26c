"""Named tensors in safetensors format: the weights of a model, and lists to rank."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from glassrec.artifacts.formats import Artifact, damaged

if TYPE_CHECKING:
    from torch import Tensor

ORIGIN = "glassrec"
"""The key of the origin in the metadata of a file of weights."""


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of named tensors, in the order of their names, in hex.

    It is of names, shapes and numbers, taken in float64, so that it does not depend on how a file
    or a model holds them.
    """
    import torch

    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
        dtype = torch.int64 if dtype == torch.int32 else dtype  # as ids in a store
        found.update(f"{name} {dtype} {tuple(tensor.shape)}\n".encode())
        for block in blocks(tensor):
            found.update(block.cpu().to(dtype).view(torch.uint8).numpy().data)
    return found.hexdigest()


def blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    """The numbers of a tensor in order, some at a time, so that little is copied at once."""
    return tensor.flatten().split(1 << 17)


@dataclass(frozen=True)
class Tensors(Artifact):
    """Tensors by name."""

    tensors: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write the tensors in safetensors format."""
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the tensors to the CPU."""
        return cls(_tensors(path)[0])


@dataclass(frozen=True)
class Weights(Artifact):
    """The parameters and buffers of a model, by name, and what they were made from.

    `origin` holds plain values: version, seed, model and data (their settings), files (the sha256
    of each data file), vocabulary_sha256 and encoder_sha256 (see `saved_encoder`), and start: null,
    or whether the rows that the starting weights were trained on are known. It is None in files
    that were written without.
    """

    tensors: dict[str, Tensor]
    origin: Mapping[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Write the tensors in safetensors format, with the origin as JSON in its metadata."""
        from safetensors.torch import save_file

        # One key: the format keeps no order of several, and equal weights are to be equal files.
        origin = self.origin
        metadata = None if origin is None else {ORIGIN: json.dumps(origin, sort_keys=True)}
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, path, metadata)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the tensors to the CPU."""
        tensors, metadata = _tensors(path)
        try:
            origin = json.loads(metadata[ORIGIN]) if ORIGIN in metadata else None
        except ValueError as error:
            raise damaged(path, error) from None
        return cls(tensors, origin)

    @property
    def bytes(self) -> int:
        """The size of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def _tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise damaged(path, error) from None
