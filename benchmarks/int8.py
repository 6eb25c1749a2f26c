"""Time, size and top-10 agreement of cuts and int8 copies, beside the trained model.

A DLRM of the size published for Criteo Kaggle (13 numbers, 26 fields of at most --ids values,
vectors of 16, towers 512-256-64-16 and 512-256-1) learns generated clicks: ids of a skewed
distribution, and the logit of a random teacher of ids, pairs and numbers. A list is a user (all
numbers and 13 fields) beside 100 items (the other 13 fields). A cut leaves out the neurons of
each layer whose activations vary least, and folds their means. All arms take turns in one process,
in random order; shown is the median ratio of processor time to the trained model in PyTorch, with
its 95 % bootstrap interval.

    python benchmarks/int8.py [--ids 500000] [--steps 300] [--turns 60]
"""

from __future__ import annotations

import argparse
import os
import random
import warnings
from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional as F

from cuts import eager, processor, rows, turns
from glassrec.artifacts.programs import as_onnx
from glassrec.data.batch import Batch
from glassrec.data.schema import Field, Schema
from glassrec.metrics.cost import ratio_interval
from glassrec.metrics.model_pair import shared_top
from glassrec.metrics.pointwise import AUROC
from glassrec.models.dlrm import DLRM
from glassrec.models.layers.folding import activations
from glassrec.stages.int8 import Int8Model, quantized
from glassrec.stages.program import LOGITS, export_program
from serving import ITEM_FIELDS, KAGGLE

LISTS, ITEMS, ROWS, BATCH = 500, 100, 400_000, 4096
SKEW = 8
SHARES = (0.0, 0.3, 0.5)


def skewed(schema: Schema, count: int) -> Batch:
    """Rows whose ids are small more often than large."""
    batch = rows(schema, count)
    for at, (field, offset) in enumerate(zip(schema.fields, schema.offsets, strict=True)):
        batch.ids[:, at] = (field.size * torch.rand(count).pow(SKEW)).long() + offset
    return batch


def listed(schema: Schema) -> tuple[Batch, Tensor]:
    """LISTS · ITEMS rows, and the number of the list of each."""
    batch, owner = skewed(schema, LISTS * ITEMS), torch.arange(LISTS).repeat_interleave(ITEMS)
    first = owner * ITEMS
    batch.ids[:, :-ITEM_FIELDS] = batch.ids[first, :-ITEM_FIELDS]
    return batch._replace(dense=batch.dense[first]), owner


class Teacher:
    """The logits of a random model of hashed ids."""

    def __init__(self, schema: Schema) -> None:
        self.single = torch.randn(len(schema.fields), 997) * 0.3
        self.vectors = torch.randn(len(schema.fields), 997, 4) * 0.35
        self.dense = torch.randn(len(schema.dense)) * 0.2

    def logits(self, batch: Batch) -> Tensor:
        """(N,)"""
        hashed, fields = batch.ids * 31 % 997, torch.arange(batch.ids.shape[1])
        vectors = self.vectors[fields, hashed]
        pairs = (vectors.sum(1).square() - vectors.square().sum(1)).sum(1) / 2
        return batch.dense @ self.dense + self.single[fields, hashed].sum(1) + pairs - 1


