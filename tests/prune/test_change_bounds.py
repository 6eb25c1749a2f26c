"""Bounds of the change: no input has a larger one, and they reach it where inputs are few."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product

import pandas as pd
import pytest
import torch
from torch import Tensor

from glassrec.artifacts import Certificate
from glassrec.data.dataset import Dataset
from glassrec.models.base import Inputs, Recommender
from glassrec.prune.certificate_text import text
from glassrec.prune.guarantees.change_bounds import ChangeBounds, change_bound
from glassrec.prune.new_rows import float64_pair
from glassrec.prune.pruner import Pruner

SMALL: dict[str, dict[str, object]] = {
    "dlrm": {"embedding": 3, "bottom": [6], "top": [8, 4]},
    "dcn": {"embedding": 3, "deep": [8], "projection_dim": 2},
    "dnn": {"embedding": 3, "hidden": [8, 4]},
    "two_tower": {"embedding": 3, "towers": [5], "head": [6]},
    "mlp": {"factors": 2}, "neumf": {"factors": 2}, "gmf": {"factors": 4}, "mf": {"factors": 4},
}  # fmt: skip
RANGE = torch.tensor([[-1.0, -2.0, 0.5], [1.0, 0.5, 0.5]])


@pytest.fixture
def cut(build: Callable[..., Recommender], dataset: Dataset) -> Callable[..., tuple]:
    """Both models in float64, and the plan, of a cut of a model by its name."""

    def make(name: str, level: str = "budget") -> tuple:
        model = build(name, **SMALL[name])
        rows = [(name, unit) for name, layer in model.layers.items() for unit in range(layer.size)]
        frame = pd.DataFrame(rows, columns=["layer", "unit"])
        frame = frame.assign(max_abs=1.0, mean_abs=[(7 * k) % 11 for k in range(len(rows))])
        pruner = Pruner(level, share=0.4)
        plan = pruner.plan(model, frame, dataset)
        return *float64_pair(model, pruner.prune(model, plan)), plan

    return make


def _inputs(model: Recommender, dense: Tensor, ids: Tensor) -> Inputs:
    tables = [model.table.vectors(name) for name in model.schema.field_names]
    fields = torch.stack([table[own] for table, own in zip(tables, ids.T, strict=True)], 1)
    empty = dense.new_zeros(len(dense), 0)
    return Inputs(dense, fields, empty.unsqueeze(2), empty)


def _changes(large: Recommender, small: Recommender, dense: Tensor, ids: Tensor) -> Tensor:
    """(N,): |Δlogit| of both models, each by itself."""
    with torch.no_grad():
        before, after = (m.task_logits(_inputs(m, dense, ids)) for m in (large, small))
    return (before - after).abs().amax(1)


@pytest.mark.parametrize("name", SMALL)
def test_no_input_changes_by_more_and_splits_lower_the_bound(
    name: str, cut: Callable[..., tuple]
) -> None:
    large, small, plan = cut(name)
    low, high = RANGE[:, : len(large.schema.dense)].double()
    draw = torch.Generator().manual_seed(1)
    sizes = [field.size for field in large.schema.fields]
    ids = torch.stack([torch.randint(size, (20_000,), generator=draw) for size in sizes], 1)
    ends = torch.randint(2, (20_000, len(low)), generator=draw).double()  # corners and inside
    share = torch.rand(20_000, len(low), generator=draw).double().where(ids[:, :1] > 1, ends)
    largest = _changes(large, small, low + (high - low) * share, ids).max().item()
    bounds = [change_bound(large, small, plan, torch.stack([low, high]), n) for n in (1, 9, 301)]
    assert [each.boxes for each in bounds[:2]] == [1, 9]
    assert largest > 0.1
    for first, then in pairwise(bounds):
        assert then.bound < first.bound
    assert bounds[-1].bound >= max(largest, bounds[-1].random_max)


@pytest.mark.parametrize("name", ["mlp", "neumf", "gmf", "mf"])
def test_it_is_the_largest_change_of_all_ids_once_each_pair_is_a_box(
    name: str, cut: Callable[..., tuple]
) -> None:
    large, small, plan = cut(name)
    sizes = [field.size for field in large.schema.fields]
    ids = torch.tensor([*product(*map(range, sizes))])
    found = change_bound(large, small, plan, torch.zeros(2, 0), 10_000)
    exact = _changes(large, small, torch.zeros(len(ids), 0).double(), ids).max().item()
    assert exact <= found.bound <= exact * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize("name", ["dlrm", "dcn", "dnn", "two_tower"])
def test_random_boxes_hold_every_change_within(name: str, cut: Callable[..., tuple]) -> None:
    large, small, plan = cut(name)
    bounds, draw = ChangeBounds(large, plan), torch.Generator().manual_seed(2)
    columns, sizes = len(large.schema.dense), [field.size for field in large.schema.fields]
    groups = []
    for root in bounds.roots:  # go down the tree of ids as far as chance wants
        group = root
        while bounds.children[group, 0] >= 0 and torch.rand((), generator=draw) < 0.8:
            group = int(bounds.children[group, int(torch.rand((), generator=draw) < 0.5)])
        groups.append(group)
    for width in (0.0, 0.1, 1.0):
        low = torch.randn(40, columns, generator=draw).double()
        high = low + width
        found = bounds.bound(low, high, torch.tensor(groups).expand(40, -1))
        ends = bounds.ends[torch.tensor(groups)]
        choice = []
        for place, field in enumerate(large.schema.fields):
            vectors = large.table.vectors(field.name)
            inside = ((vectors >= ends[place, 0]) & (vectors <= ends[place, 1])).all(1)
            choice.append(inside.nonzero().flatten())
            assert len(choice[-1]) <= sizes[place]
        for box in range(0, 40, 4):
            rows = torch.rand(50, columns, generator=draw).double() * width + low[box]
            ids = torch.stack(
                [own[torch.randint(len(own), (50,), generator=draw)] for own in choice], 1
            )
            assert _changes(large, small, rows, ids).max() <= found.bound[box] + 1e-9


@pytest.mark.parametrize("name", SMALL)
def test_a_cut_that_changes_nothing_has_a_bound_of_rounding(
    name: str, cut: Callable[..., tuple]
) -> None:
    large, _, plan = cut(name)
    layers = {
        each: replace(layer, constants={}, kept=[*layer.kept, *layer.constants], dropped={})
        for each, layer in plan.layers.items()
    }
    dense = RANGE[:, : len(large.schema.dense)]
    found = change_bound(large, large, replace(plan, layers=layers), dense, 5)
    assert found.random_max == 0
    assert found.bound <= 1e-6


def test_the_certificate_states_the_bound_and_is_read_again(
    build: Callable[..., Recommender], dataset: Dataset, tmp_path
) -> None:
    model = build("dlrm", **SMALL["dlrm"])
    rows = [(name, unit) for name, layer in model.layers.items() for unit in range(layer.size)]
    frame = pd.DataFrame(rows, columns=["layer", "unit"]).assign(max_abs=1.0, mean_abs=0.5)
    pruner = Pruner("budget", bound_boxes=9)
    plan = pruner.plan(model, frame, dataset)
    found = pruner.certify(model, pruner.prune(model, plan), plan, dataset, files={}, given={})
    assert found.change_bound is not None
    assert found.change_bound.bound > found.max_abs_logit_difference > 0
    assert f"no logit changes by more than {found.change_bound.bound:.3g}" in " ".join(
        text(found).split()
    )
    found.save(tmp_path / "certificate.json")
    assert Certificate.load(tmp_path / "certificate.json") == found
    older = replace(found, change_bound=None)
    older.save(tmp_path / "older.json")
    assert "change_bound" not in (tmp_path / "older.json").read_text()
    assert Certificate.load(tmp_path / "older.json") == older


@pytest.mark.long
def test_no_input_of_a_million_changes_by_more_than_the_bound_of_a_dlrm(
    cut: Callable[..., tuple],
) -> None:
    large, small, plan = cut("dlrm")
    low, high = RANGE[:, : len(large.schema.dense)].double()
    found = change_bound(large, small, plan, torch.stack([low, high]), 301)
    draw, largest = torch.Generator().manual_seed(3), 0.0
    for _ in range(50):
        dense = low + (high - low) * torch.rand(20_000, len(low), generator=draw).double()
        sizes = [field.size for field in large.schema.fields]
        ids = [torch.randint(size, (20_000,), generator=draw) for size in sizes]
        change = _changes(large, small, dense, torch.stack(ids, 1)).max().item()
        largest = max(largest, change)
    assert 0.1 < largest <= found.bound < 50 * largest


@pytest.mark.parametrize(("name", "why"), [("lstm", "reads a history")])
def test_models_without_a_known_bound_are_refused(
    name: str, why: str, build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model = build(name)
    plan = Pruner("data").plan(model, pd.DataFrame(
        [(name, 0) for name in model.layers], columns=["layer", "unit"]
    ).assign(max_abs=1.0), dataset)  # fmt: skip
    with pytest.raises(ValueError, match=why):
        ChangeBounds(model.double(), plan)
