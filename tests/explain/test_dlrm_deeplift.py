"""DeepLIFT of a DLRM, written out, gives what the rules give when they watch the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.deeplift import DeepLift
from glassrec.explain.methods.dlrm_deeplift import DLRMDeepLift
from glassrec.models.dlrm import DLRM


@pytest.mark.parametrize("features", ["fields", "dimensions", "dense"])
@pytest.mark.parametrize("task", [0, 1])
def test_numbers_are_those_of_the_rules(
    features: str, task: int, masked_model: Callable[..., MaskedModel]
) -> None:
    """Of a click and a rating, whole and pruned, with values that no feature holds."""
    view = masked_model("dlrm", features, rows=9, embedding=4, bottom=[5], top=[7, 3])
    object.__setattr__(view, "task", task)
    model = view.model
    assert isinstance(model, DLRM)
    for layer, kept in (
        (None, []), (model.interaction, [1, 4, 6, 9]), (model.bottom.last, [1, 3]),
        (model.top.first, [0, 2, 5]),
    ):  # fmt: skip
        if layer is not None:
            constants = torch.full((len(layer.units),), 0.3, dtype=torch.double)
            layer.keep(torch.tensor(kept), constants)
        view.__dict__.pop("masked_out", None)
        found, expected = DLRMDeepLift().attribute(view, 0), DeepLift().attribute(view, 0)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
        assert found.abs().max() > 1e-3
