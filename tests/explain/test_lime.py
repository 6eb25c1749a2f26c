"""LIME for all rows at once against scikit-learn's and Captum's fits of each row."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnLinearRegression
from captum.attr import Lime as CaptumLime
from captum.attr._core.lime import get_exp_kernel_similarity_function
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression, Ridge
from torch import Tensor

from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.methods import lime as module
from glassrec.explain.methods.kernel_shap import KernelShap
from glassrec.explain.methods.lime import Lime
from glassrec.models.base import Inputs

KERNELS = [("euclidean", 4.0), ("cosine", 0.25), ("cosine", 1.0), ("none", 1.0)]
CLASSIC = Lime(samples=100, kernel="euclidean", width=1000.0)


def _perturbed(view: MaskedModel, row: int, on: Tensor) -> Inputs:
    """The C perturbed versions of a row."""
    inputs, base = (
        Inputs(*(part[row : row + 1].expand(len(on), *part.shape[1:]) for part in rows))
        for rows in (view.inputs, view.baseline)
    )
    return view.feature_mask.apply(on, inputs, base)


def _by_captum_weights(
    view: MaskedModel, row: int, on: Tensor, kernel: str, width: float
) -> np.ndarray:
    if kernel == "none":
        return np.ones(len(on))
    similar = get_exp_kernel_similarity_function(kernel, width)
    own = tuple(part[row : row + 1] for part in view.inputs[:3])
    moved = _perturbed(view, row, on)[:3]
    return np.array(
        [similar(own, tuple(part[at : at + 1] for part in moved), None) for at in range(len(on))]
    )


@pytest.mark.parametrize(
    ("name", "features"), [("dlrm", "fields"), ("dlrm", "dense"), ("lstm", "steps")]
)
@pytest.mark.parametrize(("kernel", "width"), KERNELS[:3])
def test_weights_are_those_of_captum(
    masked_model: Callable[..., MaskedModel], name: str, features: str, kernel: str, width: float
) -> None:
    view = masked_model(name, features, rows=6)
    on = module._perturbations(30, view.size, 0)
    found = Lime(kernel=kernel, width=width)._weights(view, on)
    expected = [_by_captum_weights(view, row, on, kernel, width) for row in range(view.rows)]
    assert np.std(expected, axis=1).max() > 1e-3
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5)


def test_rows_without_a_direction_are_at_a_right_angle(
    masked_model: Callable[..., MaskedModel],
) -> None:
    view = masked_model("neumf", "dimensions")
    view = replace(view, baseline=Inputs(*(torch.zeros_like(part) for part in view.inputs)))
    on = torch.stack([torch.zeros(80), torch.ones(80)]).double()
    found = Lime(kernel="cosine", width=1.0)._weights(view, on)
    expected = torch.tensor([np.exp(-0.5), 1.0]).expand(3, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 2.0])
@pytest.mark.parametrize(("kernel", "width"), KERNELS)
@pytest.mark.parametrize(("name", "features"), [("dlrm", "fields"), ("neumf", "dimensions")])
def test_slopes_are_those_of_scikit_learn_with_the_same_perturbations_and_weights(
    masked_model: Callable[..., MaskedModel],
    name: str,
    features: str,
    kernel: str,
    width: float,
    ridge: float,
) -> None:
    view = masked_model(name, features)
    method = Lime(samples=200, kernel=kernel, width=width, ridge=ridge)
    found = method.attribute(view, seed=4)
    on = module._perturbations(200, view.size, 4)
    weights = torch.ones(view.rows, 200) if kernel == "none" else method._weights(view, on)
    model = Ridge(alpha=ridge) if ridge else LinearRegression()
    for row in range(view.rows):
        logits = view.model.task_logits(_perturbed(view, row, on))[:, 0].detach()
        model.fit(on, logits, sample_weight=weights[row])
        np.testing.assert_allclose(found[row].numpy(), model.coef_, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kernel", "width"), KERNELS[:3])
def test_it_agrees_with_captum_given_the_same_perturbations(
    masked_model: Callable[..., MaskedModel], kernel: str, width: float
) -> None:
    view = masked_model("neumf", "fields")
    on = module._perturbations(50, view.size, 0)

    def fed(_: Tensor, **__: object) -> Iterator[Tensor]:
        yield from on.long().unsqueeze(1)

    def logits(fields: Tensor) -> Tensor:
        return view.model.task_logits(view.inputs._replace(fields=fields.double()))[:, 0]

    by_captum = CaptumLime(
        logits, SkLearnLinearRegression(), get_exp_kernel_similarity_function(kernel, width), fed
    )
    owner = view.feature_mask.feature_ids[: view.inputs.fields[0].numel()].view(
        1, *view.inputs.fields[0].shape
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that many rows take long
        parts = by_captum.attribute(
            view.inputs.fields, view.baseline.fields, feature_mask=owner, n_samples=50
        )
    found = Lime(samples=50, kernel=kernel, width=width).attribute(view, seed=0)
    torch.testing.assert_close(found.float(), parts[:, :, 0], rtol=1e-3, atol=1e-3)


def test_values_depend_on_no_other_row_and_no_chunk(
    masked_model: Callable[..., MaskedModel],
) -> None:
    view = masked_model("neumf", "dimensions", rows=5)
    for kernel in ("cosine", "none"):
        method = Lime(samples=150, kernel=kernel)
        whole = method.attribute(view, seed=1)
        split = method.attribute(replace(view, chunk=20), seed=1)
        torch.testing.assert_close(whole, split, rtol=0, atol=1e-9)
        alone = torch.cat(
            [method.attribute(part, seed=1) for part in replace(view, chunk=1).chunks(9)]
        )
        torch.testing.assert_close(whole, alone, rtol=0, atol=1e-9)
        assert not torch.allclose(whole, method.attribute(view, seed=2))


def test_a_linear_model_gets_its_own_slopes(masked_model: Callable[..., MaskedModel]) -> None:
    """While the item stands still, GMF is linear in the user's embedding."""
    view = masked_model("gmf", "dimensions")
    still = view.inputs.fields.clone()
    still[:, 1] = view.baseline.fields[:, 1]
    view = replace(view, inputs=view.inputs._replace(fields=still))
    found = Lime(samples=100).attribute(view, 0)
    every = torch.ones(1, view.size, dtype=torch.float64)
    expected = view.gradients(every).squeeze(1)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_features_that_the_weights_do_not_tell_apart_share_their_slope() -> None:
    on = torch.tensor([[0, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1], [1, 0, 1.0]]).double()
    design = torch.cat([on - 0.5, torch.ones(5, 1).double()], 1)
    weights = torch.tensor([[1.0, 1, 1, 1, 0]]).double()
    targets = (on @ torch.tensor([1.0, 2, 5]).double()).view(1, 5, 1)
    found = module._least_squares(design, weights, targets, torch.zeros(4).double())
    expected = torch.tensor([1.5, 1.5, 5]).double()
    torch.testing.assert_close(found[0, :3, 0], expected, rtol=0, atol=1e-9)


