"""Gates against slow loops."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.features import build_feature_mask
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender


def _inputs(rows: int, width: int) -> Inputs:
    """Random inputs of the test schema; every history is full."""
    parts = (rows, 3), (rows, 4, width), (rows, 4, width)
    return Inputs(*(torch.randn(shape) for shape in parts), torch.ones(rows, 4))


@pytest.mark.parametrize("granularity", ["fields", "dimensions", "dense", "steps"])
def test_gates_move_what_a_feature_owns(schema: Schema, granularity: str) -> None:
    width, rows = 2, 3
    inputs, base = _inputs(rows, width), _inputs(1, width)
    mask = build_feature_mask(schema, width, granularity, torch.device("cpu"))
    on = torch.rand(rows, len(mask.features))
    found = mask.apply(on, inputs, base.expand_to(inputs))
    for row in range(rows):
        for d, name in enumerate(schema.dense):
            g = on[row, mask.features.index(name)] if name in mask.features else 1.0
            expected = base.dense[0, d] + g * (inputs.dense[row, d] - base.dense[0, d])
            assert found.dense[row, d] == pytest.approx(expected.item(), abs=1e-6)
        steps = [f"history[{step}]" for step in (-4, -3, -2, -1)]
        for part, names in (("fields", schema.field_names), ("history", steps)):
            before, after, moved = (getattr(x, part) for x in (base, inputs, found))
            for at, name in enumerate(names):
                for k in range(width):
                    feature = f"{name}[{k}]" if granularity == "dimensions" else name
                    g = on[row, mask.features.index(feature)] if feature in mask.features else 1.0
                    expected = before[0, at, k] + g * (after[row, at, k] - before[0, at, k])
                    assert moved[row, at, k] == pytest.approx(expected.item(), abs=1e-6)
    assert torch.equal(found.steps, inputs.steps)


def test_sums_over_features(schema: Schema) -> None:
    parts = _inputs(2, 5)
    mask = build_feature_mask(schema, 5, "fields", torch.device("cpu"))
    expected = torch.cat([parts.dense, parts.fields.sum(2), parts.history.sum(2)], 1)
    torch.testing.assert_close(mask.sum_by_feature(parts), expected)
    only_dense = build_feature_mask(schema, 5, "dense", torch.device("cpu"))
    torch.testing.assert_close(only_dense.sum_by_feature(parts), parts.dense)


def test_baselines(build: Callable[..., Recommender], schema: Schema, batch: Batch) -> None:
    model = build("dlrm", embedding=2)
    inputs = model.embed(batch)
    assert not any(part.any() for part in build_baseline(model, "zero", inputs))
    mean = build_baseline(model, "mean", inputs)
    torch.testing.assert_close(mean.fields[0, 1], inputs.fields[:, 1].mean(0))
    unseen = build_baseline(model, "unseen", inputs)
    assert torch.equal(unseen.fields[0], model.table.weight[[0, 4, 11, 16]])


def test_a_model_without_dense_columns_has_no_dense_features(
    build: Callable[..., Recommender],
) -> None:
    model = build("gmf")
    with pytest.raises(ValueError, match=r"explain\.granularity=dense"):
        build_feature_mask(model.schema, model.width, "dense", model.device)


def test_groups_own_what_they_name_and_the_rest_stays_as_it_is(schema: Schema) -> None:
    groups = {"who": ["user", "I2"], "low": ["item[0:2]", "C1[0]"], "past": ["history[-1]"]}
    mask = build_feature_mask(schema, 3, "groups", torch.device("cpu"), groups)
    assert mask.features == ("who", "low", "past")
    inputs, base = _inputs(2, 3), _inputs(1, 3)
    off = mask.apply(torch.zeros(2, 3), inputs, base.expand_to(inputs))
    moved = Inputs(*(a != b for a, b in zip(off, inputs, strict=True)))
    assert moved.dense[0].tolist() == [False, True, False]
    assert moved.fields[0].int().tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 0]]
    assert moved.history[0].any(1).tolist() == [False, False, False, True]


def test_in_a_mixture_the_first_kind_that_knows_a_number_owns_it(schema: Schema) -> None:
    mask = build_feature_mask(
        schema, 2, ["groups", "fields"], torch.device("cpu"), {"who": ["user", "I1"]}
    )
    steps = [f"history[{step}]" for step in (-4, -3, -2, -1)]
    assert mask.features == ("who", "I2", "I3", "C1", "C2", "item", *steps)
    mixed = build_feature_mask(schema, 2, ["dense", "dimensions"], torch.device("cpu"))
    assert (
        mixed.features == build_feature_mask(schema, 2, "dimensions", torch.device("cpu")).features
    )
    assert build_feature_mask(schema, 2, ["steps", "dense"], torch.device("cpu")).features == (
        "I1", "I2", "I3", *steps
    )  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({}, "no group is named"),
        ({"who": ["usr"]}, r"explain\.groups\.who: no input 'usr'; did you mean 'user'"),
        ({"who": ["user[0:9]"]}, r"no input 'user\[0:9\]'"),
        ({"who": ["user[3:3]"]}, r"no input 'user\[3:3\]'"),
        ({"user": ["item"]}, r"explain\.groups\.user: an input has this name"),
        ({"a": ["user"], "b": ["user"]}, r"explain\.groups\.b: earlier features hold all"),
    ],
)
def test_groups_of_what_there_is_not_are_refused(
    schema: Schema, groups: dict[str, list[str]], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        build_feature_mask(schema, 8, "groups", torch.device("cpu"), groups)
