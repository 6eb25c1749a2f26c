"""The peak memory of training with a large joint table, against what is printed beforehand.

Trains GMF, 16 numbers an id, on generated rows, in a fresh process for each optimiser: dense Adam,
SparseAdam and row-wise Adagrad on the table. What is measured is the largest resident set of the
process (Linux's VmHWM) less its resident set just before the model is made, so data and libraries
are not in it; a small training before that has loaded all of them.

    python benchmarks/memory.py --rows 20000000
    python benchmarks/memory.py --rows 20000000 --certificate

The second measures plan, pruning and certificate of such a model from its file of weights, with two
factors that do nothing, in units of its table in float32.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import torch

from glassrec.artifacts import Certificate, Weights
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema
from glassrec.metrics.quality import quality
from glassrec.models.ncf import GMF
from glassrec.prune.precision import to_float64
from glassrec.prune.pruner import Pruner
from glassrec.training.memory import estimate_memory
from glassrec.training.rowwise import RowwiseAdagrad
from glassrec.training.trainer import Trainer

ADAM = partial(torch.optim.Adam, lr=0.001, fused=True)
TABLES: dict[str, Any] = {
    "Adam": None,
    "SparseAdam": partial(torch.optim.SparseAdam, lr=0.001),
    "RowwiseAdagrad": partial(RowwiseAdagrad, lr=0.03),
}
"""What trains the table; the few other parameters are Adam's."""

FACTORS = 16
GIB = 2**30


def made_up(table_rows: int, rows: int) -> Dataset:
    """Users and items in equal number, at random, with clicks at random."""
    half = table_rows // 2
    schema = Schema((), (Field("user", half), Field("item", half)), user="user", item="item")

    def split(count: int) -> Split:
        ids = torch.randint(1, half, (count, 2)) + torch.tensor([0, half])
        click = (torch.rand(count, 1) < 0.5).float()
        return Split(Batch(torch.zeros(count, 0), ids, torch.zeros(count, 0).long(), click))

    return Dataset(schema, split(rows), split(1000), split(1000))


def fit(trainer: Trainer, model: GMF, dataset: Dataset, table: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(
            model, dataset, ADAM, table_optimizer=table, seed=0, directory=Path(folder),
            validate=partial(quality, name="val"), on_epoch=lambda row: None,
        )  # fmt: skip


def resident(key: str) -> int:
    """Bytes of the resident set: now (VmRSS), or at most so far (VmHWM).

    Not `getrusage`: its maximum starts from that of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def measure(name: str, options: argparse.Namespace) -> None:
    """Train in this process, and write the finding as JSON on the last line."""
    torch.set_num_threads(options.threads)
    trainer, table = Trainer(options.epochs, options.batch_size), TABLES[name]
    small = made_up(100, 2000)
    fit(trainer, GMF(small.schema, FACTORS), small, table)
    dataset = made_up(options.rows, options.batch_size * options.steps)
    before = resident("VmRSS")
    model = GMF(dataset.schema, FACTORS)
    estimate = estimate_memory(trainer, model, dataset, ADAM, table)
    print(f"memory    {estimate}", flush=True)
    start = perf_counter()
    fit(trainer, model, dataset, table)
    seconds = perf_counter() - start
    most = resident("VmHWM") - before
    print(json.dumps({"estimate": estimate.peak, "measured": most, "seconds": seconds}))


def measure_certificate(rows: int) -> None:
    """Write a model with two factors of zero, then plan, prune and certify it from its file."""
    torch.set_num_threads(1)
    dataset = made_up(rows, 10_000)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights.safetensors")
        model = GMF(dataset.schema, FACTORS)
        with torch.no_grad():
            model.table.weight[:, :2] = 0
        Weights(model.state_dict()).save(file)
        small = made_up(100, 2000)
        certificate_of(GMF(small.schema, FACTORS), small)
        del model
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before, start = resident("VmRSS"), perf_counter()
        model = GMF(dataset.schema, FACTORS)
        model.load(Weights.load(file).tensors, str(file), share_table=True)
        certificate = certificate_of(model, dataset)
        seconds = perf_counter() - start
    most, table = resident("VmHWM") - before, 4 * rows * FACTORS
    assert certificate.exact
    assert sum(n.count for n in certificate.layers["product"].gone) == 2
    print(
        f"certificate of a table of {rows:,} × {FACTORS} ({table / GIB:.2f} GiB in float32): "
        f"{most / GIB:.2f} GiB, {most / table:.2f} tables, {seconds:.0f} s"
    )


def certificate_of(model: GMF, dataset: Dataset) -> Certificate:
    pruner, large = Pruner(), to_float64(model.eval())
    neurons = pd.DataFrame({"layer": ["product"], "unit": [0], "max_abs": [0.0]})
    plan = pruner.plan(large, neurons, dataset)
    return pruner.certify(large, pruner.prune(large, plan), plan, dataset, files={}, given={})


def in_a_process_of_its_own(name: str) -> str:
    command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = done.stdout.splitlines()
    found = json.loads(lines[-1])
    (estimate,) = (line for line in lines if line.startswith("memory") and "best" in line)
    return (
        f"{estimate}\n{name:<14}  estimate {found['estimate'] / GIB:5.2f} GiB  "
        f"measured {found['measured'] / GIB:5.2f} GiB  "
        f"of measured {found['estimate'] / found['measured']:.3f}  {found['seconds']:5.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000, help="of the joint table")
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=5, help="steps an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", choices=TABLES, help="one of them, in this process")
    parser.add_argument("--certificate", action="store_true", help="measure that instead")
    options = parser.parse_args()
    if options.certificate:
        measure_certificate(options.rows)
        return
    if options.only:
        measure(options.only, options)
        return
    print(
        f"GMF, a table of {options.rows:,} × {FACTORS}, {options.epochs} epochs of "
        f"{options.steps} steps of {options.batch_size:,} rows, torch {torch.__version__}"
    )
    for name in TABLES:
        print(in_a_process_of_its_own(name), flush=True)


if __name__ == "__main__":
    main()
