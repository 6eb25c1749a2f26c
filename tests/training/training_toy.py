"""A small click model and a model that can learn it; as a script, one training in a process."""

import json
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchmetrics import F1Score

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender
from glassrec.training.rowwise import RowwiseAdagrad
from glassrec.training.trainer import Trainer

SCHEMA = Schema(dense=("x",), fields=(Field("user", 21), Field("item", 31)))


class Toy(Recommender):
    def __init__(self, schema, width=4, dropout=0.0):
        super().__init__(schema, schema.select(dense=("x",), fields=("user", "item")), width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width + 1, len(schema.targets))

    def score(self, inputs):
        product = self.dropout(inputs.fields.prod(1))
        return self.output(torch.cat([inputs.dense, product], 1))


def model(dropout=0.0, width=4):
    torch.manual_seed(7)
    return Toy(SCHEMA, width, dropout)


def rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    user = torch.randint(1, 21, (count,), generator=generator)
    item = torch.randint(1, 31, (count,), generator=generator)
    dense = torch.randn(count, 1, generator=generator)
    logit = 2 * dense[:, 0] + (user % 3 - 1) * (item % 3 - 1)
    target = (torch.rand(count, generator=generator) < logit.sigmoid()).float()[:, None]
    history = torch.zeros(count, 0, dtype=torch.long)
    return Batch(dense, torch.stack([user, item + 21], 1), history, target)


def dataset():
    return Dataset(SCHEMA, *(Split(rows(count, seed)) for seed, count in enumerate((600, 300, 10))))


def average_unseen(weight):
    """By hand: the unseen id of each field, which no training row holds, has the mean of all."""
    for start, size in ((0, 21), (21, 31)):
        if start == len(weight):
            break  # a model that reads the user alone
        known = torch.ones(size).index_fill(0, torch.tensor(0), 0).to(weight)
        weight.data[start] = known @ weight.data[start : start + size] / (size - 1)


validate = partial(quality, name="val")


def fit(
    directory, *, dropout=0.0, seed=1, optimizer=None, table_optimizer=None, pause=0.0,
    quiet=False, given=None, **settings,
):  # fmt: skip
    def slow_quality(model, dataset):
        time.sleep(pause)
        return quality(model, dataset, "val")

    Path(directory).mkdir(exist_ok=True)
    trainer = Trainer(**({"max_epochs": 3, "batch_size": 64} | settings))
    return trainer.fit(
        model(dropout),
        dataset(),
        optimizer or partial(torch.optim.Adam, lr=0.01),
        table_optimizer=table_optimizer,
        seed=seed,
        directory=Path(directory),
        on_epoch=lambda row: None,
        quiet=quiet,
        **({"validate": slow_quality} if pause else {}),
        **(given or {}),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, options = sys.argv[1], json.loads(sys.argv[2])
    if "sgd" in options:
        options["optimizer"] = partial(torch.optim.SGD, lr=options.pop("sgd"))
    if "rowwise" in options:
        options["table_optimizer"] = partial(RowwiseAdagrad, lr=options.pop("rowwise"))
    if options.pop("f1", False):
        options["given"] = {"metrics": {"f1": F1Score("binary")}}
    trained = fit(folder, **options)
    torch.save((trained.weights, trained.history.to_dict("records")), Path(folder) / "trained.pt")
