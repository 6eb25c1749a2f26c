"""The default rankings find known effects, where signed sums follow what happens not to cancel."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import Tensor

from glassrec.data.dataset import Dataset
from glassrec.data.planted import MAIN, PAIRS, Planted
from glassrec.data.schema import Schema
from glassrec.explain import explanation_tables as tables
from glassrec.explain.explainer import Explain, Explainer
from glassrec.models.base import Inputs, Recommender

DEAD = ("load", "latency", "region", "browser", "weekday")
TRACE = 0.02


class Known(Recommender):
    """The planted effects by formula, and what a trained model adds: traces of the dead columns.

    An id's vector is its main effect and its taste; the pairs multiply tastes. The traces are small
    but never negative, so that they add up over rows while the planted effects cancel.
    """

    def __init__(self, data: Schema) -> None:
        super().__init__(data, data, width=2)
        generator = torch.Generator().manual_seed(0)
        vectors = []
        for field in data.fields:
            drawn = torch.randn(field.size - 1, 2, generator=generator)
            scaled = (drawn - drawn.mean(0)) / drawn.std(0, correction=0)
            scaled[:, 0] *= MAIN.get(field.name, 0.0)
            vectors += [torch.zeros(1, 2), scaled]  # the unseen id does nothing
        self.table.weight = torch.nn.Parameter(torch.cat(vectors))

    def score(self, inputs: Inputs) -> Tensor:
        dense = dict(zip(self.schema.dense, inputs.dense.unbind(1), strict=True))
        main, taste = (
            dict(zip(self.schema.field_names, part.unbind(1), strict=True))
            for part in inputs.fields.unbind(2)
        )
        alone = sum(main.values()) + sum(MAIN.get(name, 0) * x for name, x in dense.items())
        value = dense | taste
        together = sum(s * value[first] * value[second] for (first, second), s in PAIRS.items())
        traces = TRACE * sum(value[name].abs() for name in DEAD).square()
        return (alone + together + traces).unsqueeze(1)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Planted(rows=20_000).load(seed=0)


@pytest.fixture(scope="module")
def explainer(dataset: Dataset) -> Explainer:
    return Explain(pair_rows=2000).build_explainer(Known(dataset.schema), dataset, seed=0)


@pytest.fixture(scope="module")
def marks(explainer: Explainer) -> dict[str, float]:
    importance = tables.AttributionTotals(explainer).update([explainer.attributions()]).frame()
    found = tables.ground_truth_metrics(explainer, importance, tables.pair_table(explainer))
    return {name.removeprefix("truth/"): mark for name, mark in found.items()}


@pytest.mark.parametrize("ranking", ["players", "main", "main_importance", "pairs"])
def test_the_default_rankings_put_the_known_effects_on_top(
    marks: dict[str, float], ranking: str
) -> None:
    assert marks[f"{ranking}_precision"] == 1
    assert marks[f"{ranking}_correlation"] > 0.9


@pytest.mark.parametrize("ranking", ["players", "main_importance", "pairs"])
def test_signed_sums_do_not(marks: dict[str, float], ranking: str) -> None:
    assert marks[f"{ranking}_signed_precision"] < 0.8
    assert marks[f"{ranking}_signed_correlation"] < marks[f"{ranking}_correlation"] - 0.2


def test_only_whole_columns_are_marked(explainer: Explainer, dataset: Dataset) -> None:
    assert tables.ground_truth(explainer) == dataset.ground_truth
    single = Explain(granularity="dimensions").build_explainer(explainer.model, dataset, seed=0)
    assert tables.ground_truth(single) is None
    assert tables.ground_truth_metrics(single, pd.DataFrame(), pd.DataFrame()) == {}


def test_each_method_is_marked(explainer: Explainer) -> None:
    importance = pd.DataFrame(
        [("right", name, strength) for name, strength in MAIN.items()]
        + [("right", name, 0.0) for name in ("daypart", "discount", "placement", *DEAD)]
        + [("wrong", name, 1.0) for name in DEAD]
        + [("wrong", name, 0.0) for name in (*MAIN, "daypart", "discount", "placement")],
        columns=["method", "player", "mean_abs"],
    )
    found = tables.ground_truth_by_method(importance, explainer.dataset.ground_truth).set_index(
        "method"
    )
    assert found.loc["right", ["main_precision", "main_correlation"]].tolist() == [1, 1]
    # The three that act in pairs only tie with the dead ones.
    assert found.loc["right", "truth_precision"] == pytest.approx((5 + 3 * 3 / 8) / 8)
    assert found.loc["wrong", ["main_precision", "truth_precision"]].tolist() == [0, 3 / 8]
