"""Exact Shapley values against their definition and against `shap`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, permutations
from math import factorial

# Before shap is imported: to compile what runs once here takes half a minute.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

import numpy as np
import pytest
import shap
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Schema, Target
from glassrec.explain.explainer import Explain
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import FeatureMask, MaskedModel
from glassrec.explain.methods import coalitions as module
from glassrec.explain.methods.coalitions import Shapley, ShapleySampling
from glassrec.models.base import Inputs, Recommender
from glassrec.models.two_tower import TwoTower

TASKS = (Target("stars", "rating"), Target("find", "retrieval"))


def _by_definition(
    model: Recommender, mask: FeatureMask, inputs: Inputs, baseline: Inputs, task: int
) -> Tensor:
    """(B, P): each feature's mean difference over the coalitions of the others."""
    features = len(mask.features)

    def worth(coalition: set[int]) -> Tensor:
        on = torch.zeros(inputs.rows, features).double()
        on[:, sorted(coalition)] = 1
        return model.task_logits(mask.apply(on, inputs, baseline))[:, task].detach()

    total = torch.zeros(inputs.rows, features).double()
    for feature in range(features):
        others = [other for other in range(features) if other != feature]
        for size in range(features):
            weight = factorial(size) * factorial(features - size - 1) / factorial(features)
            for members in combinations(others, size):
                added = worth({*members, feature}) - worth({*members})
                total[:, feature] += weight * added
    return total


@pytest.mark.parametrize("at_once", [4096, 24])
@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.parametrize("name", ["gmf", "two_tower"])
def test_values_are_those_of_the_definition(
    build: Callable[..., Recommender],
    batch: Batch,
    name: str,
    task: int,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COALITIONS_AT_ONCE", at_once)
    model = build(name).double()
    rows = Inputs(*(part.detach().double() for part in model.embed(batch)))
    inputs, base = (Inputs(*(part[at] for part in rows)) for at in (slice(0, 3), slice(3, 6)))
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    found = Shapley().attribute(MaskedModel(model, mask, inputs, base, task), 0)
    expected = _by_definition(model, mask, inputs, base, task)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    difference = (model.task_logits(inputs) - model.task_logits(base))[:, task]
    torch.testing.assert_close(found.sum(1), difference, rtol=0, atol=1e-9)


def _by_shap(
    model: Recommender, schema: Schema, rows: Batch, background: Batch, task: int
) -> np.ndarray:
    """(B, P) SHAP values over raw columns, those of a field together.

    A cell of the matrix that `shap` masks says in which row the column's values stand.
    """
    pool = Batch(*map(torch.cat, zip(rows, background, strict=True)))
    read = model.schema

    def logits(cells: np.ndarray) -> np.ndarray:
        at = torch.from_numpy(cells).long()
        dense, ids = torch.empty(len(at), len(schema.dense)), torch.empty(len(at), 6).long()
        for feature, name in enumerate(read.dense):
            column = schema.dense.index(name)
            dense[:, column] = pool.dense[at[:, feature], column]
        for feature, name in enumerate(read.field_names, start=len(read.dense)):
            columns = list(schema.id_columns(name))
            ids[:, columns] = pool.ids[at[:, feature]][:, columns]
        history = torch.zeros(len(at), schema.history_length, dtype=torch.long)
        masked = Batch(dense, ids, history, torch.empty(len(at), 2))
        return model.predict(masked)[:, task].double().numpy()

    features = len(read.dense) + len(read.fields)
    cells = np.repeat(np.arange(pool.rows, dtype=float)[:, None], features, 1)
    masker = shap.maskers.Independent(cells[rows.rows :], max_samples=background.rows)
    return shap.explainers.Exact(logits, masker)(cells[: rows.rows]).values


@pytest.mark.parametrize("task", ["stars", "find"])
def test_with_50_background_rows_it_agrees_with_shap_over_raw_columns(
    schema: Schema, dataset: Dataset, task: str
) -> None:
    schema = replace(schema, targets=TASKS)
    background, rows = dataset.train.batch.slice(0, 50), dataset.validation.batch.slice(0, 10)
    data = replace(dataset, schema=schema, train=Split(background), validation=Split(rows))
    torch.manual_seed(0)
    model = TwoTower(schema, embedding=6, towers=(8,), head=(8,))
    torch.nn.init.normal_(model.table.weight)
    explain = Explain(task=task, method=Shapley(), baseline="background:50")
    found = explain.build_explainer(model, data, seed=0).attributions()
    expected = _by_shap(
        model, schema, rows, background, [t.name for t in schema.targets].index(task)
    )
    assert found.features == ("I1", "I2", "I3", "C1", "user", "item", "C2")
    assert np.abs(expected).mean(0).min() > 0.01
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=0, atol=1e-5)
    assert found.delta.abs().max() < 1e-5


