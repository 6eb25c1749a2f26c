"""Segments of the test split against the same rows or lists cut out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from glassrec.data.columns import Columns
from glassrec.data.dataset import build_dataset
from glassrec.data.splits import LeaveOneOut, Random
from glassrec.metrics.evaluation import Evaluation
from glassrec.metrics.grouped import mean_metrics
from glassrec.metrics.model_pair import ModelPair
from glassrec.metrics.pointwise import ranking_metrics
from glassrec.metrics.segments import segment_table
from glassrec.models.base import Inputs, Recommender

COLUMNS = Columns(
    label="label", user="user", item="item", categorical=("city",), dense=("price",), time="time"
)


class Noise(Recommender):
    """Scores that depend on all that a row holds."""

    def score(self, inputs: Inputs) -> Tensor:
        return (
            inputs.fields[:, :, 0].sum(1, keepdim=True) + inputs.dense.sum(1, keepdim=True)
        ).sin()


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = 3000
    frame = pd.DataFrame({"user": rng.integers(0, 40, rows), "item": rng.zipf(1.5, rows) % 60})
    frame = frame.drop_duplicates(["user", "item"], ignore_index=True)
    city = rng.choice(["Basel", "Bern", "Genf"], len(frame), p=[0.5, 0.3, 0.2])
    return frame.assign(
        city=city, price=rng.gamma(2, 10, len(frame)), label=rng.integers(0, 2, len(frame)),
        time=range(len(frame)),
    )  # fmt: skip


def _pair(columns: Columns, split: Random | LeaveOneOut) -> ModelPair:
    data = build_dataset(_frame(), columns, split, seed=0)
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(Noise(data.schema, data.schema, 1))
    return ModelPair(*models, data, "test")


def test_rows_of_each_value_have_their_own_quality_and_change() -> None:
    pair = _pair(COLUMNS, Random())
    found = segment_table(
        pair, Evaluation(extra=True, segments=("city", "price", "item_popularity")), seed=0
    )
    gauc = found[(found["metric"] == "gauc") & (found["value"] == "Basel")].iloc[0]
    found = found[found["metric"] == "auroc"].set_index(["segment", "value"])
    batch, label = pair.split.batch, pair.split.batch.targets[:, 0].numpy()
    scores = [model.predict(batch)[:, 0].numpy() for model in (pair.large, pair.small)]
    ids = batch.ids[:, pair.schema.id_columns("city")[0]] - pair.schema.unseen_id("city")
    names = pair.dataset.encoder.vocabularies["city"].values
    cities = np.array([names[n - 1] for n in ids.tolist()])
    basel = torch.from_numpy(cities == "Basel")
    _, users = batch.ids[basel, pair.schema.id_columns("user")[0]].unique(return_inverse=True)
    clicks = batch.targets[basel, 0] == 1
    own = [mean_metrics(torch.from_numpy(s)[basel].double(), clicks, users) for s in scores]
    names = ["trained", "low", "high", "pruned", "change"]
    expected = [own[0]["gauc"], own[0]["gauc_low"], own[0]["gauc_high"], own[1]["gauc"],
                own[1]["gauc"] - own[0]["gauc"]]  # fmt: skip
    assert gauc[names].tolist() == pytest.approx(expected)
    assert gauc[["change_low", "change_high"]].isna().all()
    price = pair.dataset.encoder.scalers["price"].invert(batch.dense[:, 0].double().numpy())
    items = batch.ids[:, pair.schema.id_columns("item")[0]]
    trained = pair.dataset.train.batch.ids[:, pair.schema.id_columns("item")[0]].tolist()
    popular = np.array([trained.count(item) for item in items.tolist()])
    groups = {"city": cities}
    for name, values in (("price", price), ("item_popularity", popular)):
        cuts = np.quantile(values, [0.25, 0.5, 0.75])
        place = np.searchsorted(cuts, values)
        ends = [(values[place == p].min(), values[place == p].max()) for p in np.unique(place)]
        texts = {p: f"{a:g} to {b:g}" for p, (a, b) in zip(np.unique(place), ends, strict=True)}
        groups[name] = np.array([texts[p] for p in place])
    assert len(found) == sum(len(np.unique(values)) for values in groups.values())
    for name, values in groups.items():
        for value in np.unique(values):
            row, own = found.loc[(name, value)], values == value
            areas = [roc_auc_score(label[own], score[own]) for score in scores]
            assert row["rows"] == own.sum()
            assert [row["trained"], row["pruned"]] == pytest.approx(areas)
            assert row["change"] == pytest.approx(areas[1] - areas[0])
            assert row["low"] <= row["trained"] <= row["high"]
            assert row["change_low"] <= row["change"] <= row["change_high"]


def test_lists_stay_whole_in_the_segment_of_their_held_out_item() -> None:
    pair = _pair(replace(COLUMNS, label=None), LeaveOneOut(candidates=9))
    found = segment_table(pair, Evaluation(segments=("item_popularity", "user_activity")), seed=0)
    found = found[found["metric"] == "hr@10"].drop_duplicates()
    split, data = pair.split, pair.dataset
    held = (split.batch.targets[:, 0] == 1).nonzero().flatten()
    hits = ranking_metrics(
        pair.large.predict(split.batch)[:, 0], split.batch.targets[:, 0] == 1, split.query
    )["hr@10"]
    assert set(found.groupby("segment")["rows"].sum()) == {len(held)}
    for name, field in (("item_popularity", "item"), ("user_activity", "user")):
        column = data.schema.id_columns(field)[0]
        trained = data.train.batch.ids[:, column].tolist()
        counts = torch.tensor([trained.count(n) for n in split.batch.ids[held, column].tolist()])
        for row in found[found["segment"] == name].to_dict("records"):
            low, high = (int(end) for end in row["value"].split(" to "))
            own = (counts >= low) & (counts <= high)
            assert row["rows"] == own.sum()
            assert row["trained"] == pytest.approx(hits[own].mean().item())


def test_an_unknown_column_is_refused_with_the_nearest_name() -> None:
    pair = _pair(COLUMNS, Random())
    with pytest.raises(ValueError, match=r"no column 'citty'; did you mean 'city'\?"):
        segment_table(pair, Evaluation(segments=("citty",)), seed=0)
