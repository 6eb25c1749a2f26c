"""Full-catalogue retrieval against loops, torchmetrics and orders tried one by one."""

from __future__ import annotations

import math
from copy import deepcopy
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import retrieval as tm

from glassrec.data.batch import Batch
from glassrec.data.catalogue import Catalogue
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema, Target
from glassrec.metrics.evaluation import Evaluation
from glassrec.metrics.metadata import primary_metrics
from glassrec.metrics.model_pair import ModelPair, agreement, metric_changes
from glassrec.metrics.quality import quality
from glassrec.metrics.retrieval import each_user, first_places, retrieval_metrics
from glassrec.models.mf import MF
from glassrec.models.popularity import Popularity

USERS, ITEMS = 14, 40


def retrieval(model, data: Dataset, name: str, task: int, **settings: int) -> dict[str, float]:
    """The means over users."""
    found = each_user(model, data, name, task, **settings)
    return {metric: values.mean().item() for metric, values in found.items()}


def rows(pairs: Tensor) -> Split:
    """(N, 2) ids of users and items, 0 = unseen."""
    empty = torch.empty(len(pairs), 0)
    ids = pairs + torch.tensor([0, USERS + 1])
    return Split(Batch(empty, ids, empty.long(), torch.ones(len(pairs), 1)))


def data_of(train: Tensor, val: Tensor, test: Tensor) -> Dataset:
    fields = Field("user", USERS + 1), Field("item", ITEMS + 1)
    schema = Schema((), fields, (Target("find", "retrieval"),), "user", "item", ("item",))
    splits = [rows(pairs) for pairs in (train, val, test)]
    return Dataset(schema, *splits, Catalogue.from_ids(splits[0].batch, schema))


@pytest.fixture
def data() -> Dataset:
    """Users 1 to 14 and items 1 to 40, of which training knows 38."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(USERS * (ITEMS - 2), generator=generator)[:330]
    known = torch.stack([order // (ITEMS - 2) + 1, order % (ITEMS - 2) + 1], 1)
    strange = torch.tensor([[3, 0], [3, 0], [5, 0], [0, 7], [0, 9]])
    return data_of(known[:200], known[200:260], torch.cat([known[260:], strange]))


@pytest.fixture
def model(data: Dataset) -> MF:
    torch.manual_seed(1)
    model = MF(data.schema, 4)
    torch.nn.init.normal_(model.table.weight)
    return model


def _hits(model: MF, data: Dataset, name: str, k: int) -> list[tuple[list[bool], int]]:
    """Whether each of a user's first k places is to be found, and the number of items that are."""
    splits = {
        n: [(u, i - USERS - 1) for u, i in s.batch.ids.tolist()] for n, s in data.splits.items()
    }
    earlier = {"train": [], "val": ["train"], "test": ["train", "val"]}[name]
    catalogue = sorted({i for _, i in splits["train"]})
    lists: dict[object, tuple[int, list[int]]] = {}
    for row, (user, item) in enumerate(splits[name]):
        lists.setdefault(user or ("unknown", row), (user, []))[1].append(item)
    found = []
    for user, wanted in lists.values():
        seen = {i for n in earlier for u, i in splits[n] if u == user and user}
        pairs = torch.tensor([[user, item + USERS + 1] for item in catalogue])
        empty = torch.empty(len(pairs), 0)
        scores = model(Batch(empty, pairs, empty.long(), empty))[:, 0].tolist()
        ranked = sorted(zip(scores, catalogue, strict=True), reverse=True)
        places = [item for _, item in ranked if item not in seen][:k]
        found.append(([item in wanted for item in places], len(wanted)))
    return found


def _slow(model: MF, data: Dataset, name: str, k: int) -> dict[str, float]:
    """User by user, item by item; scores are all different."""
    found = []
    for hits, count in _hits(model, data, name, k):
        gain = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        best = sum(1 / math.log2(place + 2) for place in range(min(k, count)))
        found.append((sum(hits) / count, gain / best, any(hits)))
    names = (f"recall@{k}", f"ndcg@{k}", f"hr@{k}")
    return {n: sum(v) / len(found) for n, v in zip(names, zip(*found, strict=True), strict=True)}