def test_too_many_features_are_refused_with_what_to_do(
    build: Callable[..., Recommender], batch: Batch
) -> None:
    model = build("two_tower")
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    assert len(mask.features) == 7
    with pytest.raises(ValueError, match=r"7 features.*128 evaluations.*max_features \(6\)"):
        Shapley(max_features=6).evaluations(len(mask.features))
    wide = build_feature_mask(model.schema, model.width, "dimensions", model.device)
    with pytest.raises(ValueError, match=r"131 features"):
        Shapley().evaluations(len(wide.features))
    assert Shapley().evaluations(12) == 4096


@pytest.mark.parametrize("at_once", [4096, 20])
def test_sampling_with_all_orders_is_exact(
    masked_model: Callable[..., MaskedModel], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COALITIONS_AT_ONCE", at_once)
    view = masked_model("gmf", "dimensions", factors=2)
    assert view.size == 4
    every = torch.tensor(list(permutations(range(4))))
    monkeypatch.setattr(module, "_orders", lambda *_: every)
    found, expected = ShapleySampling().attribute(view, 0), Shapley().attribute(view, 0)
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_sampling_one_order_and_its_reverse_averages_what_each_feature_adds(
    masked_model: Callable[..., MaskedModel],
) -> None:
    view = masked_model("dlrm")
    places = module._orders(1, view.size, 5)[0]
    total = torch.zeros(view.rows, view.size, dtype=torch.float64)
    for order in (places.argsort(), places.argsort().flip(0)):
        on = torch.ones(view.size + 1, view.size).double()
        for size in range(view.size + 1):
            on[size, order[size:]] = 0
        total[:, order] += view.logits(on).diff(dim=1) / 2
    found = ShapleySampling(permutations=1).attribute(view, 5)
    torch.testing.assert_close(found, total, rtol=0, atol=1e-9)


@pytest.mark.parametrize("permutations", [1, 30])
def test_sampled_values_add_up_and_depend_on_no_other_row_and_no_chunk(
    masked_model: Callable[..., MaskedModel], permutations: int
) -> None:
    view = masked_model("neumf", "dimensions", rows=4)
    method = ShapleySampling(permutations)
    found = method.attribute(view, 3)
    torch.testing.assert_close(found.sum(1), view.difference, rtol=0, atol=1e-9)
    small = replace(view, chunk=11)
    torch.testing.assert_close(method.attribute(small, 3), found, rtol=0, atol=1e-9)
    alone = torch.cat([method.attribute(part, 3) for part in small.chunks(100)])
    torch.testing.assert_close(alone, found, rtol=0, atol=1e-9)
    assert not torch.allclose(found, method.attribute(view, 4))


def test_more_orders_come_nearer_to_the_exact_values(
    masked_model: Callable[..., MaskedModel],
) -> None:
    view = masked_model("dlrm", rows=8)
    exact = Shapley().attribute(view, 0)
    few, many = (
        torch.stack([ShapleySampling(count).attribute(view, seed) - exact for seed in range(4)])
        for count in (2, 128)
    )
    # The error falls with the root of the number of orders: 8 times here.
    assert 4 < few.square().mean().sqrt() / many.square().mean().sqrt() < 16
    assert many.abs().mean() < 0.05 * exact.abs().mean()


def test_a_single_feature_gets_the_whole_difference(
    masked_model: Callable[..., MaskedModel],
) -> None:
    view = masked_model("gmf", "dimensions", factors=1)
    one = replace(
        view, feature_mask=FeatureMask(("both",), torch.zeros_like(view.feature_mask.feature_ids))
    )
    found = ShapleySampling(3).attribute(one, 0)
    torch.testing.assert_close(found[:, 0], view.difference, rtol=0, atol=1e-9)
