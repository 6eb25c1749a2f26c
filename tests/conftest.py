"""Small data and every model of `configs/model`, for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Before torch is imported, here and in subprocesses: the tests run side by side, and more threads
# than processors wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema
from glassrec.models.base import Recommender
from glassrec.models.layers import Affine

CONFIGS = Path(__file__).parents[1] / "configs"
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))


def draw(schema: Schema, rows: int, seed: int = 0) -> Batch:
    """Random rows."""
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(f.size, (rows,), generator=generator) for f in schema.fields]
    return Batch(
        torch.randn(rows, len(schema.dense), generator=generator),
        torch.stack(ids, 1) + torch.tensor(schema.offsets),
        torch.empty(rows, 0, dtype=torch.long),
        torch.randint(2, (rows, 1), generator=generator).float(),
    )


@pytest.fixture
def schema() -> Schema:
    fields = (Field("C1", 4), Field("user", 7), Field("C2", 5), Field("item", 9))
    return Schema(("I1", "I2", "I3"), fields, user="user", item="item")


@pytest.fixture
def batch(schema: Schema) -> Batch:
    return draw(schema, 12)


@pytest.fixture
def dataset(schema: Schema) -> Dataset:
    train, val, test = (Split(draw(schema, rows, seed)) for seed, rows in enumerate((60, 30, 20)))
    return Dataset(schema, train, val, test)


@pytest.fixture
def build(schema: Schema) -> Callable[..., Recommender]:
    """Makes a model of `configs/model` by name, with weights large enough to tell errors apart."""

    def make(name: str, **settings: object) -> Recommender:
        config = OmegaConf.load(CONFIGS / "model" / f"{name}.yaml")
        torch.manual_seed(1)
        model = instantiate(config, **settings)(schema)
        with torch.no_grad():
            model.table.weight.normal_()
            for module in model.modules():
                if isinstance(module, Affine):
                    module.bias.normal_()
        return model.eval()

    return make


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, build: Callable[..., Recommender]) -> Recommender:
    """Each model of `configs/model` in turn."""
    return build(request.param)
