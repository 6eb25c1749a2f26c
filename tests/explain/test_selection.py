"""Which rows are explained, against filters by hand, and what is said where none are left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Schema
from glassrec.explain.explainer import Explain
from glassrec.explain.selection import Selection
from glassrec.models.base import Inputs, Recommender

CONFIGS = Path(__file__).parents[2] / "configs" / "explain" / "select"


class First(Recommender):
    """The logit of every task is the first dense column."""

    def __init__(self, data: Schema) -> None:
        super().__init__(data, data.select(dense=data.dense[:1], fields=()), 1)

    def score(self, inputs: Inputs) -> Tensor:
        return inputs.dense.expand(-1, len(self.schema.targets))


class Unread(First):
    def score(self, inputs: Inputs) -> Tensor:
        raise AssertionError("no filter asks for scores")


@pytest.fixture
def first(schema: Schema) -> First:
    return First(schema)


def _pick(
    selection: Selection, model: Recommender, dataset: Dataset, task: int, seed: int
) -> Tensor:
    matching = selection.matching(model, dataset, task)
    return selection.draw(matching, seed, selection.held_out(matching, dataset, task))


def _logits(dataset: Dataset, split: str = "val") -> Tensor:
    return dataset.splits[split].batch.dense[:, 0]


def _estimates(dataset: Dataset) -> Tensor:
    """Those of the rating, whose training rows have mean 3.5 and deviation 1.2."""
    return _logits(dataset) * 1.2 + 3.5


def test_rows_are_drawn_by_the_seed_and_in_order(schema: Schema, dataset: Dataset) -> None:
    def pick(seed: int, rows: int | None = 10) -> list[int]:
        return _pick(Selection(rows=rows), Unread(schema), dataset, 0, seed).tolist()

    assert pick(0) == sorted(set(pick(0)))
    assert len(pick(0)) == 10
    assert pick(0) == pick(0) != pick(1)
    assert pick(0, None) == pick(1, 30) == pick(1, 31) == list(range(30))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_click_is_scored_by_its_probability(first: First, dataset: Dataset, split: str) -> None:
    found = _pick(Selection(split, above=0.6, below=0.8), first, dataset, 0, 0)  # type: ignore[arg-type]
    probability = 1 / (1 + (-_logits(dataset, split)).exp())
    expected = [i for i, p in enumerate(probability.tolist()) if 0.6 < p < 0.8]
    assert found.tolist() == expected
    assert expected


def test_a_rating_is_scored_by_its_estimate(first: First, dataset: Dataset) -> None:
    found = _pick(Selection(above=4.2), first, dataset, 1, 0)
    assert found.tolist() == (_estimates(dataset) > 4.2).nonzero()[:, 0].tolist()


def test_the_bounds_themselves_are_out(first: First, dataset: Dataset) -> None:
    value = _estimates(dataset).sort().values[10].item()
    above, below = (Selection(**{side: value}) for side in ("above", "below"))
    assert len(_pick(above, first, dataset, 1, 0)) == 30 - 11
    assert len(_pick(below, first, dataset, 1, 0)) == 10


@pytest.mark.parametrize(("top", "count"), [(0.1, 3), (0.15, 4), (0.17, 5), (0.001, 1), (1.0, 30)])
def test_the_top_share_has_the_highest_scores(
    first: First, dataset: Dataset, top: float, count: int
) -> None:
    found = _pick(Selection(top=top), first, dataset, 0, 0)
    best = _logits(dataset).argsort(descending=True)[:count]
    assert found.tolist() == sorted(best.tolist())


def test_all_filters_hold_at_once_and_the_top_is_of_what_they_leave(
    first: First, dataset: Dataset
) -> None:
    batch = dataset.validation.batch
    users, truth, logits = batch.ids[:, 1] - 4, batch.targets[:, 1], _logits(dataset)
    user, label = users.mode().values.item(), 0.0
    left = [i for i in range(30) if users[i] == user and truth[i] == label and logits[i] > -2]
    chosen = Selection(above=-2, top=0.5, label=label, user=user)
    found = _pick(chosen, first, dataset, 1, 0).tolist()
    assert found == sorted(sorted(left, key=lambda i: -logits[i])[: round(len(left) / 2)])
    assert len(left) >= 2


@pytest.mark.parametrize(
    ("settings", "available", "words"),
    [
        ({}, 6000, "2,000 of 6,000 val rows at random"),
        ({"rows": None}, 6000, "all 6,000 val rows"),
        ({"split": "test"}, 2000, "all 2,000 test rows"),
        ({"above": 0.999}, 497, "all 497 val rows, scored above 0.999"),
        ({"above": 0.999}, 6000, "2,000 of 6,000 val rows at random, scored above 0.999"),
        (
            {"rows": 5, "label": 1, "user": 7, "below": 0.2, "top": 0.05}, 9,
            "5 of 9 val rows at random, label 1, user 7, scored below 0.2, "
            "the 5 % with the highest scores",
        ),
    ],
)  # fmt: skip
def test_titles_say_which_rows(settings: dict, available: int, words: str) -> None:
    assert Selection(**settings).describe(available) == words


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"above": 7}, r"above 7: none of 30 val rows is scored so; .* between 0\.\d.* and 5\.\d"),
        ({"below": -7}, r"below -7: none of 30 val rows is scored so"),
        ({"above": 1, "below": 1.0000001}, r"below 1: none of \d+ val rows is scored so"),
        ({"label": 3}, r"label 3: none of 30 val rows has it; there are the labels 0, 1"),
        ({"user": 7}, r"user 7: the model has the users 0 to 6"),
    ],
)
def test_an_empty_selection_says_which_filter_emptied_it(
    first: First, dataset: Dataset, settings: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _pick(Selection(**settings), first, dataset, 1, 0)


def test_a_user_without_rows_or_data_without_users_are_errors(
    first: First, dataset: Dataset
) -> None:
    ids = dataset.validation.batch.ids.clone()
    ids[:, 1] = 4 + 2
    validation = replace(dataset.validation, batch=dataset.validation.batch._replace(ids=ids))
    with pytest.raises(ValueError, match="user 1: in none of 30 val rows"):
        _pick(Selection(user=1), first, replace(dataset, validation=validation), 0, 0)
    nobody = replace(dataset, schema=replace(dataset.schema, user=None))
    with pytest.raises(ValueError, match="the data names no column of users"):
        _pick(Selection(user=1), first, nobody, 0, 0)


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no score lies above 0\.9 and below 0\.5"):
        Selection(above=0.9, below=0.5)


@pytest.mark.parametrize("name", ["random", "all", "confident"])
def test_each_file_makes_a_selection(name: str) -> None:
    base = OmegaConf.load(CONFIGS / "random.yaml")
    own = OmegaConf.load(CONFIGS / f"{name}.yaml")
    own.pop("defaults", None)
    expected = {"random": {}, "all": {"rows": None}, "confident": {"top": 0.05}}[name]
    assert instantiate(OmegaConf.merge(base, own)) == Selection(**expected)


@pytest.fixture
def lists(dataset: Dataset) -> Dataset:
    """20 lists of 10 validation rows, the first of each held out."""
    batch = dataset.validation.batch.select(torch.arange(200) % 30)
    targets = torch.zeros(200, 2)
    targets[::10] = 1
    return replace(
        dataset, validation=Split(batch._replace(targets=targets), torch.arange(200) // 10)
    )


@pytest.mark.parametrize(
    ("rows", "held_out"),
    [(10, 5), (11, 5), (40, 20), (100, 20), (190, 20), (200, 20), (None, 20)],
)
def test_of_ranking_lists_half_are_held_out_items(
    schema: Schema, lists: Dataset, rows: int | None, held_out: int
) -> None:
    selection = Selection(rows=rows)
    found = _pick(selection, Unread(schema), lists, 0, 0)
    assert found.tolist() == sorted(set(found.tolist()))
    assert len(found) == (rows or 200)
    assert sum(row % 10 == 0 for row in found.tolist()) == held_out
    explainer = Explain(select=selection).build_explainer(First(schema), lists, 0)
    assert explainer.rows.tolist() == found.tolist()
    words = f"({held_out} held-out items and {len(found) - held_out} candidates)"
    assert words in explainer.selection


def test_few_candidates_leave_room_for_held_out_items(schema: Schema, lists: Dataset) -> None:
    targets = 1 - lists.validation.batch.targets
    batch = lists.validation.batch._replace(targets=targets)
    flipped = replace(lists, validation=replace(lists.validation, batch=batch))
    found = _pick(Selection(rows=190), Unread(schema), flipped, 0, 0)
    assert sum(row % 10 == 0 for row in found.tolist()) == 20


def test_of_ranking_lists_the_other_filters_hold_as_well(first: First, lists: Dataset) -> None:
    logits = lists.validation.batch.dense[:, 0]
    found = _pick(Selection(rows=12, above=0.5), first, lists, 0, 0)
    assert (logits[found] > 0).all()
    assert sum(row % 10 == 0 for row in found.tolist()) == 6
    only = _pick(Selection(rows=8, label=0), first, lists, 0, 0)
    assert all(row % 10 for row in only.tolist())
    assert (
        "held-out"
        not in Explain(select=Selection(rows=8, label=0)).build_explainer(first, lists, 0).selection
    )
