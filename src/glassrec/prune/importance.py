"""Importance scores, by which pruning to a budget ranks the neurons of a layer.

Scores of one layer compare with each other, not with those of another layer. Random and magnitude
are scores like any other, so that no result need be shown without its control.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.models.layers import PrunableLayer, activations
from glassrec.prune.guarantees.ranges import logits

Loss = Callable[[Recommender, Batch], Tensor]
"""The mean loss of a batch, a number."""


@dataclass(frozen=True)
class ActivationStatistics:
    """Statistics of a layer's activations over rows, and time steps; each (U,) float64."""

    mean: Tensor
    mean_abs: Tensor
    zero_share: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class CalibrationData:
    """The model and the rows that importance and means are computed from.

    Args:
        model: in evaluation mode.
        layers: those of its layers whose neurons are ranked, by name.
        conductance: neuron scores, see `file_list.NEURONS`, with a row for each of their neurons.
        rows: training rows, negatives among them.
        chunk: rows that pass the model at once.
        seed: of the random scores.
        loss: that of training; None where it is not known.
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
    def statistics(self) -> dict[str, ActivationStatistics]:
        """The statistics of each layer, from one pass."""
        sums: dict[str, Tensor] = {}
        calls: dict[str, int] = {}
        with torch.no_grad():
            for batch in self.batches():
                with activations(self.layers) as recorded:
                    logits(self.model, batch)
                for name, values in recorded.items():
                    sums[name] = sums.get(name, 0) + _moments(torch.cat(values))
                    calls[name] = len(values)  # once a time step in a recurrent layer
        found = {}
        for name, each in sums.items():
            mean, mean_abs, zero_share, square = each / (self.rows.rows * calls[name])
            deviation = (square - mean.square()).clamp_min(0).sqrt()
            found[name] = ActivationStatistics(mean, mean_abs, zero_share, deviation)
        return found

    def replacements(self, *, folded: bool) -> dict[str, Tensor]:
        """(U,) of each layer: the value that replaces a pruned neuron, its mean or zero."""
        if folded:
            return {name: each.mean for name, each in self.statistics.items()}
        return {n: torch.zeros(len(la.units)).double() for n, la in self.layers.items()}


def _moments(values: Tensor) -> Tensor:
    """(4, U): Σ a, Σ |a|, Σ [a = 0], Σ a² over (B, U)."""
    values = values.cpu().double()
    return torch.stack(
        [part.sum(0) for part in (values, values.abs(), values == 0, values.square())]
    )


class ImportanceScore(ABC):
    """Ranks the neurons of each layer: those with the lowest importance are pruned first."""

    name: ClassVar[str]
    """In a sentence: `neurons are ranked by NAME`; by default the name of the class."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = getattr(cls, "name", cls.__name__)

    @abstractmethod
    def compute(self, data: CalibrationData) -> dict[str, Tensor]:
        """The importance (U,) float64 of each layer's neurons, on the CPU: finite, any sign."""

    @final
    def importance(self, data: CalibrationData) -> dict[str, Tensor]:
        """What `compute` gives, checked; ValueError where it ranks not every neuron."""
        found = self.compute(data)
        for layer, neurons in ((n, len(each.units)) for n, each in data.layers.items()):
            each = found.get(layer)
            if each is None:
                problem = f"has no entry for the layer {layer!r}"
            elif each.shape != (neurons,):
                problem = f"gave shape {tuple(each.shape)} for the {neurons} neurons of {layer}"
            elif bad := int((~each.isfinite()).sum()):
                problem = f"gave NaN or infinity for {bad} of the {neurons} neurons of {layer}"
            else:
                continue
            raise ValueError(f"prune.score: {type(self).__name__}.compute {problem}; correct it")
        return found


@dataclass(frozen=True)
class ConductanceScore(ImportanceScore):
    """Mean |conductance| over the explained rows, or the result of another `explain/neurons`."""

    name: ClassVar[str] = "conductance"

    def compute(self, data: CalibrationData) -> dict[str, Tensor]:
        """The column mean_abs, in the order of the neurons."""
        scores = data.conductance.set_index(["layer", "unit"])["mean_abs"]
        return {
            name: torch.from_numpy(scores[name].loc[layer.units.tolist()].to_numpy(copy=True))
            for name, layer in data.layers.items()
        }


