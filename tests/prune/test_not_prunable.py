"""What is not cut, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import nn

from glassrec.artifacts import PrunePlan
from glassrec.data.dataset import Dataset
from glassrec.data.schema import Schema
from glassrec.explain.explainer import Explain
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.explain.neurons import Conductance
from glassrec.explain.selection import Selection
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Hidden, Output, Tower
from glassrec.prune.importance import RandomScore
from glassrec.prune.pruner import Pruner

EXPLAIN = Explain(select=Selection(rows=25), neurons=Conductance(4))

Level = Literal["domain", "data", "sample", "budget"]
LEVELS: tuple[Level, ...] = ("domain", "data", "sample", "budget")


def _plan(prune: Pruner, model: Recommender, dataset: Dataset) -> PrunePlan:
    return prune.plan(model, neuron_scores(EXPLAIN.build_explainer(model, dataset, 0)), dataset)


def _fire(model: Recommender) -> None:
    """Let every hidden unit fire on all rows: none is constant by chance."""
    with torch.no_grad():
        model.table.weight.abs_()
        for layer in model.layers.values():
            if isinstance(layer, Hidden):
                layer.affine.weight.abs_()
                layer.affine.bias.fill_(0.3)


class Normed(Recommender):
    """A tower whose last layer is normalised."""

    def __init__(self, data: Schema) -> None:
        super().__init__(data, data.select(fields=["user", "item"]), 4)
        self.tower = Tower([8], [6, 5])
        self.norm = nn.LayerNorm(5)
        self.tower.last.register_consumer(self.norm)
        self.output = Output([5], data.targets)

    def score(self, inputs: Inputs) -> torch.Tensor:
        return self.output(self.norm(self.tower(inputs.fields.flatten(1))))


@pytest.mark.parametrize("level", LEVELS)
def test_a_layer_that_is_normalised_stays_and_says_why(dataset: Dataset, level: Level) -> None:
    model = Normed(dataset.schema).eval()
    _fire(model)
    with torch.no_grad():
        for layer in model.tower:
            layer.affine.weight[1], layer.affine.bias[1] = 0, -1
    plan = _plan(Pruner(level, score=RandomScore()), model, dataset)
    assert plan.layers["tower.1"].kept == [0, 1, 2, 3, 4]
    assert plan.layers["tower.1"].stays == "it feeds LayerNorm, which mixes its neurons"
    assert plan.layers["tower.0"].stays == ""
    if level != "budget":
        assert [*plan.layers["tower.0"].constants] == [1]
    for name in ("tower.1", "tower"):
        said = (
            r"prune.layers: tower.1 cannot be pruned: it feeds LayerNorm, which mixes its neurons"
        )
        with pytest.raises(ValueError, match=said):
            _plan(Pruner(level, layers=[name]), model, dataset)
    assert _plan(Pruner(level, layers=["tower.0"]), model, dataset).layers["tower.1"].stays == (
        "it is not in prune.layers"
    )


@pytest.mark.parametrize("level", ["domain", "data", "sample"])
@pytest.mark.parametrize("why", ["dead", "constant", "unread"])
def test_a_layer_of_which_all_could_go_keeps_one_and_says_so(
    build: Callable[..., Recommender], dataset: Dataset, level: Level, why: str
) -> None:
    model = build("mlp", hidden=[5, 4])
    _fire(model)
    nothing = _plan(Pruner(level), model, dataset)
    assert nothing.dropped == 0
    assert {cut.stays for cut in nothing.layers.values()} == {""}
    last = model.tower.last.affine
    with torch.no_grad():
        if why == "unread":
            model.output.weight.zero_()
        else:
            last.weight.zero_()
            last.bias.fill_(-1.0 if why == "dead" else 1.5)
    prune = Pruner(level)
    plan = _plan(prune, model, dataset)
    assert plan.layers["tower.1"].kept == [0]
    assert plan.layers["tower.1"].stays == "all of them could be pruned, but a layer keeps one"
    certificate = prune.certify(model, prune.prune(model, plan), plan, dataset, files={}, given={})
    assert certificate.max_abs_logit_difference <= 1e-9
    assert certificate.exact == (level != "sample")


@pytest.mark.parametrize("share", [1, 1.5, -0.1])
def test_a_share_of_all_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"prune.share: {share:g} .*at least 0 and below 1"):
        Pruner("budget", share=share)


def test_a_level_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no level 'dat'; did you mean 'data'\?.*budget"):
        Pruner("dat")  # type: ignore[arg-type]


@pytest.mark.parametrize("level", LEVELS)
def test_a_layer_that_there_is_not_is_refused(
    build: Callable[..., Recommender], dataset: Dataset, level: Level
) -> None:
    known = "embedding, tower, tower.0, tower.1"
    said = rf"no layer 'tower_0'; did you mean 'tower.0'\? \(choices: {known}\)"
    with pytest.raises(ValueError, match=said):
        _plan(Pruner(level, layers=["tower_0"]), build("mlp", hidden=[5, 4]), dataset)


def test_pruning_nothing_changes_no_bit(model: Recommender, dataset: Dataset) -> None:
    """Of any model."""
    prune = Pruner("budget", share=0)
    plan = _plan(prune, model, dataset)
    pruned = prune.prune(model, plan)
    weights = model.state_dict()
    assert pruned.tensors.keys() == weights.keys()
    assert all(torch.equal(pruned.tensors[name], there) for name, there in weights.items())
    assert {tensor.dtype for tensor in pruned.tensors.values()} == {
        tensor.dtype for tensor in weights.values()
    }
    certificate = prune.certify(model, pruned, plan, dataset, files={}, given={})
    assert certificate.max_abs_logit_difference == 0
    assert certificate.weights == certificate.pruned
