"""The rows on which methods are evaluated, with their baselines and with other data rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.models.base import Inputs, Recommender


@dataclass(frozen=True)
class Sample:
    """B explained rows, few enough that their results fit into memory at once.

    Args:
        view: B · M rows: each explained row M times in succession, with the M baselines.
        references: B embedded rows of the data, whose values can replace those that are removed.

    Raises:
        ValueError: the rows of the view are no multiple of the reference rows.
    """

    view: MaskedModel
    references: Inputs

    def __post_init__(self) -> None:
        if not self.rows or self.view.rows % self.rows:
            raise ValueError(
                f"a sample needs one reference row for each explained row, and got {self.rows} for "
                f"a view of {self.view.rows} rows, which is no multiple"
            )

    @property
    def rows(self) -> int:
        """The number of explained rows B."""
        return self.references.rows

    @property
    def background(self) -> int:
        """The number of baselines M of a row."""
        return self.view.rows // self.rows

    @property
    def inputs(self) -> Inputs:
        """The B explained rows."""
        return Inputs(*(part[:: self.background] for part in self.view.inputs))

    @cached_property
    def difference(self) -> Tensor:
        """(B,) float64: the logit minus its mean with all features at each of the baselines."""
        return self._averaged(self.view.difference)

    def logits(self, masks: Tensor) -> Tensor:
        """The logits (B, C), float64, at C masks (C, P), averaged over the baselines."""
        return self._averaged(self.view.logits(masks))

    def attributions(self, method: Method, seed: int) -> Tensor:
        """The attributions (B, P) by a method, averaged over the baselines.

        Raises:
            ValueError: the method cannot explain this model, or so many features.
        """
        at_once = max(1, self.view.chunk // method.evaluations(self.view.size))
        found = [method.attribute(part, seed).detach() for part in self.view.split(at_once)]
        return self._averaged(torch.cat(found))

    def with_reference_rows(self) -> MaskedModel:
        """The B rows with the reference rows as their baselines."""
        return replace(
            self.view,
            inputs=self.inputs,
            baseline=self.references.expand_to(self.inputs),
            index=self.view.index[:: self.background],
        )

    def with_inputs(self, inputs: Inputs) -> Sample:
        """The sample with B other inputs in the place of those explained."""
        repeated = Inputs(*(part.repeat_interleave(self.background, 0) for part in inputs))
        return replace(self, view=replace(self.view, inputs=repeated))

    def with_model(self, model: Recommender) -> Sample:
        """The sample with another model for the same inputs."""
        return replace(self, view=replace(self.view, model=model))

    def first(self, rows: int) -> Sample:
        """The sample of the first of the rows."""
        view = next(self.view.split(rows * self.background))
        return Sample(view, Inputs(*(part[:rows] for part in self.references)))

    def _averaged(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (self.rows, self.background)).mean(1)
