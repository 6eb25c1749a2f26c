"""Each point of a curve is a cut that could be made by hand."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.explain.explainer import Explain
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.explain.neurons import Conductance
from glassrec.explain.selection import Selection
from glassrec.models.base import Recommender
from glassrec.prune.budget import Measures
from glassrec.prune.importance import (
    ActivationScore,
    ConductanceScore,
    DeviationScore,
    ImportanceScore,
    MagnitudeScore,
    RandomScore,
    TaylorScore,
    ZerosScore,
)
from glassrec.prune.pruner import Pruner
from glassrec.prune.pruning_curves import PruningCurves
from glassrec.prune.surgery import prune_model

EXPLAIN = Explain(select=Selection(rows=20), neurons=Conductance(4))
SCORES: dict[str, ImportanceScore] = {
    "conductance": ConductanceScore(), "taylor": TaylorScore(), "activation": ActivationScore(),
    "zeros": ZerosScore(), "magnitude": MagnitudeScore(), "deviation": DeviationScore(),
    "random": RandomScore(),
}  # fmt: skip
BOTH: dict[str, ImportanceScore] = {"magnitude": MagnitudeScore(), "random": RandomScore()}


def _loss(model: Recommender, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch)[:, 0], batch.targets[:, 0])


def _untuned(model: Recommender, epochs: int) -> Recommender:
    raise AssertionError("nobody asked for training")


@pytest.fixture
def model(build: Callable[..., Recommender]) -> Recommender:
    return build("dlrm", bottom=[6], top=[8, 5], embedding=4)


@pytest.fixture
def neurons(model: Recommender, dataset: Dataset) -> pd.DataFrame:
    return neuron_scores(EXPLAIN.build_explainer(model, dataset, 0))


def _measure(dataset: Dataset) -> Callable[[Recommender], dict[str, float]]:
    """Numbers from which the model can be known: its mean logit, and the units of each layer."""

    def measure(model: Recommender) -> dict[str, float]:
        rows = dataset.test.batch
        with torch.no_grad():
            logit = model(rows._replace(dense=rows.dense.to(model.dtype)))[:, 0].mean().item()
        units = {name: layer.units.tolist() for name, layer in model.layers.items()}
        return {"logit": logit, "kept": units}

    return measure


@pytest.mark.parametrize("name", SCORES)
def test_a_point_is_the_cut_of_that_budget(
    model: Recommender, dataset: Dataset, neurons: pd.DataFrame, name: str
) -> None:
    curves = PruningCurves({name: SCORES[name]}, (0.25, 0.6), draws=2, unfolded=True)
    evidence = Pruner().calibration(model, neurons, dataset, 0, _loss)
    found = curves.compute(evidence, _measure(dataset), _untuned)
    assert len(found) == 3 * 2 * (2 if name == "random" else 1)
    for row in found.itertuples():
        prune = Pruner(level="budget", share=row.share, score=SCORES[name], fold=row.folded)
        plan = prune.plan(model, neurons, dataset, seed=row.draw, measures=Measures(loss=_loss))
        expected = _measure(dataset)(prune_model(model, plan))
        assert row.kept == expected["kept"]
        assert row.logit == pytest.approx(expected["logit"], rel=1e-4, abs=1e-5)
        assert row.units == sum(map(len, row.kept.values()))


def test_what_is_asked_is_tried_and_the_uncut_model_beside_it(
    model: Recommender, dataset: Dataset, neurons: pd.DataFrame
) -> None:
    before = deepcopy(model.state_dict())
    curves = PruningCurves(BOTH, (0.5,), draws=2, unfolded=True)
    evidence = Pruner().calibration(model, neurons, dataset, 0, None)
    found = curves.compute(evidence, _measure(dataset), _untuned)
    tried = found[["score", "draw", "share", "folded", "epochs"]]
    assert [*tried.itertuples(index=False, name=None)] == [
        (score, draw, share, folded, 0)
        for score, draw in (("magnitude", 0), ("random", 0), ("random", 1))
        for share in (0.0, 0.5)
        for folded in (True, False)
    ]
    uncut = found[found["share"] == 0]
    assert set(uncut["logit"]) == {_measure(dataset)(model)["logit"]}
    assert set(uncut["units"]) == {sum(len(layer.units) for layer in model.layers.values())}
    first, other = found.query("score == 'random' and share == .5 and folded")["kept"]
    assert first != other
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_folding_puts_the_mean_in_the_place_of_a_unit_and_not_folding_zero(
    model: Recommender, dataset: Dataset, neurons: pd.DataFrame
) -> None:
    """The unit of the least magnitude always emits 1.7 and is read with a weight of 10."""
    layer = model.layers["top.1"]
    with torch.no_grad():
        layer.affine.weight[3] = 0
        layer.affine.bias[3] = 1.7
        layer.affine.weight[[0, 1, 2, 4]] += 1
        model.output.weight[:, 3] = 10
    evidence = Pruner(layers=["top.1"]).calibration(model, neurons, dataset, 0, None)
    curves = PruningCurves({"magnitude": MagnitudeScore()}, (0.2,), unfolded=True)
    found = curves.compute(evidence, _measure(dataset), _untuned).set_index(["share", "folded"])[
        "logit"
    ]
    assert found[0.2, True] == pytest.approx(found[0, True], rel=1e-5)
    assert found[0, True] - found[0.2, False] == pytest.approx(17, rel=1e-5)


def test_each_cut_is_trained_on_and_the_uncut_model_but_once(
    model: Recommender, dataset: Dataset, neurons: pd.DataFrame
) -> None:
    tuned = []

    def tune(small: Recommender, epochs: int) -> Recommender:
        with torch.no_grad():
            small.output.bias += epochs
        tuned.append(small)
        return small

    evidence = Pruner().calibration(model, neurons, dataset, 0, None)
    curves = PruningCurves(BOTH, (0, 0.5), draws=2, epochs=3)
    found = curves.compute(evidence, _measure(dataset), tune)
    assert len(tuned) == 1 + 3
    plain, on = (found[found["epochs"] == epochs]["logit"].to_numpy() for epochs in (0, 3))
    assert len(plain) == 6
    assert on - plain == pytest.approx([3] * 6, rel=1e-5)


def test_training_a_cut_on_changes_no_number_of_the_model_that_is_cut(
    model: Recommender, dataset: Dataset, neurons: pd.DataFrame
) -> None:
    before = deepcopy(model.state_dict())

    def tune(small: Recommender, epochs: int) -> Recommender:
        with torch.no_grad():
            for parameter in small.parameters():
                parameter += epochs
        return small

    evidence = Pruner().calibration(model, neurons, dataset, 0, None)
    PruningCurves({"magnitude": MagnitudeScore()}, (0.5,), epochs=1).compute(
        evidence, _measure(dataset), tune
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_only_layers_that_may_be_cut_are(
    model: Recommender, dataset: Dataset, neurons: pd.DataFrame
) -> None:
    evidence = Pruner(layers=["top"]).calibration(model, neurons, dataset, 0, None)
    found = PruningCurves({"random": RandomScore()}, (0.9,), draws=1).compute(
        evidence, _measure(dataset), _untuned
    )
    kept = found["kept"].iloc[1]
    sizes = {name: (layer.size, len(kept[name])) for name, layer in model.layers.items()}
    assert [now for name, (_, now) in sizes.items() if name.startswith("top")] == [1, 1]
    assert all(now == was for name, (was, now) in sizes.items() if not name.startswith("top"))
    assert found["units"].tolist() == [13, 2]
