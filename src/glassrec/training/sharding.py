"""The rows of the joint table, divided among the processes while they train: by TorchRec.

A process holds its rows and their sums of row-wise Adagrad, and no gradient of the table: FBGEMM
updates the rows in the backward pass. Before and after training the table is a mapped file, which
takes no memory of a process.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from glassrec.models.embedding import JointTable
from glassrec.training.optimizers import MakeOptimizer
from glassrec.training.rowwise import RowwiseAdagrad

NAME = "joint"
"""Of the table and its only feature, for TorchRec."""

BLOCK = 1 << 13

FOLDER = "training.table"
"""Of checkpoints, beside that of everything else: a folder for each epoch."""


def check_shardable(table: Any, table_optimizer: MakeOptimizer | None) -> dict[str, float]:
    """The settings of the table's optimiser; ValueError where the table cannot be divided."""
    if find_spec("torchrec") is None:
        raise ValueError(
            "trainer.shard_table: TorchRec is not installed; the guide on processes says how, or "
            "leave trainer.shard_table out"
        )
    if not isinstance(table, JointTable):
        raise ValueError(
            "trainer.shard_table: not with an imported model, which has its own tables"
        )
    made = None if table_optimizer is None else table_optimizer([torch.nn.Parameter(torch.ones(1))])
    if not isinstance(made, RowwiseAdagrad):
        raise ValueError(
            "trainer.shard_table: a divided table is trained by row-wise Adagrad; set "
            "table_optimizer=rowwise_adagrad"
        )
    return {name: made.defaults[name] for name in ("lr", "eps")}


class ShardedTable:
    """The rows (N, E) of a table in all processes, each of which holds as many.

    All processes must look rows up equally often. It is no module, as its rows are neither to be
    averaged by DDP nor to be in its checkpoint.

    Args:
        weight: all rows, the same in all processes; they are copied.
        device: which holds the own rows.
        lr: the learning rate.
        eps: as of `RowwiseAdagrad`.
    """

    def __init__(self, weight: Tensor, device: torch.device, lr: float, eps: float) -> None:
        self.optimizer = TableOptimizer(lr)
        rows, self.width = weight.shape
        self._module = _torchrec_module(rows, self.width, device, lr, eps)
        self._rate = lr
        state = self._module.state_dict()[f"embeddings.{NAME}.weight"]
        self.first, self.weight = 0, torch.empty(0, self.width, device=device)
        for shard in state.local_shards():
            self.first, self.weight = shard.metadata.shard_offsets[0], shard.tensor
        self.weight.copy_(weight[self.first : self.first + len(self.weight)])

    @property
    def sums(self) -> Tensor:
        """The squared gradients of its own rows that row-wise Adagrad has added up."""
        states = self._module.fused_optimizer.state_dict()["state"]
        found = [each for state in states.values() for name, each in state.items()
                 if name.endswith("momentum1")]  # fmt: skip
        shards = found[0].local_shards() if found else []
        return shards[0].tensor.flatten() if shards else self.weight.new_empty(0)

    def __call__(self, rows: Tensor) -> Tensor:
        """The vectors (..., E) of these rows (...), from the processes that hold them."""
        from torchrec import KeyedJaggedTensor

        if (rate := self.optimizer.rate) != self._rate:
            for group in self._module.fused_optimizer.param_groups:
                group["lr"] = self._rate = rate
            self._module.fused_optimizer.zero_grad()  # hands the rate over
        values = rows.flatten()
        lengths = torch.ones_like(values, dtype=torch.int32)
        found = self._module(KeyedJaggedTensor([NAME], values, lengths=lengths))
        return found[NAME].values().view(*rows.shape, self.width)

    @torch.no_grad()
    def average(self, parts: list[tuple[int, Tensor]]) -> None:
        """Give the first row of each part the mean of the rows that its mask (size,) chooses."""
        sums = self.weight.new_zeros(len(parts), self.width)
        for at, (start, chosen) in enumerate(parts):
            for block in _blocks(start, len(chosen), self.first, len(self.weight)):
                here = chosen[block.start - start : block.stop - start].to(self.weight)
                sums[at] += here @ self.weight[block.start - self.first : block.stop - self.first]
        distributed.all_reduce(sums)
        for (start, chosen), total in zip(parts, sums, strict=True):
            if self.first <= start < self.first + len(self.weight):
                self.weight[start - self.first] = total / chosen.sum().clamp_min(1)

    def save(self, folder: Path) -> None:
        """Write the own rows and sums into a folder, which is there when all have written."""
        part = folder.with_suffix(".partial")
        if distributed.get_rank() == 0:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        distributed.barrier()
        for name, values in (("weight", self.weight), ("sums", self.sums)):
            np.save(part / f"{name}-{self.first}.npy", values.detach().cpu().numpy())
        distributed.barrier()
        if distributed.get_rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        distributed.barrier()

    def load(self, folder: Path) -> None:
        """Take the own rows and sums from the folder, which any number of processes has written."""
        for name, own in (("weight", self.weight.detach()), ("sums", self.sums)):
            read_rows(folder, name, own, self.first)


