"""Rank correlation, sensitivity and randomisation against SciPy, Captum and formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan, pi, sqrt

import numpy as np
import pytest
import scipy.stats
import torch
from captum.metrics import sensitivity_max
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.explain.evaluation.faithfulness import Sample
from glassrec.explain.evaluation.method_comparison import (
    nearby,
    randomisation,
    randomize_weights,
    rank_agreement,
    seed_agreement,
    sensitivity,
)
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.methods.coalitions import Shapley
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.methods.kernel_shap import KernelShap
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender


def _sample(model: Recommender, batch: Batch) -> Sample:
    """Six rows beside their mean, and the six others."""
    rows = Inputs(*(part.detach().double() for part in model.double().embed(batch)))
    inputs, others = (Inputs(*(part[at] for part in rows)) for at in (slice(6), slice(6, 12)))
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    return Sample(
        MaskedModel(model, mask, inputs, build_baseline(model, "mean", inputs).expand_to(inputs)),
        others,
    )


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_rank_agreement_is_scipys(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(40, 9, generator=generator).to(dtype) for _ in range(2))
    first[:20] = first[:20].round()  # many ties
    second[10:30] = (2 * second[10:30]).round()
    expected = [
        scipy.stats.spearmanr(a, b).statistic
        for a, b in zip(first.numpy(), second.numpy(), strict=True)
    ]
    np.testing.assert_allclose(rank_agreement(first, second), expected, rtol=0, atol=1e-12)


def test_a_row_without_order_has_no_rank_agreement() -> None:
    first = torch.tensor([[1.0, 2, 3], [4, 4, 4], [3, 1, 2]])
    found = rank_agreement(first, torch.tensor([[9.0, 8, 7], [1, 2, 3], [30, 10, 20]]))
    assert found[[0, 2]].tolist() == pytest.approx([-1, 1])
    assert found[1].isnan()


@dataclass(frozen=True)
class Noisy(IntegratedGradients):
    """Right but for what is drawn."""

    sampled = True
    noise: float = 1.0

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        parts = super().attribute(view, seed)
        generator = torch.Generator().manual_seed(seed)
        return parts + self.noise * torch.randn(parts.shape, generator=generator)


def test_agreement_falls_with_the_noise_of_a_method(
    linear: Callable[..., Sample], arbitrary: Method
) -> None:
    sample = linear(torch.linspace(-2, 2, 20), rows=100)
    found = [seed_agreement(Noisy(noise=noise), sample, (0, 1)) for noise in (0.0, 0.3, 3.0)]
    assert found[0] == 1
    assert 0.99 > found[1] > 0.5 > found[2]
    assert seed_agreement(arbitrary, sample, (0, 1)) == pytest.approx(0, abs=0.1)
    assert seed_agreement(Noisy(), sample, (7, 7)) == 1
    assert isnan(seed_agreement(IntegratedGradients(), sample, (0, 1)))
    # Of few features all coalitions are taken.
    assert isnan(seed_agreement(KernelShap(), linear(torch.ones(4), rows=5), (0, 1)))


def test_nearby_inputs_fill_a_box_of_the_spread_of_each_number(
    build: Callable[..., Recommender], batch: Batch
) -> None:
    inputs = _sample(build("lstm"), batch).inputs
    inputs.fields[:, 0, 0] = 3.0
    points = [*nearby(inputs, 0.5, 400, seed=1)]
    for leaf in ("dense", "fields", "history"):
        rows = getattr(inputs, leaf)
        moves = torch.stack([getattr(point, leaf) for point in points]) - rows
        real = torch.ones_like(rows)
        if leaf == "history":
            real *= inputs.steps.unsqueeze(2)
        far = torch.from_numpy(0.5 * rows.numpy().std(0)) * real
        assert (moves.abs() <= far + 1e-12).all()
        assert (moves.abs().amax(0) >= 0.95 * far).all()
    assert all(torch.equal(point.steps, inputs.steps) for point in points)
    again = next(nearby(inputs, 0.5, 1, seed=1))
    assert torch.equal(again.fields, points[0].fields)
    assert not torch.equal(points[1].fields, points[0].fields)


@pytest.mark.parametrize("name", ["dlrm", "neumf"])
@pytest.mark.parametrize("method", [IntegratedGradients(4), Shapley()])
def test_sensitivity_is_that_of_captum_on_the_same_points(
    build: Callable[..., Recommender], batch: Batch, name: str, method: Method
) -> None:
    sample = _sample(build(name), batch)
    points = [*nearby(sample.inputs, 0.3, 4, seed=2)]

    def explain(leaves: tuple[Tensor, ...]) -> tuple[Tensor]:
        count = len(leaves[0]) // sample.rows
        base = Inputs(*(part.repeat_interleave(count, 0) for part in sample.view.baseline))
        view = MaskedModel(
            sample.view.model, sample.view.feature_mask, Inputs(*leaves, base.steps), base
        )
        with torch.enable_grad():  # which Captum turns off
            return (method.attribute(view, 0),)

    def perturb(_: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.stack(part, 1).flatten(0, 1) for part in zip(*points, strict=True))[:3]

    relative = sensitivity_max(explain, sample.inputs[:3], perturb, n_perturb_samples=4)
    norms = sample.attributions(method, 0).norm(dim=1)
    expected = ((relative * norms).mean() / norms.mean()).item()
    assert expected > 0.01
    assert sensitivity(method, sample, points, 0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("background", [1, 3])
def test_sensitivity_of_a_linear_model_is_known(
    linear: Callable[..., Sample], background: int
) -> None:
    weights = torch.linspace(-1, 3, 5)
    sample = linear(weights, background=background)
    points = [*nearby(sample.inputs, 0.2, 6, seed=0)]
    moves = torch.stack([(point.dense - sample.inputs.dense) * weights for point in points])
    base = sample.view.baseline.dense.view(-1, background, 5).mean(1)
    parts = (sample.inputs.dense - base) * weights
    expected = moves.norm(dim=2).amax(0).mean() / parts.norm(dim=1).mean()
    found = sensitivity(IntegratedGradients(2), sample, points, 0)
    assert found == pytest.approx(expected.item(), rel=1e-6)


def test_the_draws_of_a_method_are_not_taken_for_sensitivity(
    linear: Callable[..., Sample], arbitrary: Method
) -> None:
    sample = linear(torch.ones(4))
    assert sensitivity(arbitrary, sample, nearby(sample.inputs, 0.2, 3, seed=0), 0) == 0


def test_weights_drawn_anew_are_those_of_the_model_shuffled(model: Recommender) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = randomize_weights(model, seed=1)
    assert copy.table is model.table
    assert not copy.training
    names = [name for name, _ in model.named_parameters() if not name.startswith("table")]
    for name in names:
        old, new = model.get_parameter(name), copy.get_parameter(name)
        assert new is not old
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values)
        if old.unique().numel() > 10:
            assert not torch.equal(old, new)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@dataclass(frozen=True)
class Blind(Method):
    """How far each input is from its baseline, whatever the model."""

    name = "blind"

    def evaluations(self, features: int) -> int:
        return 1

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        moved = (x - b for x, b in zip(view.inputs, view.baseline, strict=True))
        return view.feature_mask.sum_by_feature(Inputs(*moved))


def test_randomisation_tells_a_method_that_does_not_look_at_the_model(
    linear: Callable[..., Sample],
) -> None:
    generator = torch.Generator().manual_seed(0)
    sample = linear(torch.randn(60, generator=generator), rows=200)
    assert randomisation(Blind(), sample, models=2, seed=0) == pytest.approx(1)
    found = randomisation(IntegratedGradients(2), sample, models=20, seed=0)
    assert found == pytest.approx(sqrt(2 / (pi * 59)), abs=0.03)


def test_randomisation_of_a_model_without_weights_is_not_known(
    build: Callable[..., Recommender], batch: Batch
) -> None:
    for name in ("popularity", "mf"):
        assert isnan(randomisation(Blind(), _sample(build(name), batch), models=2, seed=0))


def test_randomisation_is_the_mean_of_rank_correlations(
    build: Callable[..., Recommender], batch: Batch
) -> None:
    model, method = build("dlrm"), Shapley()
    sample = _sample(model, batch)
    before = sample.difference
    found = randomisation(method, sample, models=1, seed=4)
    assert torch.equal(_sample(model, batch).difference, before)
    other = sample.with_model(randomize_weights(model, 4)).attributions(method, 4).numpy()
    pairs = zip(sample.attributions(method, 4).numpy(), other, strict=True)
    expected = [abs(scipy.stats.spearmanr(a, b).statistic) for a, b in pairs]
    assert found == pytest.approx(np.mean(expected))
