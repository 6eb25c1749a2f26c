"""Rows per second of Glassrec's training and of a bare Lightning module, against a plain loop.

All train NeuMF with Adam on the same rows in the same order, in one process, taking turns. The
bare module has a loss and an optimiser, its trainer no callback, logger or progress. The clock, of
the processor with `--processor-time`, runs over the steps of an epoch, from its rows lying ready to
the last loss being read; negative sampling, validation and the checkpoint are outside in all arms.
The first epoch of each turn warms up. Prints, for each batch size, the median rate of the plain
loop, and the median and the ends of the turns' ratios to it.

    python benchmarks/training.py [--root FOLDER_OF_THE_NCF_FILES] [--threads 1 --processor-time]
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import lightning.pytorch as lightning
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema
from glassrec.models.base import Recommender
from glassrec.models.ncf import NeuMF
from glassrec.training.trainer import Trainer

ROWS = {256: 100_000, 4_096: 600_000, 16_384: 1_000_000}
"""Batch size: rows of a measured epoch, so that each takes about a second or more."""
ADAM = partial(torch.optim.Adam, lr=0.001, fused=True)


class Clocked(Dataset):
    """A dataset whose epochs are all of its rows, as they lie; it notes when they are ready."""

    def epoch(self, seed: int, epoch: int) -> Batch:
        """The training rows; the clock starts."""
        STARTS.append(CLOCK[0]())
        return self.train.batch


CLOCK = [perf_counter]
STARTS: list[float] = []
ENDS: list[float] = []


def clocked_validate(model: Recommender, dataset: Dataset) -> dict[str, float]:
    ENDS.append(CLOCK[0]())
    return {"auroc": 0.5}


def glassrec(dataset: Dataset, size: int, device: torch.device) -> float:
    STARTS.clear(), ENDS.clear()
    accelerator = "cpu" if device.type == "cpu" else "gpu"
    with tempfile.TemporaryDirectory() as folder, quiet():
        Trainer(max_epochs=2, batch_size=size, accelerator=accelerator).fit(
            NeuMF(dataset.schema), dataset, ADAM, seed=0, directory=Path(folder),
            validate=clocked_validate, on_epoch=lambda row: None,
        )  # fmt: skip
    return dataset.train.batch.rows / (ENDS[-1] - STARTS[-1])


class Bare(lightning.LightningModule):
    """NeuMF with its loss and its optimiser."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.model = NeuMF(schema)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss."""
        return binary_cross_entropy_with_logits(self.model(batch), batch.targets)

    def on_train_epoch_end(self) -> None:
        """Stop the clock."""
        ENDS.append(CLOCK[0]())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return ADAM(self.parameters())


class Batches:
    """The batches of an epoch; the clock starts."""

    def __init__(self, rows: Batch, size: int) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        return -(-self.rows.rows // self.size)

    def __iter__(self) -> Iterator[Batch]:
        STARTS.append(CLOCK[0]())
        return self.rows.chunks(self.size)


def bare(dataset: Dataset, size: int, device: torch.device) -> float:
    STARTS.clear(), ENDS.clear()
    with quiet():
        lightning.Trainer(
            max_epochs=2, accelerator="cpu" if device.type == "cpu" else "gpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ).fit(Bare(dataset.schema), Batches(dataset.train.batch.to(device), size))  # fmt: skip
    return dataset.train.batch.rows / (ENDS[-1] - STARTS[-1])


def plain(dataset: Dataset, size: int, device: torch.device) -> float:
    model = NeuMF(dataset.schema).to(device)
    optimizer = ADAM(model.parameters())
    for _ in range(2):
        start = CLOCK[0]()
        total = torch.zeros((), device=device)
        for batch in dataset.train.batch.to(device).chunks(size):
            loss = binary_cross_entropy_with_logits(model(batch), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        total.item()
        seconds = CLOCK[0]() - start
    return dataset.train.batch.rows / seconds


def quiet() -> contextlib.AbstractContextManager[object]:
    return contextlib.redirect_stdout(Path(os.devnull).open("w"))


def ncf_rows(root: Path | None, count: int) -> tuple[Schema, Batch]:
    """The first rows of an epoch of the authors' files, or generated ones of the same sizes."""
    if root is not None:
        from glassrec.data.ncf_files import NCF

        dataset = NCF(root).load(seed=0)
        return dataset.schema, dataset.epoch(0, 0).slice(0, count)
    schema = Schema((), (Field("user", 6041), Field("item", 3707)), user="user", item="item")
    ids = torch.stack([torch.randint(1, 6041, (count,)), torch.randint(6042, 9748, (count,))], 1)
    empty = torch.zeros(count, 0)
    return schema, Batch(empty, ids, empty.long(), (torch.rand(count, 1) < 0.2).float())


def compare(schema: Schema, rows: Batch, size: int, repeats: int, device: torch.device) -> str:
    split = Split(rows.slice(0, 2))
    dataset = Clocked(schema, Split(rows), split, split)
    arms: list[Callable[[Dataset, int, torch.device], float]] = [glassrec, bare, plain]
    turns = []
    for turn in range(repeats):
        order = arms if turn % 2 == 0 else arms[::-1]
        turns.append({arm: arm(dataset, size, device) for arm in order})
    found = [f"batch {size:>6,}  plain {median(turn[plain] for turn in turns):>9,.0f} rows/s"]
    for arm, name in ((glassrec, "Glassrec"), (bare, "bare Lightning")):
        ratios = sorted(turn[arm] / turn[plain] for turn in turns)
        found.append(f"{name} {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    return "  ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="the folder of the NCF authors' files")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--processor-time", action="store_true", help="on a machine in use")
    options = parser.parse_args()
    CLOCK[0] = process_time if options.processor_time else perf_counter
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(options.threads)
    schema, rows = ncf_rows(options.root, max(ROWS.values()))
    source = "the NCF files" if options.root else "generated rows"
    print(
        f"NeuMF, Adam, {source}, {options.device}, {options.threads} threads, "
        f"torch {torch.__version__}"
    )
    for size, count in ROWS.items():
        part, device = rows.slice(0, count), torch.device(options.device)
        print(compare(schema, part, size, options.repeats, device), flush=True)


if __name__ == "__main__":
    main()
