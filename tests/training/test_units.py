"""Ratings in large and small units are learnt as stars are, and reported in their unit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.columns import Columns, Part, Parts
from glassrec.data.dataset import Dataset, assemble
from glassrec.metrics.quality import quality
from glassrec.models.mf import MF
from glassrec.training.trainer import Trained, Trainer

COLUMNS = Columns(rating="stars", user="user", item="item")


def _data(factor: float, offset: float) -> Dataset:
    """Ratings that are a sum of what user and item bring, in a unit of choice."""
    random = np.random.default_rng(0)
    user, item = random.integers(20, size=2000), random.integers(15, size=2000)
    stars = (random.normal(size=20)[user] + random.normal(size=15)[item]).round(3)
    frame = pd.DataFrame({"stars": offset + factor * stars, "user": user, "item": item})
    frames = frame[:1600], frame[1600:1800], frame[1800:]
    return assemble(Parts(*(Part(f, f[["stars"]].to_numpy()) for f in frames)), COLUMNS)


def _fit(data: Dataset, folder: Path) -> tuple[Trained, dict[str, float]]:
    torch.manual_seed(0)
    model = MF(data.schema)
    trained = Trainer(max_epochs=12, batch_size=64).fit(
        model, data, partial(torch.optim.Adam, lr=0.01), seed=0, directory=folder,
        validate=partial(quality, name="val"), on_epoch=lambda row: None, quiet=True,
    )  # fmt: skip
    return trained, quality(model, data, "test")


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, dict[str, float]]:
    return _fit(_data(1.0, 0.0), tmp_path_factory.mktemp("stars"))


@pytest.mark.parametrize(("factor", "offset"), [(1e6, 3e6), (2.0**-40, 0.0)])
def test_another_unit_gives_the_same_model_and_metrics_in_that_unit(
    stars: tuple[Trained, dict[str, float]], factor: float, offset: float, tmp_path: Path
) -> None:
    trained, expected = stars
    data = _data(factor, offset)
    other, found = _fit(data, tmp_path)
    for name, tensor in trained.weights.items():
        if not name.startswith("target_scale."):
            torch.testing.assert_close(other.weights[name], tensor, rtol=1e-3, atol=1e-3)
    assert expected["rmse"] < 0.3 * data.test.batch.targets.std().item() / factor
    for name in ("rmse", "mae"):
        assert found[name] == pytest.approx(expected[name] * factor, rel=1e-3)
    assert found["bias"] == pytest.approx(expected["bias"] * factor, abs=1e-3 * factor)
    # The loss does not depend on the unit, so that the weights of tasks do not.
    losses = other.history["train/loss"], trained.history["train/loss"]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert trained.history["train/loss"].iloc[0] < 1.1


def test_equal_ratings_are_learnt(tmp_path: Path) -> None:
    _, found = _fit(_data(0.0, 7e5), tmp_path)
    assert found["mae"] < 0.5
