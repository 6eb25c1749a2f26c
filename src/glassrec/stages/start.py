"""Where training starts: the weights of another run, often those of its pruned model."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from glassrec.artifacts import Weights


def start_file(start: Path) -> Path:
    """The file to start from: `start` itself, or what the run in that directory ended with.

    That is its pruned model, if it has one; its unpruned one can be named as a file.

    Raises:
        ValueError: the directory holds no trained model.
    """
    if start.is_file():
        return start
    for name in ("pruned.safetensors", "weights.safetensors"):
        if (start / name).is_file():
            return start / name
    raise ValueError(f"start: {start} holds no weights.safetensors; train it first")


def start_weights(file: Path) -> Weights:
    """The weights in a file, on the CPU, each in the precision that it has there.

    Raises:
        ValueError: it is no safetensors file.
    """
    try:
        return Weights(load_file(file))
    except SafetensorError as error:
        raise ValueError(
            f"start: {file} holds no weights ({error}); name a run directory, or a file in "
            "safetensors format"
        ) from None