def trained(schema: Schema, teacher: Teacher, steps: int) -> DLRM:
    """The model after some steps of Adam; the table by sparse gradients."""
    model = DLRM(schema)
    model.table.sparse = True
    dense = [each for name, each in model.named_parameters() if name != "table.weight"]
    optimizers = torch.optim.Adam(dense, 1e-3), torch.optim.SparseAdam([model.table.weight], 3e-3)
    data = skewed(schema, ROWS)
    clicks = torch.bernoulli(teacher.logits(data).sigmoid())
    for step in range(steps):
        some = torch.arange(step * BATCH, (step + 1) * BATCH) % ROWS
        F.binary_cross_entropy_with_logits(model(data.select(some))[:, 0], clicks[some]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    model.table.sparse = False
    return model.eval().requires_grad_(False)


def cut(model: DLRM, share: float, sample: Batch, *, at_random: bool = False) -> DLRM:
    """The model without the share of each layer whose activations vary least, or a random one."""
    with activations(model.layers) as recorded:
        model(sample)
    small = deepcopy(model)
    for name, layer in small.layers.items():
        values = recorded[name][0]
        means, order = values.mean(0), values.std(0).argsort()
        order = torch.randperm(len(order)) if at_random else order
        kept = order[int(share * len(order)) :].sort().values
        layer.keep(kept, means.where(layer.foldable(means), 0))
    small.narrow()
    return small


def arms(model: DLRM, schema: Schema, sample: Batch) -> Iterator[tuple[str, object, int]]:
    """Name, model and bytes."""
    for share in SHARES:
        small = cut(model, share, sample) if share else model
        content = as_onnx(export_program(small, schema), LOGITS)
        size = sum(tensor.nbytes for tensor in small.state_dict().values())
        name = f"cut of {share:.0%}" if share else "trained"
        yield name, small, size
        yield f"{name}, onnxruntime", Int8Model(content), len(content)
        layers = [f"node_linear{'_' * bool(at)}{at or ''}" for at in range(9)]
        variants: dict[str, list[str] | None] = {
            "int8": None, "int8, all layers": [], "int8, all but the last layer": layers[6:],
            "int8 tables, float towers": layers,
        }  # fmt: skip
        for words, keep in variants.items():
            found = quantized(content, keep)
            yield f"{name}, {words}", Int8Model(found), len(found)
    small = cut(model, SHARES[-1], sample, at_random=True)
    found = quantized(as_onnx(export_program(small, schema), LOGITS))
    yield f"random cut of {SHARES[-1]:.0%}, int8", Int8Model(found), len(found)


@torch.inference_mode()
def show(model: DLRM, schema: Schema, teacher: Teacher, options: argparse.Namespace) -> None:
    """A line for each arm."""
    batch, owner = listed(schema)
    clicks = torch.bernoulli(teacher.logits(batch).sigmoid())
    every = [*arms(model, schema, skewed(schema, 10_000))]
    logits = [each.predict(batch, BATCH)[:, 0].double() for _, each, _ in every]
    times = {}
    for size in (1, BATCH):
        part = batch.slice(0, size)
        passes = [eager(each, part) for _, each, _ in every]
        times[size] = turns(passes, options.turns, 10 if size == 1 else 1)
        print(f"{size:,} rows of the trained model: {times[size][:, 0].median():.3f} ms")
    print(
        "\n| | smaller | time of 1 row | of 4,096 | AUROC | mean, max change of a logit | top 10 |"
    )
    print("|---|---|---|---|---|---|---|")
    for at, (name, _, size) in enumerate(every):
        ratios = [
            f"{middle:.2f} ({low:.2f} to {high:.2f})"
            for middle, low, high in (ratio_interval(t[:, 0], t[:, at]) for t in times.values())
        ]
        change = (logits[at] - logits[0]).abs()
        area = AUROC(logits[at], clicks == 1).weighted()(torch.ones(1, len(clicks)).double())
        same = shared_top(logits[0], logits[at], owner, 10, 0)
        print(f"| {name} | {every[0][2] / size:.2f} | {' | '.join(ratios)} | {float(area):.4f} | "
              f"{change.mean():.4f}, {change.max():.3f} | {same:.4f} |")  # fmt: skip
    print(f"\nstandard deviation of the trained model's logits: {logits[0].std():.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--ids", type=int, default=500_000, help="of a field, at most")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--turns", type=int, default=60)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    fields = tuple(Field(f"C{at}", min(size, options.ids)) for at, size in enumerate(KAGGLE, 1))
    schema = Schema(tuple(f"I{at}" for at in range(1, 14)), fields)
    teacher = Teacher(schema)
    model = trained(schema, teacher, options.steps)
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, 1 thread, {processor()}, load {load:.1f}, "
          f"{model.parameter_count:,} parameters, {options.steps} steps")  # fmt: skip
    show(model, schema, teacher, options)


if __name__ == "__main__":
    main()
