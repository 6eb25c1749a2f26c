"""Compares a sharded DLRM with a whole one, step by step, in each of several processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from glassrec.data.batch import Batch
from glassrec.data.schema import Field, Schema, Target
from glassrec.models.dlrm import DLRM
from glassrec.training.rowwise import RowwiseAdagrad
from glassrec.training.sharding import ShardedTable

SIZES = (7, 400, 61)


def batch(step: int) -> Batch:
    drawn = torch.Generator().manual_seed(step)
    offsets = torch.tensor([0, 7, 407])
    ids = torch.stack([torch.randint(0, n, (64,), generator=drawn) for n in SIZES], 1) + offsets
    dense = torch.randn(64, 2, generator=drawn)
    targets = torch.randint(0, 2, (64, 1), generator=drawn).float()
    return Batch(dense, ids, ids[:, :0], targets)


def main(folder: Path) -> None:
    distributed.init_process_group("gloo")
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    fields = tuple(Field(f"f{n}", size) for n, size in enumerate(SIZES))
    schema = Schema(fields=fields, dense=("a", "b"), targets=(Target("label", "click"),))
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(DLRM(schema, embedding=8, bottom=[8], top=[8]))
    whole, divided = models
    table, rows = whole.table.weight, 64 // processes
    own = slice(rank * rows, (rank + 1) * rows)
    sharded = ShardedTable(divided.table.weight.detach(), torch.device("cpu"), 0.1, 1e-8)
    divided.table.shard(sharded)
    others = [each for each in whole.parameters() if each is not table]
    optimizers = [torch.optim.SGD(each, lr=0.1) for each in (others, [*divided.parameters()])]
    on_table, parallel = RowwiseAdagrad([table], lr=0.1), DistributedDataParallel(divided)
    for step in range(10):
        every = batch(step)
        part = Batch(*(each[own] for each in every))
        expected, found = whole(every), parallel(part)
        assert_close(found, expected[own], atol=1e-6 if step == 0 else 1e-5, rtol=0)
        for optimizer in (*optimizers, on_table):
            optimizer.zero_grad()
        binary_cross_entropy_with_logits(expected, every.targets).backward()
        binary_cross_entropy_with_logits(found, part.targets).backward()
        for optimizer in (*optimizers, on_table):
            optimizer.step()
        if step == 4:  # as a killed training goes on, at another rate
            sharded.save(folder / "step")
            sharded = ShardedTable(table.detach() * 0, torch.device("cpu"), 0.1, 1e-8)
            sharded.load(folder / "step")
            divided.table.shard(sharded)
            sharded.optimizer.param_groups[0]["lr"] = on_table.param_groups[0]["lr"] = 0.05
    seen = torch.arange(sum(SIZES)) % 3 > 0
    for model in models:
        model.table.average_unseen(seen)
    every = torch.arange(sum(SIZES))
    assert_close(sharded(every), table.detach(), atol=1e-5, rtol=0)
    assert not torch.equal(table[7], torch.zeros(8))
    print("equal\n", end="", flush=True)
    assert int(os.environ["RANK"]) == rank


if __name__ == "__main__":
    main(Path(sys.argv[1]))