@pytest.mark.parametrize("cells", [2**22, 5 * (ITEMS - 2), 1])
@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_every_user_against_a_loop(model: MF, data: Dataset, name: str, cells: int) -> None:
    found = retrieval(model.train(), data, name, 0, cells=cells)
    assert model.training
    for k in (10, 100):
        for metric, expected in _slow(model, data, name, k).items():
            assert found[metric] == pytest.approx(expected, abs=1e-12), metric


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_rows_of_target_0_are_neither_found_nor_hidden(model: MF, data: Dataset, name: str) -> None:
    """Impressions without a click, of items that the user clicks on in the test split too."""
    unclicked = rows(data.test.batch.ids - torch.tensor([0, USERS + 1])).batch
    unclicked = unclicked._replace(targets=torch.zeros(unclicked.rows, 1))
    splits = [
        Split(Batch(*map(torch.cat, zip(split.batch, unclicked, strict=True))))
        for split in data.splits.values()
    ]
    more = Dataset(data.schema, *splits, data.catalogue)
    assert retrieval(model, more, name, 0) == retrieval(model, data, name, 0)


def test_first_places_and_precisions_of_users_against_a_loop(model: MF, data: Dataset) -> None:
    further = Evaluation(k=(3,), extra=True)
    found = quality(model, data, "test", groups=True, further=further)
    before = quality(model, data, "test", groups=True)
    assert {name: found[name] for name in before} == before
    expected = _slow(model, data, "test", 3)
    inverse, precise = [], []
    for hits, count in _hits(model, data, "test", ITEMS):
        places = [place for place, hit in enumerate(hits, 1) if hit]
        inverse.append(1 / places[0] if places else 0)
        precise.append(sum(n / place for n, place in enumerate(places, 1)) / count)
    expected |= {"mrr": np.mean(inverse), "map": np.mean(precise)}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    shown = first_places(model, data, "test", 0, 10)[:, :3]
    assert found["coverage@3"] == len({*shown.flatten().tolist()}) / (ITEMS - 2)
    popular = data.catalogue.counts[shown].double() / data.train.batch.rows
    assert found["novelty@3"] == pytest.approx(-popular.log2().mean().item())
    assert found["map_low"] < found["map"] < found["map_high"]


def test_quality_gives_what_the_headline_names(model: MF, data: Dataset) -> None:
    found = quality(model, data, "test")
    assert found == retrieval(model, data, "test", 0)
    assert primary_metrics(found) == ["recall@10", "ndcg@10"]


def test_a_change_is_drawn_by_users(model: MF, data: Dataset) -> None:
    torch.manual_seed(2)
    other = MF(data.schema, 4)
    torch.nn.init.normal_(other.table.weight)
    found = metric_changes(ModelPair(model, other, data, "test"))
    before, after = (each_user(each, data, "test", 0) for each in (model, other))
    users = len(before["recall@10"])
    rows = torch.randint(users, (4000, users), generator=torch.Generator().manual_seed(3))
    for name in ("recall@10", "ndcg@10"):
        difference = after[name] - before[name]
        ends = torch.tensor([0.025, 0.975]).double()
        low, high = difference[rows].mean(1).quantile(ends).tolist()
        assert found[f"{name}_change"] == pytest.approx(difference.mean().item(), abs=1e-12)
        assert found[f"{name}_change_low"] == pytest.approx(low, abs=0.1 * (high - low))
        assert found[f"{name}_change_high"] == pytest.approx(high, abs=0.1 * (high - low))
    assert len(found) == 6


def test_first_places_are_those_of_each_user_s_list(model: MF, data: Dataset) -> None:
    """What is wanted and in the first ten is what recall counts; others follow by the logits."""
    found = first_places(model, data, "test", 0, 10, cells=5 * (ITEMS - 2))
    assert torch.equal(found, first_places(model, data, "test", 0, 10))
    assert data.catalogue is not None
    known = data.test.batch.ids[:, 0].unique()
    users = [int(user) for user in known if user > 0]
    for places, user in zip(found[-len(users) :], users, strict=True):
        seen = torch.cat([data.train.batch.ids, data.validation.batch.ids])
        hidden = seen[seen[:, 0] == user, 1]
        items = data.catalogue.rows[:, 0]
        items = items[~torch.isin(items, hidden)]
        empty = torch.empty(len(items), 0)
        pairs = torch.stack([torch.full_like(items, user), items], 1)
        scores = model(Batch(empty, pairs, empty.long(), empty))[:, 0]
        expected = items[scores.argsort(descending=True)[:10]]
        assert torch.equal(data.catalogue.rows[places, 0], expected)


