"""The memory that a training needs, estimated before it starts.

Nothing here knows an optimiser: each is asked, by a step on a parameter of a few rows.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glassrec.data.dataset import BLOCK_ROWS, BLOCKS_PER_PART, Dataset
from glassrec.models.base import Recommender
from glassrec.training.optimizers import MakeOptimizer
from glassrec.training.settings import Settings

FLOAT = torch.float32.itemsize


@dataclass(frozen=True)
class Memory:
    """Bytes that training holds beside the dataset and what the program itself takes.

    What a batch takes on its way through the model is not counted, see `stage_memory`.
    """

    count: int
    """of trainable numbers"""
    parameters: int
    """with the buffers of the model"""
    gradients: int
    state: int
    """of the optimisers, from one step to the next"""
    step: int
    """what the optimisers hold besides, while they make a step"""
    best: int
    """the weights of the best epoch"""
    rows: int
    """of an epoch, while the next one's are drawn"""
    peak: int
    """the most at one time; less than the sum, as not all of it is there at one time"""

    def __str__(self) -> str:
        parts = {
            "gradients": self.gradients,
            "optimiser state": self.state,
            "its step": self.step,
            "best weights": self.best,
            "rows": self.rows,
        }
        listed = ", ".join(f"{name} {in_units(count)}" for name, count in parts.items() if count)
        return (
            f"{self.count:,} parameters {in_units(self.parameters)}, {listed}: "
            f"about {in_units(self.peak)} at the peak"
        )


def estimate_memory(
    settings: Settings,
    model: Recommender,
    dataset: Dataset,
    optimizer: MakeOptimizer,
    table_optimizer: MakeOptimizer | None = None,
    *,
    resumes: bool = False,
) -> Memory:
    """What `Trainer.fit` with the same arguments will hold, on each device that trains.

    Where it `resumes`, the weights are there a third time while the checkpoint is read.
    """
    count, table = model.parameter_count, model.table.weight
    lookups = min(settings.batch_size, dataset.rows_per_epoch) * model.table.lookups
    if table_optimizer is None or not table.numel():
        shares = [_share(optimizer, count, model.width)]
    else:
        sparse = _share(table_optimizer, table.numel(), table.shape[1], lookups)
        shares = [_share(optimizer, count - table.numel(), model.width), sparse]
    gradients, state, step = (sum(share[k] for share in shares) for k in range(3))
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    rows, drawing = _epoch(dataset)
    # Histories are looked up apart from fields: two gradients of the table until they are added up.
    second = table.nbytes if table_optimizer is None and model.schema.history_length else 0
    stepping = gradients + max(step, second) + rows + weights * (settings.max_epochs > 1)
    peak = weights + state + max(stepping, weights + drawing, weights * 2 * resumes)
    return Memory(count, weights, gradients + second, state, step, weights, drawing, peak)


def _share(
    make: MakeOptimizer, numbers: int, width: int, lookups: int | None = None
) -> tuple[int, int, int]:
    """Bytes of gradients, of an optimiser's state, and of its step, for so many numbers.

    Of a table with sparse gradients, a batch looks up some rows, maybe one of them several times.
    """
    sparse = lookups is not None
    # What does not grow with the rows does not matter: hence two parameters.
    few, many = (_bytes_of_steps(make, rows, width, sparse) for rows in (64, 128))
    state, step = ((b - a) / (64 * width) for a, b in zip(few, many, strict=True))
    touched = numbers if lookups is None else min(numbers, lookups * width)
    gradients = numbers * FLOAT if lookups is None else lookups * (width * FLOAT + 8)
    return gradients, int(state * numbers), int(step * touched)


def _epoch(dataset: Dataset) -> tuple[int, int]:
    """The bytes of the rows of an epoch, and those held while the next epoch is drawn."""
    batch = dataset.train.batch
    rows = min(batch.rows, BLOCK_ROWS * BLOCKS_PER_PART) if dataset.in_blocks else batch.rows
    one = sum(column.nbytes for column in batch.slice(0, 1))
    size = dataset.rows_per_positive * rows * one
    # The rows of the last epoch, those to be shuffled where they are made afresh, the shuffled.
    return size, size * (2 if dataset.negatives is None else 3)


def _bytes_of_steps(make: MakeOptimizer, rows: int, width: int, sparse: bool) -> tuple[int, int]:
    """The bytes of an optimiser's state, and those that its second step holds on the way."""
    weight = Parameter(torch.zeros(rows, width))
    optimizer = make([weight])
    for counter in (AllocationCounter(), AllocationCounter()):  # the first step makes the state
        gradient = torch.ones(rows, width)
        weight.grad = gradient.to_sparse(1) if sparse else gradient
        with counter:
            optimizer.step()
    tensors = (t for state in optimizer.state.values() for t in state.values())
    return sum(t.nbytes for t in tensors if isinstance(t, Tensor)), counter.most


class AllocationCounter(TorchDispatchMode):
    """Counts the bytes of tensors made inside; `most` is the most at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operation, and look at what came out."""
        known = {_place(tensor) for tensor in tree_leaves((args, kwargs)) if _is_dense(tensor)}
        out = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if _is_dense(tensor) and _place(tensor) not in known:
                self._count(tensor)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.live += storage.nbytes()
        self.most = max(self.most, self.live)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.live -= size


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def in_units(count: float) -> str:
    """A number of bytes in the largest unit of which there is one."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1000:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
