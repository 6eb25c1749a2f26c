"""DeepLIFT with a rule for products, so that it is complete on models that multiply features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glassrec.explain.masking import FeatureMask, MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.methods.multipliers import multipliers
from glassrec.models.base import Inputs, Recommender


@dataclass(frozen=True)
class DeepLift(Method):
    """DeepLIFT's rescale rule (Shrikumar et al., ICML 2017), and the midpoint rule for products."""

    title = "DeepLIFT, rescale and midpoint rules"
    complete = True

    def evaluations(self, features: int) -> int:
        """The row and its baseline."""
        return 2

    def check(self, model: Recommender, feature_mask: FeatureMask, baselines: int) -> None:
        """Lets a row of zeros pass, which finds functions that have no rule."""
        super().check(model, feature_mask, baselines)
        self.attribute_zeros(model, feature_mask)

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """Multipliers times differences; ValueError if a function has no rule."""
        *rows, steps = view.inputs
        *baselines, _ = view.masked_out

        def score(dense: Tensor, fields: Tensor, history: Tensor) -> Tensor:
            return view.model.task_logits(Inputs(dense, fields, history, steps))[:, view.task]

        # The marks of which steps exist are in no feature.
        found = *multipliers(view.model, score, rows, baselines), torch.zeros_like(steps)
        parts = (m * (x - b) for m, x, b in zip(found, view.inputs, view.masked_out, strict=True))
        return view.feature_mask.sum_by_feature(Inputs(*parts))


@dataclass(frozen=True)
class DeepLiftShap(DeepLift):
    """DeepLift averaged over training rows, which approximates their SHAP values.

    As in Lundberg and Lee (NeurIPS 2017). The average is that of `explain.baseline=background`.
    """

    title = "DeepLIFT SHAP, rescale and midpoint rules"
    averaged = True
