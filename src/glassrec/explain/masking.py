"""The masked view: a model whose features a mask switches between a baseline and the row.

A mask m in (B, P) is 1 where a feature is as it is and 0 where it is at its baseline; the model
gets `baseline + m · (inputs − baseline)`. Every explanation, Captum's included, evaluates this view
and its gradients, and none of them deals with embeddings or memory. By the chain rule, integrated
gradients by the mask equal integrated gradients by the inputs, summed over each feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from glassrec.models.base import Inputs, Recommender


def to_float64(values: Tensor) -> Tensor:
    """The values in float64, on the CPU where the device has no float64, as Apple's GPUs."""
    return (values.cpu() if values.device.type == "mps" else values).double()


@dataclass(frozen=True)
class FeatureMask:
    """Which of the L = D + F·E + T·E + T input values each of the P features consists of."""

    features: tuple[str, ...]
    feature_ids: Tensor
    """(L,) the feature of each value of the flattened inputs; −1 is in none and never masked"""

    def apply(self, mask: Tensor, inputs: Inputs, baseline: Inputs) -> Inputs:
        """The masked inputs: exactly the row's value where the mask (..., P) is 1, the baseline's
        where 0.

        Inputs and baseline have the same leading dimensions, or some that broadcast with them.
        """
        on = mask.new_ones(*mask.shape[:-1], 1)
        expanded = torch.cat([mask, on], -1).index_select(-1, self._columns)
        shapes = [part.shape[mask.ndim - 1 :] for part in inputs]
        columns = expanded.split([shape.numel() for shape in shapes], -1)
        parts = zip(inputs, baseline, columns, shapes, strict=True)
        return Inputs(
            *(torch.lerp(b, x, m.unflatten(-1, size).to(x.dtype)) for x, b, m, size in parts)
        )

    def sum_by_feature(self, values: Inputs) -> Tensor:
        """(B, P): the sums of values (B, ...), one for each input value, over each feature."""
        flat = torch.cat([part.flatten(1) for part in values], 1)
        total = flat.new_zeros(flat.shape[0], len(self.features) + 1)
        return total.index_add_(1, self._columns.to(flat.device), flat)[:, :-1]

    @property
    def _columns(self) -> Tensor:
        """(L,): the feature of each value, P for those in none."""
        return self.feature_ids.where(self.feature_ids >= 0, len(self.features))


@dataclass(frozen=True)
class MaskedModel:
    """The logit of B rows, each with a baseline of its own, as a function of masks of P features.

    Args:
        model: in evaluation mode.
        feature_mask: the features.
        inputs: B embedded rows.
        baseline: their B baselines.
        task: the column of the logits that is explained.
        chunk: how many masked rows pass the model at once; bounds the memory.
        index: (B,) the number of each row among all that are explained, for random draws that do
            not depend on how rows are chunked; 0, 1, ... if not given.
    """

    model: Recommender
    feature_mask: FeatureMask
    inputs: Inputs
    baseline: Inputs
    task: int = 0
    chunk: int = 16384
    index: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def __post_init__(self) -> None:
        if not len(self.index):
            object.__setattr__(self, "index", torch.arange(self.rows))
        assert len(self.index) == self.rows, "each row has a number"

    @property
    def rows(self) -> int:
        """The number of rows B."""
        return self.inputs.rows

    @property
    def size(self) -> int:
        """The number of features P."""
        return len(self.feature_mask.features)

    @property
    def float64_device(self) -> torch.device:
        """Where `to_float64` puts values of these rows."""
        device = self.inputs.dense.device
        return torch.device("cpu") if device.type == "mps" else device

    @cached_property
    def masked_out(self) -> Inputs:
        """The rows with all features at the baseline; values in no feature stay as they are."""
        return self.feature_mask.apply(self._full(0), self.inputs, self.baseline)

    @cached_property
    def difference(self) -> Tensor:
        """(B,) float64: the logit of each row minus that with all features at the baseline."""
        on, off = self.logits(torch.stack([self._full(1), self._full(0)], 1)).unbind(1)
        return on - off

    def chunks(self, masks: int) -> Iterator[MaskedModel]:
        """Views of so few rows each that their logits at so many masks take little memory."""
        return self.split(max(1, 16 * self.chunk // masks))

    def split(self, rows: int) -> Iterator[MaskedModel]:
        """Views of `rows` rows each."""
        for first in range(0, self.rows, rows):
            some = slice(first, first + rows)
            inputs, baseline = (
                Inputs(*(part[some] for part in each)) for each in (self.inputs, self.baseline)
            )
            yield replace(self, inputs=inputs, baseline=baseline, index=self.index[some])

    @torch.no_grad()
    def logits(self, masks: Tensor) -> Tensor:
        """The logits (B, C), float64, at C masks: (C, P) for all rows, or (B, C, P)."""
        found = [self._score(mask, *rows).flatten() for mask, rows in self._tiles(masks)]
        return to_float64(torch.cat(found)).view(self.rows, masks.shape[-2])

    def gradients(self, masks: Tensor) -> Tensor:
        """The logit's gradients (B, C, P) by the mask, at C masks: (C, P), or (B, C, P)."""
        found: list[Tensor] = []
        for mask, rows in self._tiles(masks):
            own = mask.repeat(rows[0].rows // len(mask), 1, 1).requires_grad_()
            total = self._score(own, *rows).sum()
            # A feature that the model does not read has no gradient: it moves nothing.
            (gradient,) = torch.autograd.grad(total, own, materialize_grads=True)
            found.append(gradient.flatten(0, 1))
        return torch.cat(found).view(self.rows, masks.shape[-2], self.size)

    def _tiles(self, masks: Tensor) -> Iterator[tuple[Tensor, tuple[Inputs, Inputs]]]:
        """Masks (R, C, P) or (1, C, P), with R rows and their baselines (R, 1, ...), row by row."""
        masks = masks.to(self.inputs.dense)
        at_once = max(1, self.chunk // masks.shape[-2])
        for first in range(0, self.rows, at_once):
            rows = slice(first, first + at_once)
            inputs, baseline = (
                Inputs(*(part[rows].unsqueeze(1) for part in each))
                for each in (self.inputs, self.baseline)
            )
            own = masks[rows] if masks.ndim == 3 else masks.unsqueeze(0)
            for mask in own.split(self.chunk, 1):
                yield mask, (inputs, baseline)

    def _score(self, mask: Tensor, inputs: Inputs, baseline: Inputs) -> Tensor:
        masked = self.feature_mask.apply(mask, inputs, baseline)
        flat = Inputs(*(part.flatten(0, 1) for part in masked))
        return self.model.task_logits(flat)[:, self.task]

    def _full(self, value: float) -> Tensor:
        return self.inputs.dense.new_full((self.rows, self.size), value)
