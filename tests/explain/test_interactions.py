"""Pair attributions against brute force, and on models whose interactions are known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pandas as pd
import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema
from glassrec.explain import explanation_tables as tables
from glassrec.explain.explainer import Explain
from glassrec.explain.features import Granularity, build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.coalitions import interactions, pair_evaluations, pair_names, pairs
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender


def _inputs(model: Recommender, batch: Batch) -> Inputs:
    return Inputs(*(part.detach() for part in model.embed(batch)))


def _without(inputs: Inputs, base: Inputs, features: tuple[int, ...]) -> Inputs:
    """The rows with some dense columns, fields and steps, counted in this order, at baseline."""
    dense, fields, history, steps = (part.clone() for part in inputs)
    width, count = dense.shape[1], fields.shape[1]
    for feature in features:
        if feature < width:
            dense[:, feature] = base.dense[:, feature]
        elif feature < width + count:
            fields[:, feature - width] = base.fields[:, feature - width]
        else:
            history[:, feature - width - count] = base.history[:, feature - width - count]
    return Inputs(dense, fields, history, steps)


@pytest.mark.parametrize("chunk", [7, 10_000])
@pytest.mark.parametrize("task", [0, 1])
def test_interactions_equal_brute_force(
    model: Recommender, batch: Batch, chunk: int, task: int
) -> None:
    inputs = _inputs(model.double(), batch._replace(dense=batch.dense.double()))
    base = build_baseline(model, "mean", inputs).expand_to(inputs)
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    found = interactions(MaskedModel(model, mask, inputs, base, task, chunk))

    def score(*features: int) -> Tensor:
        return model.task_logits(_without(inputs, base, features)).detach()[:, task]

    expected = [
        score() - score(i) - score(j) + score(i, j)
        for i, j in combinations(range(len(mask.features)), 2)
    ]
    assert found.shape == (batch.rows, len(expected))
    for column, values in enumerate(expected):
        torch.testing.assert_close(found[:, column], values, rtol=0, atol=1e-9)


def test_no_more_rows_than_a_chunk_pass_the_model_at_once(
    build: Callable[..., Recommender], batch: Batch
) -> None:
    model = build("dlrm", embedding=2)
    inputs = _inputs(model, batch)
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    sizes = []
    model.bottom.register_forward_hook(lambda *found: sizes.append(len(found[2])))
    base = build_baseline(model, "zero", inputs).expand_to(inputs)
    interactions(MaskedModel(model, mask, inputs, base, chunk=50))
    assert max(sizes) <= 50
    assert sum(sizes) == batch.rows * pair_evaluations(7) == batch.rows * (1 + 7 + 21)


class Known(Recommender):
    """2 I1 + 3 I1·I2 − C·item + 5 item + I1·I3·C, of the first numbers of the fields C and item."""

    def __init__(self, data: Schema) -> None:
        super().__init__(data, data, 2)

    def score(self, inputs: Inputs) -> Tensor:
        i1, i2, i3 = inputs.dense.unbind(1)
        c, item = inputs.fields[:, :, 0].unbind(1)
        return (2 * i1 + 3 * i1 * i2 - c * item + 5 * item + i1 * i3 * c)[:, None]


@pytest.fixture
def known() -> tuple[Known, Dataset]:
    schema = Schema(("I1", "I2", "I3"), (Field("C", 5), Field("item", 4)))
    generator = torch.Generator().manual_seed(3)
    ids = torch.stack(
        [
            torch.randint(5, (90,), generator=generator),
            5 + torch.randint(4, (90,), generator=generator),
        ],
        1,
    )
    none = torch.empty(90, 0)
    rows = Batch(torch.randn(90, 3, generator=generator), ids, none.long(), torch.ones(90, 1))
    splits = (Split(rows.slice(start, start + 30)) for start in (0, 30, 60))
    return Known(schema).double(), Dataset(schema, *splits)


def _doubled(data: Dataset) -> Dataset:
    splits = (Split(s.batch._replace(dense=s.batch.dense.double())) for s in data.splits.values())
    return Dataset(data.schema, *splits)


def test_known_interactions_from_zero(known: tuple[Known, Dataset]) -> None:
    model, data = known
    data = _doubled(data)
    frame = tables.pair_table(Explain(baseline="zero").build_explainer(model, data, 0))
    batch = data.validation.batch
    i1, i2, i3 = batch.dense.unbind(1)
    c, item = model.embed(batch).fields[:, :, 0].detach().unbind(1)
    expected = {
        ("I1", "I2"): 3 * i1 * i2,
        # All three act together, so the effect is in each of their pairs.
        ("I1", "I3"): i1 * i3 * c,
        ("I1", "C"): i1 * i3 * c,
        ("I3", "C"): i1 * i3 * c,
        ("C", "item"): -c * item,
    }
    assert len(frame) == 10
    for _, row in frame.iterrows():
        values = expected.get((row["first"], row["second"]), torch.zeros(1))
        assert row["mean_abs"] == pytest.approx(values.abs().mean().item(), abs=1e-12)
        assert row["max_abs"] == pytest.approx(values.abs().max().item(), abs=1e-12)
        assert row["mean"] == pytest.approx(values.mean().item(), abs=1e-12)
    assert frame["mean_abs"].is_monotonic_decreasing
    assert "weight_norm" not in frame


def test_results_are_averaged_over_the_baseline_rows(known: tuple[Known, Dataset]) -> None:
    model, data = known
    data = _doubled(data)
    found = tables.pair_table(Explain(baseline="background:30").build_explainer(model, data, 0))
    pair = found.set_index(["first", "second"]).loc[("I1", "I2")]
    rows, base = data.validation.batch.dense, data.train.batch.dense
    # 3 (x₁ − b₁)(x₂ − b₂), the mean over all baselines b, then the mean size over rows
    each = 3 * (rows[:, None, 0] - base[None, :, 0]) * (rows[:, None, 1] - base[None, :, 1])
    assert pair["mean_abs"] == pytest.approx(each.mean(1).abs().mean().item(), abs=1e-12)


@pytest.mark.parametrize(("features", "expected"), [("fields", 5), ("dimensions", 5), ("dense", 3)])
def test_features_are_whole_features(
    known: tuple[Known, Dataset], features: Granularity, expected: int
) -> None:
    frame = tables.pair_table(Explain(granularity=features).build_explainer(*_single(known), 0))
    assert len({*frame["first"], *frame["second"]}) == expected


def _single(known: tuple[Known, Dataset]) -> tuple[Known, Dataset]:
    model, data = known
    return model.float(), data


def test_as_many_rows_as_asked_for_and_none_for_none(
    known: tuple[Known, Dataset], build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model, data = _single(known)
    few = tables.pair_table(Explain(pair_rows=1, baseline="zero").build_explainer(model, data, 0))
    assert few["mean_abs"].equals(few["max_abs"])
    for nothing in (
        tables.pair_table(Explain(pair_rows=0).build_explainer(model, data, 0)),
        tables.pair_table(Explain().build_explainer(build("popularity"), dataset, 0)),
    ):
        assert len(nothing) == 0
        assert [*nothing][:3] == ["first", "second", "mean_abs"]


def test_the_models_own_view_stands_beside_its_pair() -> None:
    features = ("a", "b", "history[-1]")
    weights = pd.DataFrame([[1.0, 2], [2, 3]], ["a", "b"], ["a", "b"])
    frame = pair_names(features, weights)
    assert frame[["first", "second"]].to_numpy().tolist() == [
        ["a", "b"], ["a", "history[-1]"], ["b", "history[-1]"],
    ]  # fmt: skip
    assert frame["weight_norm"][0] == 2
    assert frame["weight_norm"][1:].isna().all()
    assert pairs(3).tolist() == [[0, 0, 1], [1, 2, 2]]
