"""Quality and the effect of pruning by segment: rows, or lists, with alike values of a column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import nan
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch, Split
from glassrec.data.dataset import Dataset
from glassrec.data.decoding import decode
from glassrec.metrics.evaluation import Evaluation
from glassrec.metrics.metadata import primary_metrics
from glassrec.metrics.model_pair import ModelPair, metric_changes
from glassrec.metrics.quality import quality
from glassrec.spelling import one_of

PARTS, CATEGORIES = 4, 8
"""Quantiles of numbers; and the most frequent values of other columns, which stand alone."""


def segment_table(pair: ModelPair, further: Evaluation, seed: int) -> pd.DataFrame:
    """A row for each segment and metric on the test split, of primary metrics and of `further`.

    Columns: `segment`, `value`, its `rows` (or lists), `metric`; `trained` with its 95 % interval
    `low` to `high` where there is one, `pruned`, and the `change`, paired where it has an interval.
    A column that the data lacks raises a ValueError.
    """
    found = []
    for name in further.segments:
        for value, units, rows in _parts(pair, name):
            query = None if pair.split.query is None else pair.split.query[rows]
            test = Split(pair.split.batch.select(rows), query)
            part = replace(pair, dataset=replace(pair.dataset, test=test))
            about = {"segment": name, "value": value, "rows": units}
            found += [about | each for each in _measured(part, further, seed)]
    return pd.DataFrame(found)


def _measured(part: ModelPair, further: Evaluation, seed: int) -> Iterator[dict[str, Any]]:
    measure = partial(quality, dataset=part.dataset, name=part.name, groups=True, further=further)
    try:
        trained, pruned = measure(part.large), measure(part.small)
    except ValueError:  # of all rows there is quality: these have no items to find
        return
    both, primary = trained | metric_changes(part, seed=seed), primary_metrics(trained)
    for name in [*primary, *(each for each in trained if further.adds(each))]:
        ends = ("low", "high", "change_low", "change_high")
        row = {"metric": name, "trained": trained[name], "pruned": pruned[name]}
        row["change"] = both.get(f"{name}_change", pruned[name] - trained[name])
        yield row | {end: both.get(f"{name}_{end}", nan) for end in ends}


def _parts(pair: ModelPair, name: str) -> Iterator[tuple[str, int, Tensor]]:
    """The value, the number of rows or lists, and the rows of each segment; lists stay whole."""
    query, batch = pair.split.query, pair.split.batch
    lists = torch.arange(batch.rows)
    if query is not None:
        _, lists = query.unique_consecutive(return_inverse=True)
        batch = batch.select((batch.targets == 1).any(1).nonzero().flatten())
    values = _values(pair.dataset, batch, name)
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > CATEGORIES:
        groups = values.groupby(pd.qcut(values, PARTS, duplicates="drop"), observed=True)
        labels = [f"{low:g} to {high:g}" for low, high in groups.agg(["min", "max"]).to_numpy()]
        codes = groups.ngroup()
    else:
        texts = values.astype("string").fillna("(none)")
        labels = [*texts.value_counts().index[:CATEGORIES]]
        codes = texts.map({text: place for place, text in enumerate(labels)}).fillna(CATEGORIES)
        labels += ["(others)"] * (texts.nunique() > CATEGORIES)
    place = torch.from_numpy(codes.to_numpy(int, copy=True))
    for code, label in enumerate(labels):
        yield label, int((place == code).sum()), (place == code)[lists].nonzero().flatten()


def _values(dataset: Dataset, batch: Batch, name: str) -> pd.Series:
    schema, train = dataset.schema, dataset.train.batch
    counted = {"user_activity": schema.user, "item_popularity": schema.item}
    if (field := counted.get(name)) is not None:
        known, own = (each.ids[:, schema.id_columns(field)[0]] for each in (train, batch))
        return pd.Series(known.bincount(minlength=schema.num_ids)[own.long()].numpy())
    names = [*(n for n, each in counted.items() if each), *schema.dense, *schema.field_names]
    if name not in names:
        raise ValueError(f"evaluation.segments: no column {name!r}{one_of(name, names)}")
    return decode(dataset, batch)[name]
