"""Full lists after leave-one-out against a loop over users and items, and further metrics."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, build_dataset
from glassrec.data.splits import LeaveOneOut
from glassrec.metrics.evaluation import Evaluation
from glassrec.metrics.full_ranking import full_ranks
from glassrec.metrics.grouped import grouped_metrics
from glassrec.metrics.quality import quality
from glassrec.models.base import Inputs, Recommender

ITEMS = 30


class Noise(Recommender):
    """Scores of few levels, hence with ties, that depend on user, item, side and number."""

    def score(self, inputs: Inputs) -> Tensor:
        mixed = inputs.fields[:, :, 0].sum(1, keepdim=True) + inputs.dense.sum(1, keepdim=True)
        return (mixed.sin() * 9).round()


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = [rng.choice(ITEMS, size=rng.integers(4, 9), replace=False) for _ in range(25)]
    parts[-1][-1] = ITEMS  # of one row, which is held out
    user = np.repeat(np.arange(25), [len(part) for part in parts])
    found = pd.DataFrame({"user": user, "item": np.concatenate(parts)})
    return found.assign(kind=found["item"] % 3, price=found["item"] / ITEMS, time=range(len(found)))


@pytest.fixture(scope="module")
def data(frame: pd.DataFrame) -> Dataset:
    columns = Columns(
        user="user", item="item", categorical=("kind",), dense=("price",),
        item_side=("kind", "price"), time="time",
    )  # fmt: skip
    return build_dataset(frame, columns, LeaveOneOut(candidates=5), seed=0)


@pytest.fixture(scope="module")
def model(data: Dataset) -> Recommender:
    torch.manual_seed(0)
    return Noise(
        data.schema, data.schema.select(dense=["price"], fields=["user", "item", "kind"]), 1
    )


def test_each_held_out_item_is_ranked_among_all_that_its_user_has_not_seen(
    frame: pd.DataFrame, data: Dataset, model: Recommender
) -> None:
    higher, ties, shown = full_ranks(model, data, "test", 0, 7)
    assert data.catalogue is not None
    names = data.encoder.vocabularies["item"].values.astype(int).tolist()
    numbers = {name: at for at, name in enumerate(names)}
    few = [full_ranks(model, data, "test", 0, 7, ids=ids) for ids in (1, 500)]
    assert all(
        torch.equal(a, b) for each in few for a, b in zip(each, (higher, ties, shown), strict=True)
    )
    held = frame.groupby("user").tail(1)
    assert {*held["item"]} - {*names}, "an item that training does not know"
    rows = data.test.batch
    first = rows.select((rows.targets[:, 0] == 1).nonzero().flatten())
    for place, (user, item) in enumerate(zip(held["user"], held["item"], strict=True)):
        seen = {*frame["item"][frame["user"] == user]} - {item}
        scores = {}
        for name in {*names, item} - seen:
            row = first.select(torch.tensor([place]))
            if name != item:
                data.catalogue.insert(row, 0, torch.tensor([numbers[name]]))
            scores[name] = model.predict(row).item()
        own = scores.pop(item)
        assert higher[place] == sum(score > own for score in scores.values())
        assert ties[place] == sum(score == own for score in scores.values())
        scores |= {item: own} if item in numbers else {}
        best = sorted(scores.values(), reverse=True)[:7]
        listed = [names[at] for at in shown[place]]
        assert [scores[name] for name in listed] == best


def test_a_run_has_the_metrics_that_it_asks_for(data: Dataset, model: Recommender) -> None:
    before = quality(model, data, "test", groups=True)
    further = Evaluation(k=(3,), extra=True, full_ranking=True)
    found = quality(model, data, "test", groups=True, further=further)
    assert {name: found[name] for name in before} == before
    higher, ties, shown = full_ranks(model, data, "test", 0, 10)
    sums: dict[str, float] = dict.fromkeys(("hr", "ndcg", "mrr"), 0.0)
    for above, same in zip(higher.tolist(), ties.tolist(), strict=True):
        places = range(above + 1, above + same + 2)
        share = 1 / len(places) / len(higher)
        sums["hr"] += share * sum(place <= 3 for place in places)
        sums["ndcg"] += share * sum(1 / math.log2(place + 1) for place in places if place <= 3)
        sums["mrr"] += share * sum(1 / place for place in places)
    expected = {f"full/{n}{'@3' * (n != 'mrr')}": value for n, value in sums.items()}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    counts = data.catalogue.counts.double()
    bits = -(counts / counts.sum()).log2()
    assert found["full/novelty@3"] == pytest.approx(bits[shown[:, :3]].mean().item())
    assert found["full/coverage@3"] == len({*shown[:, :3].flatten().tolist()}) / len(counts)
    assert found["full/hr@10_low"] <= found["full/hr@10"] <= found["full/hr@10_high"]
    assert 0 < found["mrr"] < 1
    new = {name.removesuffix("_low").removesuffix("_high") for name in {*found} - {*before}}
    both = {f"{name}@{k}" for name in ("hr", "ndcg", "coverage", "novelty") for k in (3, 10)}
    assert new == {"mrr", "hr@3", "ndcg@3", "full/mrr", *(f"full/{name}" for name in both)}


def test_rows_without_lists_get_gauc_by_user(frame: pd.DataFrame) -> None:
    from glassrec.data.splits import Random

    label = np.random.default_rng(1).random(len(frame)) < 0.4
    rows = pd.concat([frame.assign(label=label.astype(int))] * 3, ignore_index=True)
    columns = Columns(
        label="label", user="user", item="item", dense=("price",), item_side=("price",)
    )
    data = build_dataset(rows, columns, Random(), seed=0)
    torch.manual_seed(0)
    model = Noise(data.schema, data.schema.select(dense=["price"], fields=["user", "item"]), 1)
    found = quality(model, data, "test", groups=True, further=Evaluation(extra=True))
    batch, users = data.test.batch, data.test.batch.ids[:, data.schema.id_columns("user")[0]]
    score = model.predict(batch)[:, 0].double()
    values, weights = grouped_metrics(score, batch.targets[:, 0] == 1, users)["gauc"]
    known = ~values.isnan()
    mean = (values[known] * weights[known]).sum() / weights[known].sum()
    assert found["gauc"] == pytest.approx(mean.item())
    assert found["gauc_low"] < found["gauc"] < found["gauc_high"]
    assert {"mrr", "map"} <= {*found}
