"""Ways to divide a logit's difference from its baseline among players, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.gates import Gates
from glassrec.models.base import Recommender


class Method(ABC):
    """A method is a frozen dataclass: its fields are its configuration."""

    complete: ClassVar[bool] = False
    """Whether the parts claim to add up to the logit's difference, so that what they miss is an
    error."""
    sampled: ClassVar[bool] = False
    """Whether another seed gives other values, if the players are many; see `draws`."""
    averaged: ClassVar[bool] = False
    """Whether it is by definition an average over several baselines, so that one is refused."""

    def draws(self, players: int) -> bool:
        """Whether another seed gives other values with so many players."""
        return self.sampled

    def finer(self) -> Method | None:
        """The method with twice the nodes of its path; None if it has no more to add."""
        return None

    @property
    @abstractmethod
    def name(self) -> str:
        """What figures call it, with its settings."""

    @abstractmethod
    def evaluations(self, players: int) -> int:
        """How many settings of the gates pass the model for each explained row.

        Raises:
            ValueError: the method cannot explain so many players.
        """

    def check(self, model: Recommender, gates: Gates, baselines: int) -> None:
        """ValueError, before anything runs, if the method cannot explain the model, and why.

        Args:
            model: it need not be trained.
            gates: the players.
            baselines: over how many of them results will be averaged.
        """
        self.evaluations(len(gates.players))
        if self.averaged and baselines < 2:
            raise ValueError(
                f"{self.name} is an average over training rows, and there is {baselines} baseline; "
                "set explain.baseline=background"
            )

    @abstractmethod
    def attribute(self, game: Game, seed: int) -> Tensor:
        """What each of the P players contributes to the difference of the logit: (B, P).

        Args:
            game: B rows beside their baselines, and the players.
            seed: of what a sampled method draws; the same draws for any rows beside it.

        Raises:
            ValueError: the method cannot explain this model, and why.
        """
