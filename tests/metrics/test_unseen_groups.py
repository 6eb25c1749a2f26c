"""Metrics of known and unseen users and items against scikit-learn and pandas on those rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.catalogue import Catalogue
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema, Target
from glassrec.metrics.metadata import primary_metrics
from glassrec.metrics.quality import quality
from glassrec.models.base import Inputs, Recommender
from glassrec.models.mf import MF

CLICK, STARS = Target("label"), Target("stars", "rating", 3.0, 2.0)


class Noise(Recommender):
    """Scores that depend on all ids of a row."""

    def score(self, inputs: Inputs) -> Tensor:
        weights = torch.arange(1, 1 + len(self.schema.targets)).float()
        return (inputs.fields[:, :, 0].sum(1, keepdim=True) * weights).sin()


def _frame(rows: int, unseen: float, seed: int = 0) -> pd.DataFrame:
    """Ids of users and items, of which a share is unseen (0), labels and ratings."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"user": random.integers(1, 9, rows), "item": random.integers(1, 7, rows)})
    for name in frame:
        frame[name] = frame[name].where(random.random(rows) >= unseen, 0)
    return frame.assign(label=random.integers(2, size=rows), stars=random.integers(1, 6, rows))


def _data(frame: pd.DataFrame, targets: tuple[Target, ...], query: Tensor | None = None) -> Dataset:
    schema = Schema((), (Field("user", 9), Field("item", 7)), targets, "user", "item", ("item",))
    ids = torch.tensor(frame[["user", "item"]].to_numpy()) + torch.tensor([0, 9])
    truth = torch.tensor(frame[[target.name for target in targets]].to_numpy()).float()
    split = Split(Batch(torch.zeros(len(frame), 0), ids, ids[:, :0], truth), query)
    return Dataset(schema, split, split, split)


def _model(data: Dataset) -> Recommender:
    torch.manual_seed(0)
    return Noise(data.schema, data.schema.select(fields=["user", "item"]), 1)


def _groups(frame: pd.DataFrame) -> dict[str, pd.Series]:
    user, item = frame["user"] == 0, frame["item"] == 0
    return {"known": ~user & ~item, "unseen_user": user, "unseen_item": item}


def test_rows_of_known_and_unseen_ids() -> None:
    frame = _frame(400, 0.2)
    data = _data(frame, (CLICK, STARS))
    model = _model(data)
    found = quality(model, data, "test", groups=True)
    logits = model.predict(data.test.batch).double().numpy()
    for group, rows in _groups(frame).items():
        label, stars, (click, rating) = frame["label"][rows], frame["stars"][rows], logits[rows].T
        expected = {
            f"label/{group}/rows": rows.sum(),
            f"stars/{group}/rows": rows.sum(),
            f"label/{group}/auroc": sk.roc_auc_score(label, click),
            f"label/{group}/log_loss": sk.log_loss(label, 1 / (1 + np.exp(-click))),
            f"stars/{group}/rmse": sk.root_mean_squared_error(stars, rating),
            f"stars/{group}/mae": sk.mean_absolute_error(stars, rating),
        }
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    whole = quality(model, data, "test")
    assert whole == {name: found[name] for name in whole}
    assert primary_metrics(found) == primary_metrics(whole)


@pytest.mark.parametrize("unseen", [0.0, 1.0])
def test_without_two_groups_there_is_nothing_to_tell_apart(unseen: float) -> None:
    data = _data(_frame(50, unseen), (CLICK,))
    model = _model(data)
    assert quality(model, data, "test", groups=True) == quality(model, data, "test")


def test_what_a_group_does_not_define_is_left_out() -> None:
    frame = _frame(100, 0.0)
    frame.loc[frame.index < 3, ["user", "label"]] = 0
    data = _data(frame, (CLICK,))
    found = quality(_model(data), data, "test", groups=True)
    assert found["unseen_user/rows"] == 3
    assert "unseen_user/log_loss" in found
    assert "unseen_user/auroc" not in found
    assert "unseen_user/calibration" not in found
    assert "unseen_item/rows" not in found
    assert all(np.isfinite([value for name, value in found.items() if "/" in name]))


def test_a_list_belongs_to_its_user_and_its_held_out_item() -> None:
    lists, size = 40, 15
    frame = _frame(lists * size, 0.2)
    frame["label"] = np.tile(np.eye(size, dtype=int)[4], lists)
    frame["user"] = frame["user"].iloc[::size].repeat(size).to_numpy()
    data = _data(frame, (CLICK,), torch.arange(lists).repeat_interleave(size))
    model = _model(data)
    found = quality(model, data, "test", groups=True)
    score = model.predict(data.test.batch)[:, 0].double().numpy().reshape(lists, size)
    own = score[:, 4:5]
    # The chance that a tie, broken at random, leaves the held-out item among the first ten.
    above, tied = (score > own).sum(1), (score == own).sum(1)
    hits = np.clip((10 - above) / tied, 0, 1)
    for group, rows in _groups(frame.iloc[4::size].reset_index()).items():
        assert found[f"{group}/lists"] == rows.sum()
        assert found[f"{group}/hr@10"] == pytest.approx(hits[rows].mean(), abs=1e-12)
        assert f"{group}/log_loss" not in found


def test_users_to_retrieve_for() -> None:
    frame = _frame(60, 0.0).assign(find=1)
    targets = (Target("find", "retrieval"),)
    train = _data(frame, targets)
    catalogue = Catalogue.from_ids(train.train.batch, train.schema)
    later = _frame(30, 0.0, 1).assign(find=1)
    later.loc[later.index < 4, "user"] = 0  # four users whom training does not know
    test = _data(later, targets).test
    empty = Split(Batch(*(column[:0] for column in test.batch)))
    data = Dataset(train.schema, empty, empty, test, catalogue)
    torch.manual_seed(0)
    model = MF(data.schema)
    found = quality(model, data, "test", groups=True)
    known = later["user"][later["user"] > 0].nunique()
    assert (found["known/users"], found["unseen_user/users"]) == (known, 4)
    weights = {"known": known, "unseen_user": 4}
    for metric in ("recall@10", "ndcg@10"):
        parts = [count * found[f"{group}/{metric}"] for group, count in weights.items()]
        assert found[metric] == pytest.approx(sum(parts) / (known + 4), abs=1e-12)
