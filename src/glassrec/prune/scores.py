"""What a unit is worth: the scores by which an approximate cut ranks the units of a layer.

Those of one layer compare with each other, not with those of another layer. Random and magnitude
are scores like any other, so that no result need be shown without its control.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.models.layers import PrunableLayer, activations
from glassrec.prune.constants import score

Loss = Callable[[Recommender, Batch], Tensor]
"""The mean loss of a batch, a number."""


@dataclass(frozen=True)
class Activity:
    """What the units of a layer emit over rows, and time steps; each (U,) float64."""

    mean: Tensor
    mean_abs: Tensor
    zero_share: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class Evidence:
    """What scores may look at.

    Args:
        model: in evaluation mode.
        layers: those of its layers whose units are ranked, by name.
        conductance: neuron scores, see `artifacts.Table`, with a row for each of their units.
        rows: training rows, negatives among them.
        chunk: rows that pass the model at once.
        seed: of what is drawn.
        loss: what training descended; None where it is not known.
    """

    model: Recommender
    layers: Mapping[str, PrunableLayer]
    conductance: pd.DataFrame
    rows: Batch
    chunk: int
    seed: int
    loss: Loss | None = None

    def batches(self) -> Iterator[Batch]:
        """The rows in chunks, on the model's device."""
        return (batch.to(self.model.device) for batch in self.rows.chunks(self.chunk))

    @cached_property
    def activity(self) -> dict[str, Activity]:
        """What each layer emits, from one pass."""
        sums: dict[str, Tensor] = {}
        calls: dict[str, int] = {}
        with torch.no_grad():
            for batch in self.batches():
                with activations(self.layers) as heard:
                    score(self.model, batch)
                for name, emissions in heard.items():
                    sums[name] = sums.get(name, 0) + _moments(torch.cat(emissions))
                    calls[name] = len(emissions)  # once a time step in a recurrent layer
        return {name: _activity(sums[name] / (self.rows.rows * calls[name])) for name in sums}

    @property
    def means(self) -> dict[str, Tensor]:
        """(U,) of each layer: what a unit emits on average."""
        return {name: each.mean for name, each in self.activity.items()}

    def stand_ins(self, *, folded: bool) -> dict[str, Tensor]:
        """(U,) of each layer: what takes the place of a unit that goes, its mean or zero."""
        if folded:
            return self.means
        return {n: torch.zeros(len(la.units)).double() for n, la in self.layers.items()}


def _moments(emitted: Tensor) -> Tensor:
    """(4, U): Σ a, Σ |a|, Σ [a = 0], Σ a² over (B, U)."""
    emitted = emitted.cpu().double()
    return torch.stack(
        [part.sum(0) for part in (emitted, emitted.abs(), emitted == 0, emitted.square())]
    )


def _activity(means: Tensor) -> Activity:
    mean, mean_abs, zero_share, square = means
    return Activity(mean, mean_abs, zero_share, (square - mean.square()).clamp_min(0).sqrt())


class Score(ABC):
    """Ranks the units of each layer: those of the least worth go first."""

    name: ClassVar[str]
    """In a sentence: `cut by NAME`."""

    @abstractmethod
    def of(self, evidence: Evidence) -> dict[str, Tensor]:
        """The worth (U,) float64 of each layer's units, on the CPU."""


@dataclass(frozen=True)
class Conductance(Score):
    """Mean |conductance| over the explained rows (Dhamdhere, Sundararajan and Yan, 2019).

    It is what `explain/neurons` has found, so that another choice there ranks by its own numbers.
    """

    name: ClassVar[str] = "conductance"

    def of(self, evidence: Evidence) -> dict[str, Tensor]:
        """The column mean_abs, in the order of the units."""
        worth = evidence.conductance.set_index(["layer", "unit"])["mean_abs"]
        return {
            name: torch.from_numpy(worth[name].loc[layer.units.tolist()].to_numpy(copy=True))
            for name, layer in evidence.layers.items()
        }


