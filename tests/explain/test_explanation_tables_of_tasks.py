"""What the explanation stage makes of several tasks."""

from __future__ import annotations

from dataclasses import replace

import torch

from glassrec.data.dataset import Dataset
from glassrec.data.schema import Target
from glassrec.explain.explainer import Explain
from glassrec.explain.explanation_tables import AttributionTotals, neuron_scores, significance
from glassrec.explain.neurons import Conductance
from glassrec.explain.selection import Selection
from glassrec.models.ncf import GMF
from glassrec.models.popularity import Popularity
from glassrec.models.two_tower import TwoTower


def test_a_unit_that_only_another_task_reads_is_not_silent(dataset: Dataset) -> None:
    schema = replace(
        dataset.schema, targets=(Target("find", "retrieval"), Target("stars", "rating"))
    )
    data, model = replace(dataset, schema=schema), TwoTower(schema, towers=(8,), head=(8,))
    scores = neuron_scores(
        Explain(task="find", select=Selection(rows=20), neurons=Conductance(4)).build_explainer(
            model, data, 0
        )
    )
    head, product = (scores[scores["layer"] == name] for name in ("head.0", "product"))
    assert (head["mean_abs"] == 0).all()
    assert head["max_abs"].max() > 0
    assert product["mean_abs"].min() > 0


def test_of_one_row_and_task_mean_and_maximum_are_one(dataset: Dataset) -> None:
    schema = replace(dataset.schema, targets=(Target("label"),))
    model = TwoTower(schema, towers=(8,), head=(8,))
    scores = neuron_scores(
        Explain(select=Selection(rows=1), neurons=Conductance(4)).build_explainer(
            model, replace(dataset, schema=schema), 0
        )
    )
    assert scores["mean_abs"].equals(scores["max_abs"])


def test_where_nothing_moves_the_logit_the_parts_miss_nothing(dataset: Dataset) -> None:
    model = Popularity(dataset.schema)
    with torch.no_grad():  # items differ by less than rounding keeps of the logit
        model.table.weight.copy_(1 + 1e-7 * torch.rand_like(model.table.weight))
    explainer = Explain(select=Selection(rows=40)).build_explainer(model, dataset, 0)
    found = explainer.attributions()
    found.values.add_(1e-7)
    assert found.relative_delta > 0.1
    assert AttributionTotals(explainer).update([found]).summary(None).relative_delta == 0
    found.values.add_(1e-2)
    assert AttributionTotals(explainer).update([found]).summary(None).relative_delta > 1


def test_labels_that_are_all_the_same_say_nothing_of_chance(dataset: Dataset) -> None:
    settings = Explain(select=Selection(rows=40), significance="labels")
    explainer = settings.build_explainer(GMF(dataset.schema), dataset, 0)
    found = explainer.attributions()
    found.labels[:20], found.labels[20:] = 0, 1
    assert list(significance(explainer, found)) == ["p_value", "q_value"]
    found.labels.fill_(1)
    assert list(significance(explainer, found)) == []
