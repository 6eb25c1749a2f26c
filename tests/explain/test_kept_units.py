"""What flows through the units that a cut keeps, before and after."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch

from glassrec.data.dataset import Dataset
from glassrec.explain.explainer import Explain, Explainer
from glassrec.explain.explanation_tables import change_of_kept_neurons, neuron_scores
from glassrec.explain.neurons import Conductance
from glassrec.explain.selection import Selection
from glassrec.models.base import Recommender

EXPLAIN = Explain(select=Selection(rows=25), neurons=Conductance(8))


@pytest.fixture
def explained(dataset: Dataset) -> Callable[[Recommender], Explainer]:
    return lambda model: EXPLAIN.build_explainer(model, dataset, 0)


@pytest.fixture
def model(build: Callable[..., Recommender]) -> Recommender:
    """Units 1 and 4 of the second layer are constant, whatever comes in."""
    model = build("mlp", factors=4)
    with torch.no_grad():
        affine = model.layers["tower.1"].affine
        affine.weight[[1, 4]] = 0
        affine.bias[[1, 4]] = torch.tensor([0.7, -1.0])
    return model


def _without(model: Recommender, *units: int) -> Recommender:
    """A copy whose second layer's first constants are folded, and whose other units are cut."""
    small = deepcopy(model)
    layer = small.layers["tower.1"]
    constants = torch.zeros(layer.size)
    constants[1] = 0.7
    layer.keep(torch.tensor([u for u in range(layer.size) if u not in units]), constants)
    return small


def test_an_exact_cut_leaves_the_others_what_they_had(
    model: Recommender, explained: Callable[[Recommender], Explainer]
) -> None:
    large, small = explained(model), explained(_without(model, 1, 4))
    assert 0 <= change_of_kept_neurons(large, small, 500) < 1e-5


def test_another_cut_changes_them_as_the_tables_of_both_say(
    model: Recommender, explained: Callable[[Recommender], Explainer]
) -> None:
    large, small = explained(model), explained(_without(model, 0, 1, 2, 3, 4))
    columns = ["layer", "unit", "mean_abs"]
    both = neuron_scores(large)[columns].merge(neuron_scores(small)[columns], on=columns[:2])
    change = (both["mean_abs_x"] - both["mean_abs_y"]).abs().groupby(both["layer"]).max()
    largest = neuron_scores(large).groupby("layer")["mean_abs"].max()
    expected = (change / largest).max()
    assert expected > 0.01
    assert change_of_kept_neurons(large, small, 500) == pytest.approx(expected, rel=1e-4)
    few = change_of_kept_neurons(large, small, 5)
    assert few > 0
    assert few != pytest.approx(expected, rel=1e-4)


def test_a_unit_that_fires_beside_the_baseline_alone_is_missed(
    model: Recommender, dataset: Dataset
) -> None:
    """It is zero on all rows, and the others of its tower did a part of the way with it."""
    given = model.embed(dataset.train.batch.slice(0, 1))
    start = given._replace(fields=given.fields.detach() * 0 + 9)
    layer = model.layers["tower.0"]
    with torch.no_grad():
        rows = model.embed(dataset.test.batch).fields.flatten(1)
        most = rows.sum(1).max()
        layer.affine.weight[2] = 1
        layer.affine.bias[2] = -most - 1
        assert layer(rows)[:, 2].max() == 0
        assert layer(start.fields.flatten(1))[:, 2] > 0
    small = deepcopy(model)
    kept = torch.tensor([u for u in range(layer.size) if u != 2])
    small.layers["tower.0"].keep(kept, torch.zeros(layer.size))
    test = Explain(select=Selection(split="test", rows=25), neurons=Conductance(8))
    large, narrow = (test.build_explainer(each, dataset, 0, start) for each in (model, small))
    assert change_of_kept_neurons(large, narrow, 500) > 0.01