@dataclass(frozen=True)
class TaylorScore(ImportanceScore):
    """Mean |activation · gradient of the row's loss| (Molchanov et al., ICLR 2017).

    To first order it is how much the loss of a row changes if the activation becomes zero. Time
    steps of a recurrent layer are added up before the absolute value.
    """

    name: ClassVar[str] = "Taylor expansion of the loss"

    def compute(self, data: CalibrationData) -> dict[str, Tensor]:
        """One forward and one backward pass for all layers; ValueError where there is no loss."""
        if data.loss is None:
            raise ValueError("the Taylor score needs the loss of training; give one")
        sums: dict[str, Tensor] = {}
        for batch in data.batches() if data.layers else ():
            with activations(data.layers) as recorded, torch.enable_grad():
                loss = data.loss(data.model, batch)
            for name, effects in _effects(loss, recorded).items():
                each = (effects * batch.rows).abs().sum(0).cpu().double()  # the loss is a mean
                sums[name] = sums.get(name, 0) + each
        return {name: total / data.rows.rows for name, total in sums.items()}


def _effects(loss: Tensor, recorded: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """(B, U) of each layer: Σ over its calls of activation · gradient of the mean loss."""
    if uncalled := [name for name, values in recorded.items() if not values]:
        raise ValueError(
            f"the loss does not pass through the layer {uncalled[0]!r}, so that Taylor cannot rank "
            "its neurons; take another prune/score, or leave it out of prune.layers"
        )
    flat = [each for values in recorded.values() for each in values]
    gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True))
    effects = {}
    for name, values in recorded.items():
        parts = ((a, next(gradients)) for a in values)
        each = [a.detach() * g for a, g in parts if g is not None]
        effects[name] = torch.stack(each).sum(0) if each else torch.zeros_like(values[0])
    return effects


@dataclass(frozen=True)
class ActivationScore(ImportanceScore):
    """Mean |activation|."""

    name: ClassVar[str] = "activation"

    def compute(self, data: CalibrationData) -> dict[str, Tensor]:
        """From one forward pass."""
        return {name: each.mean_abs for name, each in data.statistics.items()}


@dataclass(frozen=True)
class ZerosScore(ImportanceScore):
    """The share of rows on which a neuron is active (APoZ: Hu et al., Network Trimming, 2016)."""

    name: ClassVar[str] = "share of zeros"

    def compute(self, data: CalibrationData) -> dict[str, Tensor]:
        """From one forward pass; activations other than ReLU's are hardly ever zero."""
        return {name: 1 - each.zero_share for name, each in data.statistics.items()}


@dataclass(frozen=True)
class MagnitudeScore(ImportanceScore):
    """The Euclidean norm of a neuron's incoming weights (Li et al., ICLR 2017, take the sum).

    For a neuron without weights of its own, such as a pair of an interaction, it is the norm of the
    outgoing weights, and 1 where there are none either.
    """

    name: ClassVar[str] = "weight magnitude"

    def compute(self, data: CalibrationData) -> dict[str, Tensor]:
        """From the weights alone."""
        return {
            name: _norm(layer.incoming_weights() or layer.outgoing_weights(), len(layer.units))
            for name, layer in data.layers.items()
        }


@dataclass(frozen=True)
class DeviationScore(ImportanceScore):
    """The standard deviation of a neuron times the Euclidean norm of its outgoing weights.

    That is what its consumers lose where its mean is folded into them. The norm counts as 1 where a
    consumer has no weights.
    """

    name: ClassVar[str] = "deviation × outgoing norm"

    def compute(self, data: CalibrationData) -> dict[str, Tensor]:
        """From one forward pass and the weights."""
        found = {}
        for name, layer in data.layers.items():
            norm = _norm(layer.outgoing_weights(), len(layer.units))
            found[name] = data.statistics[name].deviation * norm
        return found


@dataclass(frozen=True)
class RandomScore(ImportanceScore):
    """A random order: the control. It depends on the seed and on the names of the layers."""

    name: ClassVar[str] = "random"

    def compute(self, data: CalibrationData) -> dict[str, Tensor]:
        """Uniform numbers."""
        found = {}
        for name, layer in data.layers.items():
            random = np.random.default_rng([data.seed, *name.encode()])
            found[name] = torch.from_numpy(random.random(layer.size))[layer.units.cpu()]
        return found


def _norm(views: list[Tensor], neurons: int) -> Tensor:
    """(U,) float64: the Euclidean norm over all but the last dimension of all views."""
    if not views:
        return torch.ones(neurons, dtype=torch.float64)
    squares = [view.detach().cpu().double().square().flatten(0, -2).sum(0) for view in views]
    return torch.stack(squares).sum(0).sqrt()
