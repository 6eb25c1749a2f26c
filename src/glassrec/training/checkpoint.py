"""The file from which an interrupted training goes on: written whole or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from glassrec.run import replacing


class AtomicFile(CheckpointIO):
    """Saves a checkpoint so that a kill at any moment leaves the old file or the new one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write beside `path`, flush to the disk, rename."""
        with replacing(Path(path)) as part, part.open("wb") as file:  # which says why it fails
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What `save_checkpoint` wrote, on the CPU; Lightning moves it where it belongs."""
        return read(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file."""
        Path(path).unlink()


def read(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU, after its checksums are verified.

    Args:
        path: the file.
        mapped: leave the tensors in the file until they are read, so that they take no memory.

    Raises:
        ValueError: the file is cut off, altered, or not a checkpoint at all.
    """
    try:
        # torch.load does not look at the checksums that torch.save writes.
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
        if altered:
            raise zipfile.BadZipFile(f"wrong checksum of {altered}")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged archive fails in a dozen ways, OSError among them
        raise ValueError(
            f"{path} is damaged or not a checkpoint; delete it to train afresh ({error})"
        ) from error
