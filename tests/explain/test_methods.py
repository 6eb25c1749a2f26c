"""What holds for every method of `configs/explain/method`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.models.base import Inputs

METHODS = Path(__file__).parents[2] / "configs" / "explain" / "method"


@pytest.fixture(params=sorted(METHODS.glob("*.yaml")), ids=lambda path: path.stem)
def method(request: pytest.FixtureRequest) -> Method:
    config = OmegaConf.load(request.param)
    if OmegaConf.is_missing(config, "neuron"):
        config.neuron = "top.0[3]"
    if OmegaConf.is_missing(config, "name"):
        config.name = "KernelShap"  # it draws anew for each row
    return instantiate(config)


@pytest.fixture
def view(masked_model: Callable[..., MaskedModel]) -> MaskedModel:
    """Five rows with the seven features of a DLRM."""
    return masked_model("dlrm", rows=5)


def test_values_depend_on_no_other_row_and_no_chunk(method: Method, view: MaskedModel) -> None:
    found = method.attribute(view, 1)
    assert found.shape == (5, 7)
    assert found.dtype == view.inputs.dense.dtype
    alone = [method.attribute(part, 1) for part in replace(view, chunk=3).chunks(24)]
    assert len(alone) == 3
    torch.testing.assert_close(torch.cat(alone), found, rtol=0, atol=1e-9)


def test_another_seed_gives_other_values_where_it_is_said(
    method: Method, view: MaskedModel
) -> None:
    first, same, other = (method.attribute(view, seed) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert method.draws(view.size) is not torch.equal(first, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(method: Method, view: MaskedModel) -> None:
    here = method.attribute(view, 0)
    inputs, baseline = (
        Inputs(*(part.cuda() for part in each)) for each in (view.inputs, view.baseline)
    )
    mask = replace(view.feature_mask, feature_ids=view.feature_mask.feature_ids.cuda())
    there = method.attribute(MaskedModel(view.model.cuda(), mask, inputs, baseline), 0)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here)
