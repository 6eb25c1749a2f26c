"""Logits and gradients of a view against slow loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender

SETTINGS = 5


@pytest.fixture
def view(model: Recommender, batch: Batch) -> MaskedModel:
    """Twelve rows of each model in turn, in float64, and every number that is a feature."""
    model = model.double()
    rows = Inputs(*(part.detach().double() for part in model.embed(batch)))
    mask = build_feature_mask(model.schema, model.width, "dimensions", model.device)
    return MaskedModel(
        model, mask, rows, build_baseline(model, "mean", rows).expand_to(rows), chunk=7
    )


def _shared_or_not(view: MaskedModel, shared: bool) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = (SETTINGS, view.size) if shared else (view.rows, SETTINGS, view.size)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _row(rows: Inputs, row: int) -> Inputs:
    return Inputs(*(part[row : row + 1] for part in rows))


@pytest.mark.parametrize("chunk", [1, 7, 16384])
@pytest.mark.parametrize("shared", [True, False])
def test_logits_and_gradients_are_those_of_each_setting_of_each_row(
    view: MaskedModel, shared: bool, chunk: int
) -> None:
    view = replace(view, chunk=chunk)
    settings = _shared_or_not(view, shared)
    logits, gradients = view.logits(settings), view.gradients(settings)
    assert logits.shape == (view.rows, SETTINGS)
    assert gradients.shape == (view.rows, SETTINGS, view.size)
    for row in (0, 5, view.rows - 1):
        inputs, base = _row(view.inputs, row), _row(view.baseline, row)
        for setting in range(SETTINGS):
            on = (settings if shared else settings[row])[setting].clone().requires_grad_()
            mixed = view.feature_mask.apply(on.unsqueeze(0), inputs, base)
            logit = view.model.task_logits(mixed)[0, 0]
            (gradient,) = torch.autograd.grad(logit, on)
            torch.testing.assert_close(logits[row, setting], logit.detach(), rtol=0, atol=1e-9)
            torch.testing.assert_close(gradients[row, setting], gradient, rtol=0, atol=1e-9)


def test_features_fully_on_or_off_are_exactly_the_row_or_its_baseline(view: MaskedModel) -> None:
    inputs, base = (
        Inputs(*(part.float() for part in each)) for each in (view.inputs, view.baseline)
    )
    on = torch.ones(view.rows, view.size)
    assert all(map(torch.equal, view.feature_mask.apply(on, inputs, base), inputs))
    assert all(map(torch.equal, view.feature_mask.apply(0 * on, inputs, base), base))


@pytest.mark.parametrize("settings", [1, 16, 100])
def test_parts_are_the_game_a_few_rows_at_a_time(view: MaskedModel, settings: int) -> None:
    parts = list(view.chunks(settings))
    assert max(part.rows for part in parts) == min(view.rows, max(1, 16 * 7 // settings))
    assert torch.equal(torch.cat([part.index for part in parts]), torch.arange(view.rows))
    found = torch.cat([part.difference for part in parts])
    torch.testing.assert_close(found, view.difference, rtol=0, atol=1e-9)
