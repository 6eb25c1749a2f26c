"""What to put into the vector of an id that training has not seen: study.py FOLDER_OF_ML_100K."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.data.movielens import MovieLens100K
from glassrec.data.splits import ByTime, LeaveOneOut, Splitter
from glassrec.metrics.metadata import as_higher_is_better
from glassrec.metrics.pointwise import click_metrics, rating_metrics
from glassrec.models.base import Recommender
from glassrec.models.dcn import DCN
from glassrec.models.mf import MF
from glassrec.models.ncf import MLP, NeuMF
from glassrec.training.trainer import Trainer

SEEDS = range(3)


@dataclass(frozen=True)
class Part:
    """A split of MovieLens-100K, what is learnt from it, and how."""

    split: Splitter
    task: Literal["click", "rating"]
    metric: str
    models: Mapping[str, type[Recommender]]
    dropout: Sequence[float] = (0.02, 0.1)
    epochs: int = 12
    batch_size: int = 2048


NCF = {"mlp": MLP, "neumf": NeuMF, "mf": MF}
PARTS = {
    "clicks by time": Part(ByTime(), "click", "auroc", NCF),
    "ratings by time": Part(ByTime(), "rating", "rmse", {"dcn": DCN, "mf": MF}),
    "lists": Part(LeaveOneOut(), "click", "hr@10", NCF, (0.1,), epochs=8, batch_size=4096),
}


@dataclass(frozen=True)
class Dropped(Dataset):
    """Training rows in which ids are replaced by the unseen id of their field, at random."""

    share: float = 0.0

    def epoch(self, seed: int, epoch: int) -> Batch:
        """The rows of an epoch, each id replaced with probability `share`."""
        batch = super().epoch(seed, epoch)
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        dropped = torch.rand(batch.ids.shape, generator=generator) < self.share
        return batch._replace(ids=_unseen(self).where(dropped & (batch.ids >= 0), batch.ids))

    def occurrences(self, *, history: bool) -> Tensor:
        """Unseen ids occur, so they are trained and left alone."""
        counts = super().occurrences(history=history)
        return counts.index_fill(0, torch.tensor(self.schema.offsets), 1)


def _unseen(dataset: Dataset) -> Tensor:
    """(columns,): the unseen id of each column of ids."""
    owned = zip(dataset.schema.fields, dataset.schema.offsets, strict=True)
    return torch.tensor([offset for field, offset in owned for _ in range(field.values)])


def _fill(model: Recommender, dataset: Dataset, how: str, first: Tensor) -> None:
    """Write the unseen rows of the table, which had `first` before training."""
    schema, weight = model.schema, model.table.weight.data
    counts = dataset.occurrences(history=False).float()
    for field, at in zip(schema.fields, schema.offsets, strict=True):
        start = dataset.schema.offsets[dataset.schema.field_index(field.name)] + 1
        own = counts[start : start + field.size - 1]
        share = own / own.sum() if how == "weighted mean" else (own > 0) / (own > 0).sum()
        known = weight[at + 1 : at + field.size]
        weight[at] = first[at] if how == "random" else share @ known


def _groups(dataset: Dataset, name: str) -> dict[str, Tensor]:
    """(N,) bool: which rows of a split have an unseen user or item; of a list, its positive."""
    split, schema = dataset.splits[name], dataset.schema
    ids = split.batch.ids
    if split.query is not None:  # the row of the positive is the first one
        firsts = torch.searchsorted(split.query, split.query)
        ids = ids[firsts]
    user, item = (
        ids[:, schema.id_columns(field)[0]] == schema.offsets[schema.field_index(field)]
        for field in ("user", "item")
    )
    return {"all": torch.ones_like(user), "known": ~(user | item), "user": user, "item": item}


def _measure(model: Recommender, dataset: Dataset, name: str, main: str) -> dict[str, float]:
    split = dataset.splits[name]
    score, truth = model.predict(split.batch)[:, 0].double(), split.batch.targets[:, 0].double()
    found = {}
    for group, rows in _groups(dataset, name).items():
        if rows.any():
            query = None if split.query is None else split.query[rows]
            values = (
                rating_metrics(score[rows], truth[rows])
                if main == "rmse"
                else click_metrics(score[rows], truth[rows], query)
            )
            found[group] = values[main]
            found[f"{group} rows"] = float(rows.sum())
    if split.query is not None:  # negatives that training does not know, and others
        column = dataset.schema.id_columns("item")[0]
        unseen = split.batch.ids[:, column] == _unseen(dataset)[column]
        found["logit known"] = score[(truth == 0) & ~unseen].mean().item()
        found["logit unseen"] = score[(truth == 0) & unseen].mean().item()
    return found


def _trained(
    part: Part, dataset: Dataset, make: type[Recommender], seed: int, fills: list[str]
) -> Iterator[tuple[str, dict[str, float]]]:
    """The test metrics of the epoch that is best on validation, for each way to fill the rows."""
    torch.manual_seed(seed)
    main = part.metric
    model = make(dataset.schema)
    first = model.table.weight.detach().clone()
    best: dict[str, tuple[float, dict[str, Tensor]]] = {}

    def validate(model: Recommender, _: Dataset) -> Mapping[str, float]:
        before, value = model.table.weight.detach().clone(), 0.0
        for fill in fills:
            if fill in ("random", "mean", "weighted mean"):
                _fill(model, dataset, fill, first)
            value = _measure(model, dataset, "val", main)["all"]
            if fill not in best or as_higher_is_better(main, value) > best[fill][0]:
                state = {n: t.clone() for n, t in model.state_dict().items()}
                best[fill] = as_higher_is_better(main, value), state
            model.table.weight.data.copy_(before)
        return {main: value}

    with TemporaryDirectory() as folder:
        Trainer(part.epochs, part.batch_size, monitor=f"val/{main}").fit(
            model, dataset, partial(torch.optim.AdamW, lr=0.003, weight_decay=0.1), seed=seed,
            directory=Path(folder), validate=validate, on_epoch=lambda row: None, quiet=True,
        )  # fmt: skip
    for fill, (_, state) in best.items():
        model.load_state_dict(state)
        yield fill, _measure(model, dataset, "test", main)


def main() -> None:
    """Write results.csv, a row for each data set, model, seed and way to fill the vector."""
    rows = []
    for name, part in PARTS.items():
        for seed in SEEDS:
            source = MovieLens100K(
                Path(sys.argv[1]), split=part.split, tasks=[part.task], negatives=2
            )
            dataset = source.load(seed)
            columns = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
            runs = [(dataset, ["random", "mean", "weighted mean"])]
            runs += [(Dropped(**columns, share=p), [f"id dropout {p}"]) for p in part.dropout]
            for model, make in part.models.items():
                for data, fills in runs:
                    for fill, found in _trained(part, data, make, seed, fills):
                        about = {"data": name, "metric": part.metric, "model": model, "seed": seed}
                        rows.append({**about, "unseen": fill, **found})
                        print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv("results.csv", index=False, float_format="%.4f")


main()
