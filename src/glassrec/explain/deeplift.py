"""DeepLIFT with a rule for products, so that its parts add up on models that multiply features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.gates import Gates
from glassrec.explain.methods import Method
from glassrec.explain.multipliers import multipliers
from glassrec.models.base import Inputs, Recommender


@dataclass(frozen=True)
class DeepLift(Method):
    """DeepLIFT's rescale rule (Shrikumar et al., ICML 2017), and the midpoint rule for products."""

    complete: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """With its rules."""
        return "DeepLIFT, rescale and midpoint rules"

    def evaluations(self, players: int) -> int:
        """The row and its baseline."""
        return 2

    def check(self, model: Recommender, gates: Gates, baselines: int) -> None:
        """Lets a row of zeros pass, which finds functions that have no rule."""
        super().check(model, gates, baselines)
        schema, training, zeros = model.schema, model.training, model.table.weight.new_zeros
        row = Inputs(
            zeros(1, len(schema.dense)),
            zeros(1, len(schema.fields), model.width),
            zeros(1, schema.history_length, model.width),
            zeros(1, schema.history_length) + 1,
        )
        try:
            self.attribute(Game(model.eval(), gates, row, row), 0)
        finally:
            model.train(training)

    def attribute(self, game: Game, seed: int) -> Tensor:
        """Multipliers times differences; ValueError if the model calls what has no rule."""
        *rows, steps = game.inputs
        *off, _ = game.off

        def score(dense: Tensor, fields: Tensor, history: Tensor) -> Tensor:
            return game.model.task_logits(Inputs(dense, fields, history, steps))[:, game.task]

        # Which steps there are counts for nothing: it is no player's.
        found = *multipliers(game.model, score, rows, off), torch.zeros_like(steps)
        parts = (m * (x - b) for m, x, b in zip(found, game.inputs, game.off, strict=True))
        return game.gates.sum_over_players(Inputs(*parts))


@dataclass(frozen=True)
class DeepLiftShap(DeepLift):
    """DeepLift averaged over training rows, which approximates their SHAP values.

    As in Lundberg and Lee (NeurIPS 2017). The average is that of `explain.baseline=background`.
    """

    averaged: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """With its rules."""
        return "DeepLIFT SHAP, rescale and midpoint rules"
