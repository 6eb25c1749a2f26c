"""Ablation against its definition and against Captum."""

from __future__ import annotations

import pytest
import torch
from captum.attr import FeatureAblation as Captum

from glassrec.data.batch import Batch
from glassrec.explain.features import Granularity, build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.coalitions import FeatureAblation
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender


@pytest.mark.parametrize("granularity", ["fields", "dimensions"])
def test_ablation_is_captums_with_masks(
    model: Recommender, batch: Batch, granularity: Granularity
) -> None:
    model.double()
    batch = batch._replace(dense=batch.dense.double())
    inputs = Inputs(*(part.detach() for part in model.embed(batch)))
    base = build_baseline(model, "mean", inputs).expand_to(inputs)
    mask = build_feature_mask(model.schema, model.width, granularity, model.device)
    sizes = [part[0].numel() for part in inputs[:3]]

    def logit(flat: torch.Tensor) -> torch.Tensor:
        parts = zip(flat.split(sizes, 1), inputs[:3], strict=True)
        rows = (part.unflatten(1, x.shape[1:]) for part, x in parts)
        return model.task_logits(Inputs(*rows, inputs.steps))[:, 0].detach()

    at, beside = (torch.cat([part.flatten(1) for part in x[:3]], 1) for x in (inputs, base))
    ids = mask.feature_ids[: sum(sizes)]
    theirs = Captum(logit).attribute(at, beside, feature_mask=ids.unsqueeze(0))
    # Captum gives what a feature counts for to each number that the feature owns.
    first = torch.stack([(ids == feature).nonzero()[0, 0] for feature in range(len(mask.features))])
    found = FeatureAblation().attribute(MaskedModel(model, mask, inputs, base), 0)
    torch.testing.assert_close(found, theirs[:, first], rtol=0, atol=1e-9)
    assert found.abs().max() > 0.1


def test_it_does_not_depend_on_the_chunk(model: Recommender, batch: Batch) -> None:
    inputs = Inputs(*(part.detach() for part in model.embed(batch)))
    base = build_baseline(model, "zero", inputs).expand_to(inputs)
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    whole, chunked = (
        FeatureAblation().attribute(MaskedModel(model, mask, inputs, base, chunk=chunk), 0)
        for chunk in (16384, 5)
    )
    torch.testing.assert_close(whole, chunked, rtol=0, atol=1e-5)
    assert FeatureAblation().evaluations(len(mask.features)) == whole.shape[1] + 1
