"""The rows on which methods are judged: each beside its baselines, and beside another data row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.methods import Method
from glassrec.models.base import Inputs, Recommender


@dataclass(frozen=True)
class Sample:
    """B explained rows, few enough that what is found of them fits into memory at once.

    Args:
        game: B · M rows: each explained row M times, side by side, beside the M rows of the
            background. With one baseline M is 1.
        others: B embedded rows of the data, in no relation to those explained. What is taken from a
            row can be replaced by what its other has: values that the model knows, where a
            baseline may be none.

    Raises:
        ValueError: the game's rows are no multiple of the others.
    """

    game: Game
    others: Inputs

    def __post_init__(self) -> None:
        if not self.rows or self.game.rows % self.rows:
            raise ValueError(
                f"a sample needs one other row for each explained row, and got {self.rows} for a "
                f"game of {self.game.rows} rows, which is no multiple"
            )

    @property
    def rows(self) -> int:
        """The number of explained rows B."""
        return self.others.rows

    @property
    def background(self) -> int:
        """The number of baselines M of a row."""
        return self.game.rows // self.rows

    @property
    def inputs(self) -> Inputs:
        """The B explained rows."""
        return Inputs(*(part[:: self.background] for part in self.game.inputs))

    @cached_property
    def difference(self) -> Tensor:
        """(B,) float64: the logit minus its mean with all players at each of the baselines."""
        return self._averaged(self.game.difference)

    def logits(self, gates: Tensor) -> Tensor:
        """The logits (B, C), float64, of C settings (C, P), averaged over the baselines."""
        return self._averaged(self.game.logits(gates))

    def parts(self, method: Method, seed: int) -> Tensor:
        """The parts (B, P) by a method, averaged over the baselines.

        As many rows at a time as a chunk has room for.

        Raises:
            ValueError: the method cannot explain this model, or so many players.
        """
        at_once = max(1, self.game.chunk // method.evaluations(self.game.players))
        found = [method.attribute(part, seed).detach() for part in self.game.split(at_once)]
        return self._averaged(torch.cat(found))

    def beside_others(self) -> Game:
        """The B rows, where a player that is off has the value of the other row."""
        return replace(
            self.game,
            inputs=self.inputs,
            baseline=self.others.expand_to(self.inputs),
            index=self.game.index[:: self.background],
        )

    def moved(self, inputs: Inputs) -> Sample:
        """The sample with B other inputs in the place of those explained."""
        spread = Inputs(*(part.repeat_interleave(self.background, 0) for part in inputs))
        return replace(self, game=replace(self.game, inputs=spread))

    def scored_by(self, model: Recommender) -> Sample:
        """The sample with another model, which scores the same inputs."""
        return replace(self, game=replace(self.game, model=model))

    def first(self, rows: int) -> Sample:
        """The sample of the first of the rows."""
        game = next(self.game.split(rows * self.background))
        return Sample(game, Inputs(*(part[:rows] for part in self.others)))

    def _averaged(self, values: Tensor) -> Tensor:
        """The mean over the baselines: (B · M, ...) to (B, ...)."""
        return values.unflatten(0, (self.rows, self.background)).mean(1)
