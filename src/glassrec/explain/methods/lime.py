"""LIME: a linear model of the logit around each row, fitted for all rows at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from glassrec.explain.masking import MaskedModel, to_float64
from glassrec.explain.methods import Method
from glassrec.models.base import Inputs

DEFICIENT = 1e-6
"""The share of a Cholesky factor's largest pivot below which features cannot be distinguished."""


@dataclass(frozen=True)
class Lime(Method):
    """LIME (Ribeiro, Singh and Guestrin, KDD 2016): the slopes of a weighted least squares fit.

    Each feature is kept or masked by the toss of a coin, and a logit weighs the more the nearer the
    perturbed row is to the row itself: exp(−d² / (2 width²)), as in Captum. All rows share the
    perturbations, so that a row's values do not depend on other rows, and without a kernel one
    factorisation solves all rows. The error of the draw is then common to all rows and does not
    average out over them: another seed shows it. The slopes need not add up to the difference.

    Args:
        samples: perturbations; 2,048 or eight a feature, whichever is more, if None.
        kernel: d is the distance, or one minus the cosine, between the row and its perturbed
            version, both as vectors of all their input values, masked or not; or none, and all
            weigh the same.
        width: of the kernel, in units of d.
        ridge: the penalty on the sum of squared slopes, as `alpha` of scikit-learn's `Ridge`.
    """

    sampled = True

    samples: Annotated[int, Ge(3)] | None = None
    kernel: Literal["euclidean", "cosine", "none"] = "cosine"
    width: Annotated[float, Gt(0)] = 0.25
    ridge: Annotated[float, Ge(0)] = 0.0

    @property
    def name(self) -> str:
        """With its samples and its kernel."""
        samples = "LIME" if self.samples is None else f"LIME, {self.samples} samples"
        if self.kernel == "none":
            return f"{samples}, no kernel"
        return f"{samples}, {self.kernel} kernel of width {self.width:g}"

    def evaluations(self, features: int) -> int:
        """One for each perturbation; ValueError if they do not determine the fit."""
        samples = max(2048, 8 * features) if self.samples is None else self.samples
        if samples < features + 2 and not self.ridge:
            raise ValueError(
                f"LIME cannot fit {features} features and an intercept to {samples} samples; set "
                f"explain.method.samples to {features + 2} at least, better to several times as "
                "many, or explain.method.ridge above 0"
            )
        return samples

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """The slopes of each row, computed in float64; of the smallest norm, if not determined.

        Raises:
            ValueError: there are too few samples, or a row whose perturbations all have no weight.
        """
        on = _perturbations(self.evaluations(view.size), view.size, seed).to(view.float64_device)
        return torch.cat([self._slopes(part, on) for part in view.chunks(len(on))])

    def _slopes(self, view: MaskedModel, on: Tensor) -> Tensor:
        logits = view.logits(on)
        # Around zero, where the intercept is hardly tied to the slopes.
        design = torch.cat([on - 0.5, torch.ones_like(on[:, :1])], 1)
        penalty = torch.full_like(design[0], self.ridge)
        penalty[-1] = 0
        if self.kernel == "none":
            every = logits.new_ones(1, len(on))
            found = _least_squares(design, every, logits.T.unsqueeze(0), penalty).squeeze(0).T
        else:
            at_once = max(1, 16 * view.chunk // design.numel())
            parts = self._weights(view, on).split(at_once), logits.unsqueeze(2).split(at_once)
            found = torch.cat(
                [_least_squares(design, *part, penalty) for part in zip(*parts, strict=True)]
            ).squeeze(2)
        return found[:, :-1].to(view.inputs.dense)

    def _weights(self, view: MaskedModel, on: Tensor) -> Tensor:
        distance = _euclidean if self.kernel == "euclidean" else _cosine
        weights = torch.exp(-(distance(view, on) ** 2) / (2 * self.width**2))
        if not weights.any(1).all():
            raise ValueError(
                f"LIME's {self.kernel} kernel of width {self.width:g} gives no weight to any "
                "perturbation of some row: take a larger explain.method.width"
            )
        return weights


def _perturbations(samples: int, features: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, (samples, features), generator=generator).double()


def _least_squares(design: Tensor, weights: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """The minima (G, K, R) of Σ weight · (target − design · x)² + Σ penalty · x², of G problems.

    `design` is (C, K), `weights` (G, C), `targets` (G, C, R), `penalty` (K,).
    """
    weighted = (design * weights.unsqueeze(2)).mT
    gram, right = weighted @ design + penalty.diag(), weighted @ targets
    factor, failed = torch.linalg.cholesky_ex(gram)
    pivots = factor.diagonal(dim1=1, dim2=2)
    poor = (failed > 0) | (pivots.amin(1) < DEFICIENT * pivots.amax(1))
    found = torch.cholesky_solve(right, factor)
    if poor.any():
        inverse = torch.linalg.pinv(gram[poor], hermitian=True, rtol=DEFICIENT**2)
        found[poor] = inverse @ right[poor]
    return found


def _euclidean(view: MaskedModel, on: Tensor) -> Tensor:
    """(B, C): the distance of each perturbed row from the row."""
    moved = (to_float64(x) - to_float64(b) for x, b in zip(view.inputs, view.baseline, strict=True))
    squares = view.feature_mask.sum_by_feature(Inputs(*(part.square() for part in moved)))
    return (squares @ (1 - on).T).sqrt()


def _cosine(view: MaskedModel, on: Tensor) -> Tensor:
    """(B, C): one minus the cosine between each row and its perturbed version."""
    row, base = (Inputs(*map(to_float64, each)) for each in (view.inputs, view.baseline))
    of_row, rest = _products(view, row, row)
    of_both, of_base = _products(view, row, base)[0], _products(view, base, base)[0]
    off = (1 - on).T
    kept = of_row @ on.T + rest.unsqueeze(1)
    squares = (of_row.sum(1) + rest).unsqueeze(1), kept + of_base @ off
    # No vector is shorter than 1e-8: as in Captum, a right angle lies between it and a row.
    first, second = (square.clamp_min(1e-16).sqrt() for square in squares)
    return 1 - (kept + of_both @ off) / (first * second)


def _products(view: MaskedModel, left: Inputs, right: Inputs) -> tuple[Tensor, Tensor]:
    """The rows' dot products over each feature (B, P), and over values in no feature (B,)."""
    terms = Inputs(*(x * y for x, y in zip(left, right, strict=True)))
    # The marks of which steps exist are no input.
    terms = terms._replace(steps=torch.zeros_like(terms.steps))
    masked = view.feature_mask.sum_by_feature(terms)
    return masked, sum(part.flatten(1).sum(1) for part in terms) - masked.sum(1)
