"""Which metrics a split gets, and which logits are refused."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema, Target
from glassrec.metrics.metadata import primary_metrics
from glassrec.metrics.pointwise import click_metrics
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender


class Fixed(Recommender):
    """Gives the logits that it is made with, row by row."""

    def __init__(self, data, logits):
        super().__init__(data, data.select(fields=["row"]), logits.shape[1])
        self.table.weight.data.copy_(logits)

    def score(self, inputs):
        return inputs.fields[:, 0]


def measured(logits, truth, *targets):
    """The quality of logits (N, K) on rows of these targets."""
    logits, truth = torch.as_tensor(logits).float(), torch.as_tensor(truth).float()
    n = len(logits)
    schema = Schema(fields=(Field("row", n),), targets=targets)
    empty = torch.zeros(n, 0, dtype=torch.long)
    split = Split(Batch(torch.zeros(n, 0), torch.arange(n)[:, None], empty, truth))
    data = Dataset(schema, split, split, split)
    return quality(Fixed(schema, logits), data, "val")


def test_a_task_has_the_metrics_of_its_kind_under_its_name():
    rng = np.random.default_rng(0)
    truth = np.column_stack([rng.random(90) < 0.4, rng.integers(1, 6, 90)])
    logits = rng.normal(size=(90, 2))
    found = measured(logits, truth, Target("click"), Target("stars", "rating"))
    alone = click_metrics(
        torch.tensor(logits).float()[:, 0].double(), torch.tensor(truth[:, 0]), None
    )
    assert {f"click/{name}": pytest.approx(value) for name, value in alone.items()} == {
        name: value for name, value in found.items() if name.startswith("click/")
    }
    rmse = sk.root_mean_squared_error(truth[:, 1], logits[:, 1])
    assert found["stars/rmse"] == pytest.approx(rmse, abs=1e-6)
    mae = sk.mean_absolute_error(truth[:, 1], logits[:, 1])
    assert found["stars/mae"] == pytest.approx(mae, abs=1e-6)
    assert found["stars/bias"] == pytest.approx((logits - truth)[:, 1].mean(), abs=1e-6)
    assert primary_metrics(found) == ["click/auroc", "click/accuracy", "stars/rmse", "stars/mae"]


def test_a_single_task_needs_no_name():
    found = measured([[1.0], [0.0]], [[1.0], [3.0]], Target("stars", "rating"))
    errors = {"rmse": math.sqrt(4.5), "mae": 1.5, "bias": -1.5}
    assert found == {name: pytest.approx(error) for name, error in errors.items()}
    assert primary_metrics(found) == ["rmse", "mae"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_finite_is_refused_with_its_row(value):
    with pytest.raises(ValueError, match=r"1 of 3 logits are not finite.*row 1"):
        measured([[0.0], [value], [0.0]], [[1], [0], [1]], Target("label"))


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="split is empty"):
        measured(torch.zeros(0, 1), torch.zeros(0, 1), Target("label"))