def test_agreement_of_a_retrieval_is_of_what_users_are_shown(model: MF, data: Dataset) -> None:
    other = deepcopy(model)
    assert agreement(ModelPair(model, other, data, "test")) == {"top10_agreement": 1}
    with torch.no_grad():
        other.table.weight.add_(torch.randn_like(other.table.weight))
    shared = agreement(ModelPair(model, other, data, "test"))["top10_agreement"]
    large, small = (first_places(each, data, "test", 0, 10) for each in (model, other))
    both = [{*a} & {*b} for a, b in zip(large.tolist(), small.tolist(), strict=True)]
    assert shared == pytest.approx(sum(map(len, both)) / 10 / len(both), abs=1e-12)
    assert 0.2 < shared < 0.9


@pytest.mark.parametrize("k", [10, 100])
def test_measures_are_those_of_torchmetrics(k: int) -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(20, 300, generator=generator).double()
    wanted = torch.rand(20, 300, generator=generator) < 0.05
    found = retrieval_metrics(scores, wanted, wanted.sum(1))
    query = torch.arange(20).repeat_interleave(300)
    for name, metric in (
        ("recall", tm.RetrievalRecall), ("ndcg", tm.RetrievalNormalizedDCG),
        ("hr", tm.RetrievalHitRate),
    ):  # fmt: skip
        theirs = metric(top_k=k)(scores.flatten(), wanted.flatten(), indexes=query)
        assert found[f"{name}@{k}"].mean().item() == pytest.approx(theirs.item(), abs=1e-6), name


@pytest.mark.parametrize(
    "scores", [[1.0] * 6, [3, 2, 2, 2, 1, 1], [3, 3, 2, 2, 2, 2], [2, 2, 2, 2, *[-math.inf] * 2]]
)
@pytest.mark.parametrize("at", [(0,), (1, 3), (0, 2, 3)])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_ties_count_as_the_mean_over_all_orders(
    scores: list[float], at: tuple[int, ...], k: int
) -> None:
    wanted = torch.zeros(1, 6, dtype=torch.bool)
    wanted[0, list(at)] = True
    found = retrieval_metrics(torch.tensor([scores]).double(), wanted, wanted.sum(1), (k,))
    seen = []
    for order in permutations(range(6)):
        ranked = sorted(order, key=lambda item: -scores[item])[:k]  # stable
        hits = [item in at for item in ranked]
        gain = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        best = sum(1 / math.log2(place + 2) for place in range(min(k, len(at))))
        seen.append((sum(hits) / len(at), gain / best, float(any(hits))))
    for name, expected in zip(("recall", "ndcg", "hr"), zip(*seen, strict=True), strict=True):
        mean = sum(expected) / len(expected)
        assert found[f"{name}@{k}"].item() == pytest.approx(mean, abs=1e-12), name


def test_rare_items_without_an_id_are_missed() -> None:
    """Where training gives rare items the unseen id, that id is no item of its own."""
    train = torch.tensor([[1, 1], [1, 2], [2, 3], [2, 0], [3, 0]])
    data = data_of(train, torch.tensor([[1, 3], [1, 0]]), torch.tensor([[2, 1]]))
    model = Popularity(data.schema)
    with torch.no_grad():
        model.table.weight[0] = 100.0  # the unseen id would be on top
    found = retrieval(model, data, "val", 0)
    assert found["recall@10"] == 0.5
    assert found["hr@10"] == 1


def test_what_an_earlier_split_has_is_not_to_be_found_again() -> None:
    pairs = torch.tensor([[1, 1], [1, 2], [2, 3], [2, 4]])
    again = torch.tensor([[1, 1], [2, 1]])
    data = data_of(pairs, again, again)
    model = Popularity(data.schema)
    assert retrieval(model, data, "val", 0)["recall@10"] == 1  # of user 2 alone
    with pytest.raises(ValueError, match="no user has an item in test"):
        retrieval(model, data, "test", 0)
