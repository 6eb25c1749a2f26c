"""Small data and every model of `configs/model`, for all tests."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch is imported, here and in subprocesses: the tests run side by side, and more threads
# than processors wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))  # for `small_run`

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import ABSENT, Field, Schema, Target
from glassrec.explain.features import Granularity, build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Affine

TESTS = Path(__file__).parent
CONFIGS = TESTS.parent / "configs"
SLOW = (
    "compare", "imported", "report", "stages", "sweep", "tracking", "training",
    "config/test_compose.py", "explain/test_memory.py", "explain/test_completeness.py",
    "data/test_planted_sequence.py", "inference/test_bundle.py",
    "inference/test_counterfactual.py", "inference/test_notebook.py",
    "models/test_every_model.py", "models/test_scale.py", "test_command_line.py",
    "test_experiments.py", "test_extend.py", "test_failures.py", "test_kill.py",
    "test_pipeline.py", "test_readme.py", "test_seeds.py",
)  # fmt: skip
"""Folders and files that `make test-fast` leaves out: they train, draw, or start commands."""
MODELS = sorted({path.stem for path in (CONFIGS / "model").glob("*.yaml")} - {"imported"})
"""But for modules from elsewhere: `tests/imported` is about them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow folders and files."""
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(SLOW):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Leave what is imported out of garbage collection: each one would take half a second."""
    gc.collect()
    gc.freeze()


def draw(schema: Schema, rows: int, seed: int = 0) -> Batch:
    """Random rows: fields of several values have one to all of them, histories any length."""
    generator = torch.Generator().manual_seed(seed)

    def below(size: int, *shape: int) -> Tensor:
        return torch.randint(size, shape, generator=generator)

    ids = []
    for field, offset in zip(schema.fields, schema.offsets, strict=True):
        values = below(field.size, rows, field.values) + offset
        there = torch.arange(field.values) <= below(field.values, rows, 1)
        ids.append(values.where(there, ABSENT))
    item = schema.field_index("item")
    history = below(schema.fields[item].size, rows, schema.history_length) + schema.offsets[item]
    real = torch.arange(schema.history_length) >= below(schema.history_length + 1, rows, 1)
    return Batch(
        torch.randn(rows, len(schema.dense), generator=generator),
        torch.cat(ids, 1),
        history * real,
        below(2, rows, len(schema.targets)).float(),
    )


@pytest.fixture
def schema() -> Schema:
    fields = (
        Field("C1", 4), Field("user", 7), Field("C2", 5, values=3), Field("item", 9)
    )  # fmt: skip
    return Schema(
        ("I1", "I2", "I3"), fields, (Target("label"), Target("stars", "rating", 3.5, 1.2)),
        "user", "item", ("item", "C2"), history_length=4,
    )  # fmt: skip


@pytest.fixture
def batch(schema: Schema) -> Batch:
    return draw(schema, 12)


@pytest.fixture
def rows(schema: Schema) -> Callable[..., Batch]:
    """Draws any number of rows of the schema."""
    return lambda count, seed=0: draw(schema, count, seed)


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


@pytest.fixture
def masked_model(build: Callable[..., Recommender], schema: Schema) -> Callable[..., MaskedModel]:
    """Makes a view of a model by name, in float64, of rows that stand beside others."""

    def make(
        name: str, features: Granularity = "fields", rows: int = 3, **settings: object
    ) -> MaskedModel:
        model = build(name, **settings).double()
        embedded = [part.detach().double() for part in model.embed(draw(schema, 2 * rows))]
        inputs, others = (
            Inputs(*parts) for parts in zip(*(p.chunk(2) for p in embedded), strict=True)
        )
        mask = build_feature_mask(model.schema, model.width, features, model.device)
        return MaskedModel(model, mask, inputs, others.expand_to(inputs))

    return make


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, build: Callable[..., Recommender]) -> Recommender:
    """Each model of `configs/model` in turn."""
    return build(request.param)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, where it is installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the PATH")
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-background-networking"]
        opened = started.chromium.launch(executable_path=found, args=flags)
        yield opened
        opened.close()
