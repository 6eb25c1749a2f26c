"""KernelSHAP against Shapley values by brute force, against `shap`, and against Captum."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

# Before shap is imported: to compile what runs once here takes half a minute.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

import numpy as np
import pytest
import shap
import torch
from captum.attr import KernelShap as CaptumKernelShap
from torch import Tensor

from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import kernel_shap as module
from glassrec.explain.methods.coalitions import Shapley
from glassrec.explain.methods.kernel_shap import KernelShap


def _by_orders(worth: Tensor) -> Tensor:
    """Shapley values (P,) from the worth (2, ..., 2) of every coalition, by all P! orders."""
    features = worth.ndim
    orders = list(permutations(range(features)))
    total = torch.zeros(features, dtype=torch.float64)
    for order in orders:
        before = [0] * features
        for feature in order:
            after = list(before)
            after[feature] = 1
            total[feature] += worth[tuple(after)] - worth[tuple(before)]
            before = after
    return total / len(orders)


@pytest.mark.parametrize("features", [1, 2, 3, 4, 5, 6])
def test_with_all_coalitions_it_is_the_mean_over_all_orders(features: int) -> None:
    generator = torch.Generator().manual_seed(features)
    worth = torch.randn([2] * features, generator=generator, dtype=torch.float64)
    members, weights = module._fit(features, 2**features, 0)
    assert len(members.unique(dim=0)) == len(members) == 2**features
    found = worth[tuple(members.long().T)] @ weights
    torch.testing.assert_close(found, _by_orders(worth), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["dlrm", "two_tower", "dcn"])
def test_few_features_get_exact_shapley_values_however_few_samples(
    masked_model: Callable[..., MaskedModel], name: str
) -> None:
    view = masked_model(name)
    assert 5 < view.size <= 12
    method = KernelShap(samples=2)
    assert not method.draws(view.size)
    assert method.evaluations(view.size) == 2**view.size
    expected = Shapley().attribute(view, 0)
    torch.testing.assert_close(method.attribute(view, 0), expected, rtol=0, atol=1e-9)
    assert torch.equal(method.attribute(view, 0), method.attribute(view, 1))


def test_samples_for_all_coalitions_of_more_features_take_them_all(
    masked_model: Callable[..., MaskedModel],
) -> None:
    view = masked_model("gmf", "dimensions", factors=7)
    assert view.size == 14
    method = KernelShap(samples=2**14)
    assert not method.draws(14)
    found, expected = method.attribute(view, 0), Shapley(max_features=14).attribute(view, 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("samples", [160, 999, None])
def test_drawn_values_add_up_and_depend_on_no_other_row_and_no_chunk(
    masked_model: Callable[..., MaskedModel], samples: int | None
) -> None:
    view = masked_model("neumf", "dimensions", rows=4)
    method = KernelShap(samples)
    found = method.attribute(view, 3)
    torch.testing.assert_close(found.sum(1), view.difference, rtol=0, atol=1e-9)
    small = replace(view, chunk=11)
    torch.testing.assert_close(method.attribute(small, 3), found, rtol=0, atol=1e-9)
    alone = torch.cat([method.attribute(part, 3) for part in small.chunks(100)])
    torch.testing.assert_close(alone, found, rtol=0, atol=1e-9)
    same = torch.allclose(found, method.attribute(view, 4))
    assert method.draws(view.size) is not same
    assert same is (samples == 160)  # each feature alone, and all the others: nothing is drawn


@pytest.mark.parametrize(("features", "samples"), [(13, 400), (20, 1000), (21, 99)])
def test_coalitions_come_with_complements_and_count_as_the_kernel_says(
    features: int, samples: int
) -> None:
    members, kernel = module._coalitions(features, samples // 2, 0)
    first, second = members.chunk(2)
    assert torch.equal(first, 1 - second)
    assert samples - 1 <= len(members) <= samples
    sizes = members.sum(1).long()
    every = torch.arange(1, features)
    mass = torch.zeros(features, dtype=torch.float64).index_add(0, sizes, kernel)[1:]
    expected = (features - 1) / (every * (features - every)).double()
    assert mass.sum().item() == pytest.approx(expected.sum().item(), abs=1e-9)
    # Sizes that are drawn have their mass but for what one pair more or less makes.
    torch.testing.assert_close(mass, expected, rtol=0, atol=1.01 * kernel.max().item())
    assert (mass > 0).all()
    for size in (1, features - 1):
        assert len(members[sizes == size].unique(dim=0)) == features
    counts = members.mean(0)
    torch.testing.assert_close(counts, torch.full_like(counts, 0.5), rtol=0, atol=0)


def test_more_samples_come_nearer_to_the_exact_values(
    masked_model: Callable[..., MaskedModel],
) -> None:
    view = masked_model("mlp", "dimensions", factors=4, rows=8)
    view = replace(
        view, feature_mask=replace(view.feature_mask, features=tuple("abcdefghijklmnop"))
    )
    view = replace(
        view,
        feature_mask=replace(view.feature_mask, feature_ids=view.feature_mask.feature_ids % 16),
    )
    exact = Shapley(max_features=16).attribute(view, 0)
    errors = [
        np.mean([_error(KernelShap(samples), view, seed, exact) for seed in range(4)])
        for samples in (64, 512, 4096)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0
    assert errors[2] < 0.05 * exact.abs().mean()


def _error(method: KernelShap, view: MaskedModel, seed: int, exact: Tensor) -> float:
    return (method.attribute(view, seed) - exact).square().mean().sqrt().item()


def test_it_agrees_with_kernel_explainer_of_shap(masked_model: Callable[..., MaskedModel]) -> None:
    view = masked_model("dlrm")

    def worth(row: int) -> Callable[[np.ndarray], np.ndarray]:
        part = replace(
            view,
            inputs=type(view.inputs)(*(x[row : row + 1] for x in view.inputs)),
            baseline=type(view.inputs)(*(x[row : row + 1] for x in view.baseline)),
            index=view.index[:1],
        )
        return lambda on: part.logits(torch.from_numpy(on))[0].numpy()

    for row, found in enumerate(KernelShap().attribute(view, 0).numpy()):
        explainer = shap.KernelExplainer(worth(row), np.zeros((1, view.size)))
        expected = explainer.shap_values(
            np.ones((1, view.size)), nsamples=2**view.size, l1_reg=False, silent=True
        )
        np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-6)


def test_captum_comes_near_to_it_with_many_samples(
    masked_model: Callable[..., MaskedModel],
) -> None:
    view = masked_model("gmf", "dimensions", factors=2)
    fields = view.inputs.fields

    def logits(fields: Tensor) -> Tensor:
        return view.model.task_logits(view.inputs._replace(fields=fields.double()))[:, 0]

    owner = torch.arange(4).view(1, 2, 2)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that many rows take long
        expected = CaptumKernelShap(logits).attribute(
            fields, view.baseline.fields, feature_mask=owner, n_samples=2000
        )
    found = KernelShap().attribute(view, 0)
    # Captum draws its coalitions, and holds the sum by a large weight only.
    torch.testing.assert_close(found.float(), expected.flatten(1), rtol=0, atol=0.06)
    assert found.abs().mean() > 0.25


def test_too_few_samples_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"80 features.*100 coalitions.*samples to 160"):
        KernelShap(samples=101).evaluations(80)
    assert KernelShap(samples=161).evaluations(80) == 162
    assert KernelShap().evaluations(80) == 2 + 2 * 80 + 2048


@pytest.mark.parametrize(("features", "samples"), [(80, 10_000), (20, 3000), (20, 40_000)])
def test_no_size_is_taken_whole_at_the_cost_of_those_that_count_more(
    features: int, samples: int
) -> None:
    members, kernel = module._coalitions(features, samples // 2, 0)
    sizes = members.sum(1).long()
    sizes = sizes.minimum(features - sizes)
    drawn = kernel[sizes == features // 2]
    assert len(drawn.unique()) == 1
    assert (kernel[sizes > 1] >= drawn[0]).all()
