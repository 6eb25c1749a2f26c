"""The attention to steps beside their attributions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import spearmanr

from glassrec.artifacts import Attributions
from glassrec.data.batch import Batch
from glassrec.explain.evaluation.method_comparison import attention_control
from glassrec.models.base import Recommender

STEPS = [f"history[-{ago}]" for ago in (4, 3, 2, 1)]


def test_it_is_the_mean_over_rows_with_the_step_and_ranks_like_scipy(
    build: Callable[..., Recommender], rows: Callable[..., Batch]
) -> None:
    model, batch = build("sasrec", heads=2), rows(150)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(150, 5, generator=generator)
    none = torch.zeros(150)
    sample = Attributions(("item", *STEPS), values, none, none, torch.arange(150), {})
    found = attention_control(model, batch, sample)
    assert found.iloc[0].isna().all()  # the item is no step
    weights = model.attention(model.embed(batch)).mean(1)
    sums = weights.sum(1).numpy()
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    for place in range(4):
        there = batch.history[:, place] > 0
        own = weights[there, place]
        assert np.isclose(found["attention"][1 + place], own.mean(), rtol=1e-5)
        expected = spearmanr(own, values[there, 1 + place].abs()).statistic
        assert np.isclose(found["attention_correlation"][1 + place], expected)


def test_a_model_without_attention_has_no_such_columns(
    build: Callable[..., Recommender], rows: Callable[..., Batch]
) -> None:
    none = torch.zeros(3)
    sample = Attributions(("item", *STEPS), torch.ones(3, 5), none, none, torch.arange(3), {})
    assert attention_control(build("lstm"), rows(3), sample).shape == (5, 0)
