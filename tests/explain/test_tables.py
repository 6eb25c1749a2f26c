"""The tables of an explanation."""

from __future__ import annotations

import pytest
import torch

from glassrec.data.dataset import Dataset
from glassrec.explain.explanation_tables import neuron_table
from glassrec.explain.statistics import RunningStatistics
from glassrec.models.ncf import GMF


def test_units_stand_beside_their_statistics_and_how_alike_rows_rank_them(
    dataset: Dataset,
) -> None:
    model = GMF(dataset.schema, factors=4)
    (name,) = model.layers
    alike, unlike = RunningStatistics(), RunningStatistics()
    alike.update(torch.tensor([4.0, 1, 3, 2]).expand(1, 100, 4))
    unlike.update(torch.randn(1, 100, 4, generator=torch.Generator().manual_seed(0)))
    table = neuron_table(model, {name: alike})
    assert list(table["unit"]) == [0, 1, 2, 3]
    assert list(table["rank"]) == [1, 4, 2, 3]
    assert list(table["rank_stability"]) == [pytest.approx(1)] * 4
    other = neuron_table(model, {name: unlike})["rank_stability"]
    assert other.nunique() == 1
    assert other[0] < 0.9
