"""Rows per second of training through Lightning, against a plain PyTorch loop.

Both train NeuMF with Adam on the same rows in the same order, in one process, taking turns. The
clock runs over the steps of an epoch, from its rows lying ready to the last loss being read;
negative sampling, validation and the checkpoint are outside on both sides. The first epoch of each
turn warms up. Prints, for each batch size, the median rates and the median of the turns' ratios.

    python benchmarks/training.py --root FOLDER_OF_THE_NCF_FILES
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

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
        STARTS.append(perf_counter())
        return self.train.batch


STARTS: list[float] = []
ENDS: list[float] = []


def clocked_validate(model: Recommender, dataset: Dataset) -> dict[str, float]:
    ENDS.append(perf_counter())
    return {"auroc": 0.5}


def through_lightning(dataset: Dataset, size: int, device: torch.device) -> float:
    STARTS.clear(), ENDS.clear()
    accelerator = "cpu" if device.type == "cpu" else "gpu"
    with tempfile.TemporaryDirectory() as folder, quiet():
        Trainer(max_epochs=2, batch_size=size, accelerator=accelerator).fit(
            NeuMF(dataset.schema), dataset, ADAM, seed=0, directory=Path(folder),
            validate=clocked_validate, on_epoch=lambda row: None,
        )  # fmt: skip
    return dataset.train.batch.rows / (ENDS[-1] - STARTS[-1])


def plain(dataset: Dataset, size: int, device: torch.device) -> float:
    model = NeuMF(dataset.schema).to(device)
    optimizer = ADAM(model.parameters())
    for _ in range(2):
        start = perf_counter()
        total = torch.zeros((), device=device)
        for batch in dataset.train.batch.to(device).chunks(size):
            loss = binary_cross_entropy_with_logits(model(batch), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        total.item()
        seconds = perf_counter() - start
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
    arms: list[Callable[[Dataset, int, torch.device], float]] = [through_lightning, plain]
    turns = []
    for turn in range(repeats):
        order = arms if turn % 2 == 0 else arms[::-1]
        turns.append({arm: arm(dataset, size, device) for arm in order})
    ours, theirs = (median(turn[arm] for turn in turns) for arm in arms)
    ratios = sorted(turn[through_lightning] / turn[plain] for turn in turns)
    return (
        f"batch {size:>6,}  Lightning {ours:>9,.0f} rows/s  plain {theirs:>9,.0f} rows/s  "
        f"ratio {median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="the folder of the NCF authors' files")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
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
