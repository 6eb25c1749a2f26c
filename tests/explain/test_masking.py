"""Logits and gradients of a game against slow loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.explain.baselines import build_baseline
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.models.base import Inputs, Recommender

SETTINGS = 5


@pytest.fixture
def game(model: Recommender, batch: Batch) -> MaskedModel:
    """Twelve rows of each model in turn, in float64, and every number that is a player."""
    model = model.double()
    rows = Inputs(*(part.detach().double() for part in model.embed(batch)))
    view = build_feature_mask(model.schema, model.width, "dimensions", model.device)
    return MaskedModel(
        model, view, rows, build_baseline(model, "mean", rows).expand_to(rows), chunk=7
    )


def _shared_or_not(game: MaskedModel, shared: bool) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = (SETTINGS, game.size) if shared else (game.rows, SETTINGS, game.size)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _row(rows: Inputs, row: int) -> Inputs:
    return Inputs(*(part[row : row + 1] for part in rows))


@pytest.mark.parametrize("chunk", [1, 7, 16384])
@pytest.mark.parametrize("shared", [True, False])
def test_logits_and_gradients_are_those_of_each_setting_of_each_row(
    game: MaskedModel, shared: bool, chunk: int
) -> None:
    game = replace(game, chunk=chunk)
    settings = _shared_or_not(game, shared)
    logits, gradients = game.logits(settings), game.gradients(settings)
    assert logits.shape == (game.rows, SETTINGS)
    assert gradients.shape == (game.rows, SETTINGS, game.size)
    for row in (0, 5, game.rows - 1):
        inputs, base = _row(game.inputs, row), _row(game.baseline, row)
        for setting in range(SETTINGS):
            on = (settings if shared else settings[row])[setting].clone().requires_grad_()
            mixed = game.feature_mask.apply(on.unsqueeze(0), inputs, base)
            logit = game.model.task_logits(mixed)[0, 0]
            (gradient,) = torch.autograd.grad(logit, on)
            torch.testing.assert_close(logits[row, setting], logit.detach(), rtol=0, atol=1e-9)
            torch.testing.assert_close(gradients[row, setting], gradient, rtol=0, atol=1e-9)


def test_players_fully_on_or_off_are_exactly_the_row_or_its_baseline(game: MaskedModel) -> None:
    inputs, base = (
        Inputs(*(part.float() for part in each)) for each in (game.inputs, game.baseline)
    )
    on = torch.ones(game.rows, game.size)
    assert all(map(torch.equal, game.feature_mask.apply(on, inputs, base), inputs))
    assert all(map(torch.equal, game.feature_mask.apply(0 * on, inputs, base), base))


@pytest.mark.parametrize("settings", [1, 16, 100])
def test_parts_are_the_game_a_few_rows_at_a_time(game: MaskedModel, settings: int) -> None:
    parts = list(game.chunks(settings))
    assert max(part.rows for part in parts) == min(game.rows, max(1, 16 * 7 // settings))
    assert torch.equal(torch.cat([part.index for part in parts]), torch.arange(game.rows))
    found = torch.cat([part.difference for part in parts])
    torch.testing.assert_close(found, game.difference, rtol=0, atol=1e-9)
