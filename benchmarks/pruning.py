"""The time of the proof over all pairs of ids; `cuts.py` has the time that pruning saves.

Weights, rows and pruned neurons are drawn at random: no value of them changes the time.

    python benchmarks/pruning.py --threads 2
"""

from __future__ import annotations

import argparse
import platform
from time import perf_counter

import pandas as pd
import torch

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema
from glassrec.models.ncf import GMF, MLP, NeuMF
from glassrec.prune.pruner import Pruner

USERS, ITEMS = 943, 1682
"""Of MovieLens-100K."""
PAIRS = Schema((), (Field("user", USERS), Field("item", ITEMS)), user="user", item="item")


def rows(schema: Schema, count: int) -> Batch:
    sizes = zip(schema.fields, schema.offsets, strict=True)
    ids = [torch.randint(field.size, (count,)) + offset for field, offset in sizes]
    dense = torch.randn(count, len(schema.dense))
    history = torch.empty(count, 0, dtype=torch.long)
    targets = torch.randint(2, (count, 1)).float()
    return Batch(dense, torch.stack(ids, 1), history, targets)


def proofs() -> None:
    generator = torch.Generator().manual_seed(0)
    print(f"\nthe domain level over {USERS:,} users and {ITEMS:,} items, certificate included")
    for build in (GMF, MLP, NeuMF):
        model = build(PAIRS).eval()
        with torch.no_grad():
            for name, layer in model.layers.items():  # a quarter of the units is dead
                if name.startswith("tower"):
                    layer.affine.bias.uniform_(-0.01, 0.01, generator=generator)
                    layer.affine.bias[::4] = -10
        split = Split(rows(PAIRS, 1000))
        dataset = Dataset(PAIRS, split, split, split)
        began = perf_counter()
        prune = Pruner(level="domain")
        plan = prune.plan(model, SILENT, dataset)
        planned = perf_counter() - began
        pruned = prune.prune(model, plan)
        certificate = prune.certify(model, pruned, plan, dataset, files={}, given={})
        total = perf_counter() - began
        print(
            f"{build.__name__:<6} {plan.dropped} of {plan.units} units, {plan.ground}: "
            f"{planned:.1f} s, with certificate {total:.1f} s, "
            f"|Δlogit| {certificate.max_abs_logit_difference:.1e}"
        )


SILENT = pd.DataFrame({"layer": [], "unit": [], "max_abs": []})
"""No neuron scores: nothing is proposed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {platform.machine()}, {given.threads} threads")
    proofs()


if __name__ == "__main__":
    main()
