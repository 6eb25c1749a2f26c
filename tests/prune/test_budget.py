"""How many units go, and which, by hand and by brute force."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from glassrec.data.dataset import Dataset
from glassrec.explain.explainer import Explain
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.explain.neurons import Conductance as ConductanceScore
from glassrec.explain.selection import Selection
from glassrec.models.base import Recommender
from glassrec.prune.budget import Budget, BudgetUnit, Measures, largest_share, over_all_layers
from glassrec.prune.importance import MagnitudeScore, RandomScore
from glassrec.prune.pruner import Pruner, combine_plans
from glassrec.prune.surgery import apply_plan, prune_model, prune_neurons

EXPLAIN = Explain(select=Selection(rows=20), neurons=ConductanceScore(4))


def _gone(goes: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: each.nonzero().flatten().tolist() for name, each in goes.items()}


def test_units_of_all_layers_are_ranked_by_their_part_of_the_layer() -> None:
    """Worths of the second layer are a hundred times larger, and mean the same."""
    small = torch.tensor([0.3, 0.1, 0.9, 0.2]).double()
    worth = {"a": small, "b": 100 * torch.tensor([0.15, 0.25, 0.95, 0.05]).double()}
    assert _gone(over_all_layers(worth, 3)) == {"a": [1], "b": [0, 3]}
    assert _gone(over_all_layers(worth, 6)) == {"a": [0, 1, 3], "b": [0, 1, 3]}


@pytest.fixture
def model(build: Callable[..., Recommender]) -> Recommender:
    return build("dlrm", bottom=[6], top=[8, 5], embedding=4)


def _worth(model: Recommender) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.rand(len(layer.units), generator=generator).double()
        for name, layer in model.layers.items()
    }


def _shrunk(model: Recommender, goes: dict[str, torch.Tensor]) -> Recommender:
    zeros = {name: torch.zeros(len(each)) for name, each in goes.items()}
    return prune_neurons(deepcopy(model), goes, zeros)


def test_the_fewest_units_go_with_which_the_share_of_the_parameters_is_gone(
    model: Recommender,
) -> None:
    worth = _worth(model)
    possible = sum(len(each) - 1 for each in worth.values())
    sizes = [_shrunk(model, over_all_layers(worth, k)).parameter_count for k in range(possible + 1)]
    budget = Budget(0.3, "parameters", None, model, Measures())
    found = budget.mask(worth, lambda goes: _shrunk(model, goes))
    fewest = next(k for k, size in enumerate(sizes) if size <= 0.7 * sizes[0])
    assert sum(int(each.sum()) for each in found.values()) == fewest
    assert sizes[fewest] <= 0.7 * sizes[0] < sizes[fewest - 1]


@pytest.mark.parametrize("of", ["neurons", "parameters"])
@pytest.mark.parametrize("within", [None, 1.0])
def test_a_share_that_cannot_go_means_all_that_can(
    model: Recommender, of: BudgetUnit, within: float | None
) -> None:
    worth = _worth(model)
    budget = Budget(0.99, of, within, model, Measures(metric_drop=lambda small: 0.0))
    found = budget.mask(worth, lambda goes: _shrunk(model, goes))
    assert {name: int((~each).sum()) for name, each in found.items()} == dict.fromkeys(worth, 1)


def test_where_no_layer_may_be_cut_nothing_goes(build: Callable[..., Recommender]) -> None:
    model = build("popularity")
    assert Budget(0.5, "neurons", None, model, Measures()).mask({}, lambda _: model) == {}
    assert Budget(0.5, "parameters", None, model, Measures()).mask({}, lambda _: model) == {}


def test_a_cost_that_is_lent_counts(model: Recommender) -> None:
    worth = _worth(model)
    measures = Measures(flops=lambda small: float(len(small.layers["top.0"].units)))
    found = Budget(0.5, "flops", None, model, measures).mask(worth, lambda g: _shrunk(model, g))
    assert int(found["top.0"].sum()) == 4
    with pytest.raises(ValueError, match=r"prune.budget_unit=flops needs a measure"):
        Budget(0.5, "flops", None, model, Measures()).mask(worth, lambda g: _shrunk(model, g))


@pytest.mark.parametrize(("within", "expected"), [(0.0, 0.3), (0.05, 0.45), (10.0, 0.9)])
def test_the_largest_share_within_a_loss(within: float, expected: float) -> None:
    """Nothing is lost up to .3, then a third of what goes beyond it; at .9 all is lost."""
    found = largest_share(lambda share: max(0.0, share - 0.3) / 3, within, 0.9)
    assert expected - 1 / 128 <= found <= expected


def test_a_dip_in_between_does_not_stop_the_search() -> None:
    lost = largest_share(lambda share: 1.0 if 0.2 < share < 0.5 or share > 0.8 else 0.0, 0.1, 0.95)
    assert 0.79 <= lost <= 0.8


def test_a_share_of_each_layer_leaves_the_same_share_and_means_in_its_place(
    model: Recommender, dataset: Dataset
) -> None:
    scores = neuron_scores(EXPLAIN.build_explainer(model, dataset, 0))
    prune = Pruner(level="budget", score=MagnitudeScore(), share=0.4)
    plan = prune.plan(model, scores, dataset)
    for name, layer in model.layers.items():
        gone = plan.layers[name].dropped.get("budget", [])
        assert len(gone) == int(0.4 * layer.size + 1e-9), name
    assert plan.score == "weight magnitude"
    blind = replace(prune, fold=False).plan(model, scores, dataset)
    assert {*blind.layers["top.0"].constants.values()} == {0.0}
    assert blind.layers["top.0"].kept == plan.layers["top.0"].kept
    means = plan.layers["top.0"].constants.values()
    assert max(means) > 0
    assert not torch.equal(
        prune_model(model, plan).output.bias, prune_model(model, blind).output.bias
    )


def test_two_rounds_cut_what_one_does_and_join_to_one_plan(
    model: Recommender, dataset: Dataset
) -> None:
    """A random order does not change between rounds, so that the outcome is known."""
    scores = neuron_scores(EXPLAIN.build_explainer(model, dataset, 0))
    prune = Pruner(level="budget", score=RandomScore(), share=0.5, fold=False)
    whole = prune.plan(model, scores, dataset)
    first = replace(prune, share=0.3).plan(model, scores, dataset)
    half = apply_plan(model, first).float()
    then = prune.plan(half, scores, dataset, reference_model=model)
    both = combine_plans(first, then)
    assert {n: c.kept for n, c in both.layers.items()} == {
        n: c.kept for n, c in whole.layers.items()
    }
    assert both.dropped == whole.dropped
    assert both.units == whole.units
    expected, found = prune_model(model, whole), prune_model(model, both)
    rows = dataset.test.batch
    torch.testing.assert_close(
        found(rows._replace(dense=rows.dense.double())),
        expected(rows._replace(dense=rows.dense.double())),
    )


def test_only_the_layers_that_are_named_are_cut(model: Recommender, dataset: Dataset) -> None:
    scores = neuron_scores(EXPLAIN.build_explainer(model, dataset, 0))
    prune = Pruner(level="budget", share=0.5, layers=["top"])
    plan = prune.plan(model, scores, dataset)
    assert [name for name, cut in plan.layers.items() if cut.constants] == ["top.0", "top.1"]
    assert plan.layers["bottom.0"].stays == "it is not in prune.layers"
    wrong = replace(prune, layers=["topp.0"])
    with pytest.raises(ValueError, match=r"no layer 'topp.0'; did you mean 'top.0'.*interaction"):
        wrong.plan(model, scores, dataset)
    with pytest.raises(ValueError, match=r"no layer 'botom'; did you mean 'bottom'\?"):
        replace(prune, layers=["botom"]).not_prunable_reasons(model)