def test_too_few_samples_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"80 features.*81 samples.*samples to 82.*ridge"):
        Lime(samples=81).evaluations(80)
    assert Lime(samples=81, ridge=1.0).evaluations(80) == 81
    assert Lime(samples=82).evaluations(80) == 82
    assert Lime().evaluations(80) == 2048
    assert Lime().evaluations(400) == 3200


def test_a_kernel_that_weighs_nothing_is_refused(masked_model: Callable[..., MaskedModel]) -> None:
    with pytest.raises(ValueError, match=r"euclidean kernel of width 0\.001.*larger"):
        Lime(samples=90, kernel="euclidean", width=0.001).attribute(
            masked_model("neumf", "dimensions"), 0
        )


def _agreement(method: Method, view: MaskedModel) -> float:
    """The mean over rows of the rank correlation of two seeds."""
    first, second = (method.attribute(view, seed).numpy() for seed in (0, 1))
    return np.mean([spearmanr(*pair).statistic for pair in zip(first, second, strict=True)])


def test_on_embeddings_the_classic_settings_are_unstable_and_kernel_shap_is_not(
    masked_model: Callable[..., MaskedModel],
) -> None:
    view = masked_model("neumf", "dimensions", rows=20)
    assert view.size == 80
    assert _agreement(CLASSIC, view) < 0.5
    assert _agreement(KernelShap(samples=4000), view) > 0.9
