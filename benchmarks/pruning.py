"""The time that pruning saves, and the time of the proof over all pairs of ids.

Both models of a comparison take turns in one process; printed are the medians of the turns and the
median of the turns' ratios. Weights, rows and pruned neurons are drawn at random: no value of
them changes the time.

    python benchmarks/pruning.py --threads 2
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from copy import deepcopy
from statistics import median
from time import perf_counter

import pandas as pd
import torch

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema
from glassrec.models.base import Recommender
from glassrec.models.dlrm import DLRM
from glassrec.models.ncf import GMF, MLP, NeuMF
from glassrec.prune.pruner import Pruner

BATCH = 4096
CRITEO = Schema(
    tuple(f"I{place}" for place in range(1, 14)),
    tuple(Field(f"C{place}", 1000) for place in range(1, 27)),
)
USERS, ITEMS = 943, 1682
"""Of MovieLens-100K."""
PAIRS = Schema((), (Field("user", USERS), Field("item", ITEMS)), user="user", item="item")


def rows(schema: Schema, count: int, device: torch.device) -> Batch:
    sizes = zip(schema.fields, schema.offsets, strict=True)
    ids = [torch.randint(field.size, (count,)) + offset for field, offset in sizes]
    dense = torch.randn(count, len(schema.dense))
    history = torch.empty(count, 0, dtype=torch.long)
    targets = torch.randint(2, (count, 1)).float()
    return Batch(dense, torch.stack(ids, 1), history, targets).to(device)


def without(model: Recommender, share: float, layers: str) -> Recommender:
    """The model without a random share of the neurons of each layer of that name."""
    small = deepcopy(model)
    for name, layer in small.layers.items():
        if name.startswith(layers):
            units = len(layer.units)
            kept = torch.randperm(units)[int(share * units) :].sort().values
            layer.keep(kept.to(model.device), torch.zeros(units, device=model.device))
    small.narrow()
    return small


def seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - began


@torch.inference_mode()
def compare(what: str, large: Recommender, small: Recommender, batch: Batch, turns: int) -> None:
    found: list[tuple[float, float]] = []
    for _ in range(turns + 3):
        pair = [seconds(lambda m=m: m(batch), large.device) for m in (large, small)]
        found.append((pair[0], pair[1]))
    found = found[3:]  # what warms up does not count
    before, after = (median(each) * 1000 for each in zip(*found, strict=True))
    ratio = median(after / before for before, after in found)
    print(f"{what:<44} {before:8.2f} ms {after:8.2f} ms   {ratio:.2f}")


def latencies(turns: int, device: torch.device) -> None:
    model = DLRM(CRITEO).to(device).eval()
    batch = rows(CRITEO, BATCH, device)
    print(f"DLRM of Criteo's size, {BATCH:,} rows{'as built':>22}{'pruned':>12}   ratio")
    for share in (0.25, 0.5, 0.75):
        small = without(model, share, "")
        compare(f"{share:.0%} of all units gone", model, small, batch, turns)
        towers = without(without(model, share, "bottom"), share, "top")
        compare(f"{share:.0%} of the towers' units gone", model, towers, batch, turns)
    for share in (0.1, 0.5, 0.9, 0.99):
        small = without(model, share, "interaction")
        compare(f"{share:.0%} of the interaction's units gone", model, small, batch, turns)


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
        split = Split(rows(PAIRS, 1000, torch.device("cpu")))
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
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    where = given.device if given.device == "cpu" else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {platform.machine()}, {given.threads} threads, {where}\n")
    latencies(given.turns, torch.device(given.device))
    proofs()


if __name__ == "__main__":
    main()
