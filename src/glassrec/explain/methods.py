"""Ways to divide a logit's difference from its baseline among players, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from glassrec.explain.gates import Gates
from glassrec.models.base import Inputs, Recommender


class Method(ABC):
    """A method is a frozen dataclass: its fields are its configuration."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What figures call it, with its settings."""

    @abstractmethod
    def evaluations(self, players: int) -> int:
        """How many rows pass the model at once for each explained row.

        Raises:
            ValueError: the method cannot explain so many players.
        """

    @abstractmethod
    def attribute(
        self, model: Recommender, gates: Gates, inputs: Inputs, baseline: Inputs, task: int
    ) -> Tensor:
        """What each of the P players contributes to the difference of the logit: (B, P).

        Args:
            model: in evaluation mode.
            gates: the players.
            inputs: B embedded rows.
            baseline: B rows beside them.
            task: the column of the logits.
        """


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients (Sundararajan et al., 2017), by Captum.

    Args:
        steps: nodes of the Gauss-Legendre rule.
    """

    steps: Annotated[int, Ge(1)] = 32

    @property
    def name(self) -> str:
        """With its nodes."""
        return f"integrated gradients, {self.steps} Gauss-Legendre nodes"

    def evaluations(self, players: int) -> int:
        """One a node."""
        return self.steps

    def attribute(
        self, model: Recommender, gates: Gates, inputs: Inputs, baseline: Inputs, task: int
    ) -> Tensor:
        """Gradients over gates, averaged along the straight path."""
        # Captum takes a second to import, and a run that has its attributions needs none.
        from glassrec.explain.attribution import integrated_gradients

        return integrated_gradients(model, gates, inputs, baseline, steps=self.steps, task=task)[0]