@dataclass(frozen=True)
class Taylor(Score):
    """Mean |activation · gradient of the row's loss| (Molchanov et al., ICLR 2017).

    To first order it is how much the loss of a row changes if the unit emits zero. Time steps of a
    recurrent layer are added up before the absolute value.
    """

    name: ClassVar[str] = "Taylor expansion of the loss"

    def of(self, evidence: Evidence) -> dict[str, Tensor]:
        """One forward and one backward pass for all layers; ValueError where there is no loss."""
        if evidence.loss is None:
            raise ValueError("Taylor needs the loss that training descended; give one")
        sums: dict[str, Tensor] = {}
        for batch in evidence.batches() if evidence.layers else ():
            with activations(evidence.layers) as heard, torch.enable_grad():
                loss = evidence.loss(evidence.model, batch)
            for name, effects in _effects(loss, heard).items():
                each = (effects * batch.rows).abs().sum(0).cpu().double()  # the loss is a mean
                sums[name] = sums.get(name, 0) + each
        return {name: total / evidence.rows.rows for name, total in sums.items()}


def _effects(loss: Tensor, heard: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """(B, U) of each layer: Σ over its calls of activation · gradient of the mean loss."""
    silent = [name for name, emissions in heard.items() if not emissions]
    if silent:
        raise ValueError(
            f"the loss does not pass through the layer {silent[0]!r}, so that Taylor cannot rank "
            "its units; take another prune/score, or leave it out of prune.layers"
        )
    flat = [emission for emissions in heard.values() for emission in emissions]
    found = torch.autograd.grad(loss, flat, allow_unused=True)
    gradients = iter(found)
    effects = {}
    for name, emissions in heard.items():
        parts = ((a, next(gradients)) for a in emissions)
        each = [a.detach() * g for a, g in parts if g is not None]
        effects[name] = torch.stack(each).sum(0) if each else torch.zeros_like(emissions[0])
    return effects


@dataclass(frozen=True)
class Activation(Score):
    """Mean |activation|."""

    name: ClassVar[str] = "activation"

    def of(self, evidence: Evidence) -> dict[str, Tensor]:
        """From one forward pass."""
        return {name: activity.mean_abs for name, activity in evidence.activity.items()}


@dataclass(frozen=True)
class Zeros(Score):
    """The share of rows on which a unit is not zero (APoZ: Hu et al., Network Trimming, 2016)."""

    name: ClassVar[str] = "share of zeros"

    def of(self, evidence: Evidence) -> dict[str, Tensor]:
        """From one forward pass; what is not a ReLU is hardly ever zero."""
        return {name: 1 - activity.zero_share for name, activity in evidence.activity.items()}


@dataclass(frozen=True)
class Magnitude(Score):
    """The Euclidean norm of the weights that make a unit (Li et al., ICLR 2017, take the sum).

    Where a unit has no weights of its own, such as a pair of an interaction, it is the norm of
    those that it is read with, and 1 where there are none either.
    """

    name: ClassVar[str] = "weight magnitude"

    def of(self, evidence: Evidence) -> dict[str, Tensor]:
        """From the weights alone."""
        return {
            name: _norm(layer.incoming_weights() or layer.outgoing_weights(), len(layer.units))
            for name, layer in evidence.layers.items()
        }


@dataclass(frozen=True)
class Deviation(Score):
    """The standard deviation of a unit times the Euclidean norm of the weights that read it.

    That is what its readers lose where its mean is folded into them. The norm counts as 1 where a
    reader weighs nothing.
    """

    name: ClassVar[str] = "deviation × outgoing norm"

    def of(self, evidence: Evidence) -> dict[str, Tensor]:
        """From one forward pass and the weights."""
        return {
            name: evidence.activity[name].deviation
            * _norm(layer.outgoing_weights(), len(layer.units))
            for name, layer in evidence.layers.items()
        }


@dataclass(frozen=True)
class Random(Score):
    """An order at random: the control. It depends on the seed and on the names of the layers."""

    name: ClassVar[str] = "random"

    def of(self, evidence: Evidence) -> dict[str, Tensor]:
        """Uniform numbers."""
        found = {}
        for name, layer in evidence.layers.items():
            letters = [*name.encode()]
            random = np.random.default_rng([evidence.seed, *letters])
            found[name] = torch.from_numpy(random.random(layer.size))[layer.units.cpu()]
        return found


def _norm(views: list[Tensor], units: int) -> Tensor:
    """(U,) float64: the Euclidean norm over all but the last dimension of all views."""
    if not views:
        return torch.ones(units, dtype=torch.float64)
    squares = [view.detach().cpu().double().square().flatten(0, -2).sum(0) for view in views]
    return torch.stack(squares).sum(0).sqrt()
