"""Which inputs move the logit through one chosen neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.gates import Gates
from glassrec.explain.methods import Method
from glassrec.explain.path import average, gauss_legendre, path
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import activations
from glassrec.spelling import did_you_mean


@dataclass(frozen=True)
class NeuronConductance(Method):
    """The conductance of one neuron, divided among the players (Dhamdhere et al., ICLR 2019).

    The parts add up to what flows through that neuron, which is not the logit's difference. A
    recurrent neuron is explained where it leaves its layer, at the last step.

    Args:
        neuron: its name, as in the table of neurons: `top.0[17]`, or `C3×C14` for a pair.
        steps: nodes of the Gauss-Legendre rule, as in Captum.
    """

    neuron: Annotated[str, MinLen(1)]
    steps: Annotated[int, Ge(1)] = 32

    @property
    def name(self) -> str:
        """With the neuron and its nodes."""
        return f"conductance through {self.neuron}, {self.steps} Gauss-Legendre nodes"

    def check(self, model: Recommender, gates: Gates, baselines: int) -> None:
        """ValueError if the model has no such neuron, with what it has."""
        super().check(model, gates, baselines)
        self._find(model)

    def evaluations(self, players: int) -> int:
        """One a node."""
        return self.steps

    def attribute(self, game: Game, seed: int) -> Tensor:
        """Along the path: ∂logit/∂neuron · ∂neuron/∂input · change of the input."""
        layer, unit = self._find(game.model)
        rows = max(1, game.chunk // self.steps)
        both = zip(*(part.split(rows) for part in (*game.inputs, *game.off)), strict=True)
        found = [
            self._through(game, layer, unit, Inputs(*parts[:4]), Inputs(*parts[4:]))
            for parts in both
        ]
        return torch.cat(found)

    def _through(
        self, game: Game, layer: str, unit: int, inputs: Inputs, baseline: Inputs
    ) -> Tensor:
        """(B, P): one forward, one backward to the neuron, and one from the neuron on."""
        rule = gauss_legendre(self.steps)
        points = path(inputs, baseline, rule.nodes)
        model = game.model
        with activations({layer: model.layers[layer]}) as emitted:
            logits = model.task_logits(points)[:, game.task]
        emission = emitted[layer][-1]
        (slopes,) = torch.autograd.grad(
            logits.sum(), emission, materialize_grads=True, retain_graph=True
        )
        gradients = torch.autograd.grad(
            emission[:, unit], points, slopes[:, unit], materialize_grads=True
        )
        along = zip(gradients, inputs, baseline, strict=True)
        parts = Inputs(*(average(gradient, rule) * (x - b) for gradient, x, b in along))
        return game.gates.sum_over_players(parts)

    def _find(self, model: Recommender) -> tuple[str, int]:
        """The neuron's layer, and its place there."""
        places = {
            name: (layer, place)
            for layer, module in model.layers.items()
            for place, name in enumerate(module.neuron_names(layer))
        }
        if self.neuron not in places:
            sizes = [f"{name} ({len(layer.units)})" for name, layer in model.layers.items()]
            raise ValueError(
                f"explain.method.neuron: {type(model).__name__} has no neuron {self.neuron!r}"
                f"{did_you_mean(self.neuron, places)} (layers and their units: "
                f"{', '.join(sizes) or 'none'})"
            )
        return places[self.neuron]
