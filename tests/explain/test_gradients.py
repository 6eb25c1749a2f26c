"""Gradient methods against integrals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glassrec.data.batch import Batch
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.gradients import GradientShap, IntegratedGradients
from glassrec.models.base import Inputs, Recommender


@pytest.fixture
def pairs(build: Callable[..., Recommender], batch: Batch) -> MaskedModel:
    """4 rows, each beside each of 8 others."""
    model = build("neumf")
    inputs = Inputs(*(part.detach() for part in model.embed(batch)))
    row, other = torch.arange(4).repeat_interleave(8), torch.arange(4, 12).repeat(4)
    at, beside = (Inputs(*(part[places] for part in inputs)) for places in (row, other))
    return MaskedModel(
        model, build_feature_mask(model.schema, model.width, "fields", model.device), at, beside
    )


def _averaged(values: torch.Tensor) -> torch.Tensor:
    return values.view(4, 8, -1).mean(1)


def test_gradient_shap_comes_to_integrated_gradients(pairs: MaskedModel) -> None:
    exact = _averaged(IntegratedGradients(300).attribute(pairs, 0))

    def error(samples: int) -> float:
        runs = [_averaged(GradientShap(samples).attribute(pairs, seed)) for seed in range(8)]
        return torch.stack([(run - exact).square().mean() for run in runs]).mean().sqrt().item()

    few, many = error(4), error(1024)
    size = exact.square().mean().sqrt()
    assert many < 0.01 * size
    assert many < few / 4
    assert few > 0.001 * size, "these points are random"


def test_gradient_shap_is_unbiased_with_one_point(pairs: MaskedModel) -> None:
    runs = [_averaged(GradientShap(1).attribute(pairs, seed)) for seed in range(400)]
    found = torch.stack(runs)
    exact = _averaged(IntegratedGradients(300).attribute(pairs, 0))
    of_the_mean = found.std(0) / len(runs) ** 0.5
    assert ((found.mean(0) - exact).abs() < 4 * of_the_mean + 1e-6).all()


def test_a_row_has_its_own_points_whatever_rows_are_beside_it(pairs: MaskedModel) -> None:
    method = GradientShap(3)
    together = method.attribute(pairs, 5)
    part = slice(7, 11)
    inputs, base = (Inputs(*(p[part] for p in x)) for x in (pairs.inputs, pairs.baseline))
    view = MaskedModel(
        pairs.model, pairs.feature_mask, inputs, base, chunk=2, index=pairs.index[part]
    )
    torch.testing.assert_close(method.attribute(view, 5), together[part], rtol=0, atol=1e-6)
    assert not torch.allclose(method.attribute(pairs, 6), together, atol=1e-3)
    same = Inputs(*(p[[0, 0]] for p in pairs.inputs)), Inputs(*(p[[0, 0]] for p in pairs.baseline))
    first, second = method.attribute(MaskedModel(pairs.model, pairs.feature_mask, *same), 5)
    assert not torch.allclose(first, second, atol=1e-3)


def test_gradient_shap_refuses_a_single_baseline(pairs: MaskedModel) -> None:
    GradientShap().check(pairs.model, pairs.feature_mask, 2)
    with pytest.raises(ValueError, match=r"there is 1 baseline; set explain\.baseline=background"):
        GradientShap().check(pairs.model, pairs.feature_mask, 1)
