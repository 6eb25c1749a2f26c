"""Ratings of any unit: what a model computes in standard units comes out in that of the data."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from glassrec.artifacts.programs import as_pt2
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.data.schema import Schema, Target
from glassrec.explain.explainer import Explain
from glassrec.explain.methods import Method
from glassrec.explain.methods.deeplift import DeepLift
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.selection import Selection
from glassrec.models.base import Recommender
from glassrec.models.layers.affine import TargetScale
from glassrec.models.mf import MF
from glassrec.stages.program import export_program

TARGETS = (Target("label"), Target("ms", "rating", 5e5, 2e4), Target("find", "retrieval"))


def test_scores_and_targets_by_hand() -> None:
    scale = TargetScale(TARGETS)
    rows = torch.tensor([[0.25, 1.5, -3.0], [-2.0, -1.0, 7.0]])
    expected = torch.tensor([[0.25, 530_000, -3.0], [-2.0, 480_000, 7.0]])
    assert torch.equal(scale(rows), expected)
    assert torch.equal(scale.standardized(expected), rows)


def test_a_model_without_ratings_holds_no_scale(schema: Schema, batch: Batch) -> None:
    model = MF(replace(schema, targets=(TARGETS[0], TARGETS[2])))
    assert not [name for name in model.state_dict() if name.startswith("target_scale")]
    inputs = model.embed(batch)
    assert torch.equal(model.task_logits(inputs), model.score(inputs))


def _with_unit(model: Recommender, mean: float, deviation: float) -> Recommender:
    """The same model, whose second task has another unit."""
    model.target_scale.mean[1], model.target_scale.deviation[1] = mean, deviation
    return model


def test_every_model_speaks_the_unit(
    model: Recommender, batch: Batch, dataset: Dataset, schema: Schema
) -> None:
    before = _with_unit(model, 0.0, 1.0).predict(batch).double()
    after = _with_unit(model, -3e6, 2e6).predict(batch).double()
    assert torch.equal(after[:, 0], before[:, 0])
    torch.testing.assert_close(after[:, 1], before[:, 1] * 2e6 - 3e6, rtol=1e-5, atol=10.0)
    file = io.BytesIO(as_pt2(export_program(model, schema)))
    logits = torch.export.load(file).module()(batch.dense, batch.ids, batch.history)
    torch.testing.assert_close(logits.double(), after, rtol=1e-5, atol=10.0)


@pytest.mark.parametrize("method", [IntegratedGradients(200), DeepLift()])
def test_explanations_and_selections_are_in_the_unit(
    build: Callable[..., Recommender], dataset: Dataset, method: Method
) -> None:
    plain = _with_unit(build("dlrm"), 0.0, 1.0)
    settings = Explain(task="stars", method=method, select=Selection(above=-0.3))
    first = settings.build_explainer(plain, dataset, 0).attributions()
    scaled = _with_unit(build("dlrm"), -3e6, 2e6)
    settings = replace(settings, select=Selection(above=-0.3 * 2e6 - 3e6))
    second = settings.build_explainer(scaled, dataset, 0).attributions()
    assert torch.equal(first.rows, second.rows)
    assert 0 < len(first.rows) < dataset.validation.batch.rows
    torch.testing.assert_close(second.values, first.values * 2e6, rtol=1e-3, atol=100.0)
    for name in ("logits", "baseline_logits"):
        expected = getattr(first, name) * 2e6 - 3e6
        torch.testing.assert_close(getattr(second, name), expected, rtol=1e-4, atol=100.0)
