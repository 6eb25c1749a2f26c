"""Faithfulness: whether attributions predict the change of the logit when inputs are removed.

A `Sample` has the rows on which methods are evaluated, with their baselines and other data rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.masking import FeatureMask, MaskedModel, to_float64
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
        """The attributions (B, P), averaged over the baselines; ValueError if it has none."""
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


class Curves(NamedTuple):
    """The mean logit as features are replaced, or restored, one after the other."""

    frame: pd.DataFrame
    """kind (deletion or insertion), order (method or random), share (of the features that were
    replaced or restored), mean_logit (over rows)"""
    areas: dict[str, float]
    """deletion, insertion, deletion_random, insertion_random"""


def curves(sample: Sample, values: Tensor, steps: int, seed: int) -> Curves:
    """Deletion and insertion curves (Petsiuk, Das and Saenko, BMVC 2018), with a random reference.

    Features go in the order of their signed attributions (B, P), those that raise the logit most
    first. A deleted feature has the value of another data row; insertion starts from that row. So
    every value is one of the data. Fewer features than `steps` take one step each; a random order
    comes with its reverse, so that luck evens out.

    With m(s) the mean logit at share s, and Δ the mean over rows of |logit − that of the other
    row|, the areas are ∫ (m(0) − m(s)) ds / Δ for deletion and ∫ (m(s) − m(0)) ds / Δ for
    insertion, by the trapezoid rule. For both, the larger and the further above a random order, the
    more faithful. NaN if no feature moves a logit.
    """
    view = sample.with_reference_rows()
    counts = torch.linspace(0, view.size, min(steps, view.size) + 1).round()
    random = torch.rand(values.shape, generator=torch.Generator().manual_seed(seed))
    scale = view.difference.abs().mean().item()
    frames, areas = [], {}
    shares = counts.double() / view.size
    for order, rankings in (("method", [values]), ("random", [random, -random])):
        found = [view.logits(_nested(ranked.to(values), counts)).mean(0) for ranked in rankings]
        means = torch.stack(found).mean(0).cpu().view(2, -1)
        ends = "" if order == "method" else "_random"
        for kind, sign, mean in zip(("deletion", "insertion"), (-1, 1), means, strict=True):
            columns = {"share": shares.numpy(), "mean_logit": mean.numpy()}
            frames.append(pd.DataFrame({"kind": kind, "order": order, **columns}))
            area = torch.trapezoid(sign * (mean - mean[0]), shares).item()
            areas[kind + ends] = area / scale if scale else float("nan")
    return Curves(pd.concat(frames, ignore_index=True), areas)


def _nested(ranked: Tensor, counts: Tensor) -> Tensor:
    """Masks (B, 2 C, P) without, then with only, the first k features by falling rank, for C k."""
    place = ranked.argsort(dim=1, descending=True, stable=True).argsort(1)
    reached = place.unsqueeze(1) < counts.to(place).view(1, -1, 1)
    return torch.cat([~reached, reached], 1)


def subsets(features: int, count: int, seed: int) -> Tensor:
    """Random sets of features, 1 = in: (C, P); the share of each is drawn uniformly."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(count, 1, generator=generator)
    return (torch.rand(count, features, generator=generator) < share).double()


def infidelity(sample: Sample, values: Tensor, removed: Tensor) -> float:
    """The error of attributions φ (B, P) in the logit's fall (Yeh et al., NeurIPS 2019).

    E (Σ φ of I − (f(x) − f(x without I)))² over rows and sets I (C, P), 1 = in, at the baseline in
    x without I, as `captum.metrics.infidelity` has it; divided by E (f(x) − f(x without I))², so
    that models compare: 0 is perfect, and 1 is no better than attributions of zero. Not finite if
    no set moves a logit.
    """
    whole = removed.new_zeros(1, removed.shape[1])
    logits = sample.logits(1 - torch.cat([whole, removed]))
    fall = logits[:, :1] - logits[:, 1:]
    error = to_float64(values) @ removed.to(fall).T - fall
    return (error.square().mean() / fall.square().mean()).item()


def removals(views: Mapping[str, Iterable[MaskedModel]]) -> pd.DataFrame:
    """The effect of removing a whole part of the inputs, whatever the features are.

    `views` are rows with their replacements, some at a time, by the replacement's name.

    Returns:
        one row for each part that the model reads and each replacement: removed (dense, fields or
            history), replacement, positive_before, positive_after (shares of rows with a logit
            above 0: predicted clicks), mean_logit_before, mean_logit_after.
    """
    frames = []
    for replacement, some in views.items():
        parts, found = zip(*(_without_each_part(view) for view in some), strict=True)
        logits = torch.cat(found)
        positive, mean = (logits > 0).double().mean(0).tolist(), logits.mean(0).tolist()
        columns = {
            "removed": parts[0],
            "replacement": replacement,
            "positive_before": positive[0],
            "positive_after": positive[1:],
            "mean_logit_before": mean[0],
            "mean_logit_after": mean[1:],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _without_each_part(view: MaskedModel) -> tuple[tuple[str, ...], Tensor]:
    """The K parts of the inputs; the logits (B, 1 + K) with all, and without each."""
    sizes = {name: part[0].numel() for name, part in view.inputs._asdict().items()}
    parts = tuple(name for name, size in sizes.items() if size and name != "steps")
    part_ids = torch.tensor([parts.index(name) if name in parts else -1 for name in sizes])
    ids = part_ids.repeat_interleave(torch.tensor(list(sizes.values())))
    mask = FeatureMask(parts, ids.to(view.inputs.dense.device))
    masks = torch.cat([torch.ones(1, len(parts)), 1 - torch.eye(len(parts))])
    return parts, replace(view, feature_mask=mask).logits(masks)