def read_rows(folder: Path, name: str, into: Tensor, first: int = 0) -> None:
    """Copy the rows from `first` on of the arrays `name` in a folder of `ShardedTable.save`."""
    for path in folder.glob(f"{name}-*.npy"):
        start, values = int(path.stem.rpartition("-")[2]), np.load(path, mmap_mode="r")
        for block in _blocks(start, len(values), first, len(into)):
            part = torch.from_numpy(np.array(values[block.start - start : block.stop - start]))
            into[block.start - first : block.stop - first].copy_(part)


def _blocks(start: int, count: int, first: int, own: int) -> Iterator[range]:
    """The rows that two ranges share, some at a time, so that little is copied at once."""
    stop = min(start + count, first + own)
    for at in range(max(start, first), stop, BLOCK):
        yield range(at, min(at + BLOCK, stop))


class TableOptimizer(torch.optim.Optimizer):
    """The learning rate of a sharded table, for schedulers; the backward pass makes the steps."""

    def __init__(self, lr: float) -> None:
        super().__init__([torch.nn.Parameter(torch.empty(0))], {"lr": lr})

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.param_groups[0]["lr"])

    def step(self, closure: Any = None) -> Any:
        """Nothing is left to do."""
        return None if closure is None else closure()


def _torchrec_module(rows: int, width: int, device: torch.device, lr: float, eps: float) -> Any:
    """An embedding collection of one table, divided by rows under TorchRec's planner.

    By columns a row would have a sum in each process, which is another optimiser.
    """
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from torchrec import EmbeddingCollection, EmbeddingConfig
    from torchrec.distributed.embedding import EmbeddingCollectionSharder
    from torchrec.distributed.model_parallel import DistributedModelParallel
    from torchrec.distributed.planner import (
        EmbeddingShardingPlanner,
        ParameterConstraints,
        Topology,
    )
    from torchrec.distributed.types import ShardingEnv, ShardingType

    for name in ("torch.fx._symbolic_trace", "torchrec"):  # of use to its authors
        logging.getLogger(name).setLevel(logging.ERROR)
    if not distributed.is_initialized():
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    group = distributed.group.WORLD
    config = EmbeddingConfig(
        name=NAME, num_embeddings=rows, embedding_dim=width, feature_names=[NAME]
    )
    module = EmbeddingCollection(tables=[config], device=torch.device("meta"))
    settings = {"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "learning_rate": lr, "eps": eps}
    sharder: Any = EmbeddingCollectionSharder(fused_params=settings)
    topology = Topology(world_size=distributed.get_world_size(), compute_device=device.type)
    by_rows = ParameterConstraints(sharding_types=[ShardingType.ROW_WISE.value])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        planner = EmbeddingShardingPlanner(topology=topology, constraints={NAME: by_rows})
        plan = planner.collective_plan(module, [sharder], group)
        return DistributedModelParallel(
            module, ShardingEnv.from_process_group(group), device, plan, [sharder],
            init_data_parallel=False,
        )  # fmt: skip
