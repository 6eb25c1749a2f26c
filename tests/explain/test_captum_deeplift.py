"""Captum's DeepLIFT beside ours: the same values, the known errors, and nothing left behind."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.captum_deeplift import CaptumDeepLift
from glassrec.explain.deeplift import DeepLift
from glassrec.explain.game import Game
from glassrec.explain.gates import baseline, gates
from glassrec.models.base import Inputs, Recommender


def _game(model: Recommender, batch: Batch, task: int = 0) -> Game:
    inputs = Inputs(*(part.detach() for part in model.embed(batch)))
    base = baseline(model, "mean", inputs).expand_to(inputs)
    view = gates(model.schema, model.width, "fields", model.device)
    return Game(model, view, inputs, base, task)


def _error(game: Game) -> float:
    """The mean error of a row's sum, as a share of the mean difference."""
    delta = CaptumDeepLift().attribute(game, 0).double().sum(1) - game.difference
    return (delta.abs().mean() / game.difference.abs().mean()).item()


@pytest.mark.parametrize("name", ["gmf", "neumf", "dlrm"])
def test_products_have_no_rule(build: Callable[..., Recommender], batch: Batch, name: str) -> None:
    assert _error(_game(build(name), batch)) > 0.5


@pytest.mark.parametrize("name", ["mlp", "dnn", "two_tower"])
def test_without_products_it_agrees_with_ours(
    build: Callable[..., Recommender], batch: Batch, name: str
) -> None:
    game = _game(build(name), batch, task=1)
    theirs = CaptumDeepLift().attribute(game, 0)
    torch.testing.assert_close(theirs, DeepLift().attribute(game, 0), rtol=0, atol=1e-5)
    assert _error(game) < 1e-5


def test_the_model_stays_as_it_is_and_nothing_is_said(model: Recommender, batch: Batch) -> None:
    def state() -> list[object]:
        modules = [(set(vars(module)), module.training) for module in model.modules()]
        return [modules, {name: p.requires_grad for name, p in model.named_parameters()}]

    before = state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CaptumDeepLift().attribute(_game(model, batch), 0)
    assert state() == before
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


class Twice(Recommender):
    """A model that calls one ReLU for two layers."""

    def __init__(self, data: Schema) -> None:
        super().__init__(data, data.select(fields=["item"]), 4)
        self.input = nn.Linear(4, 2)
        self.relu = nn.ReLU()

    def score(self, inputs: Inputs) -> Tensor:
        return self.relu(self.input(self.relu(inputs.fields[:, 0])))


def test_a_module_that_is_called_twice_is_refused(schema: Schema, batch: Batch) -> None:
    model = Twice(schema).eval()
    with pytest.raises(ValueError, match=r"Twice, which calls .* explain/method=deeplift"):
        CaptumDeepLift().attribute(_game(model, batch), 0)
    assert "input" not in vars(model.relu)
    assert isinstance(model.input, nn.Linear)
    assert DeepLift().attribute(_game(model, batch), 0).abs().sum() > 0
