"""A certificate on new rows: planted neurons that wake up are found, and nothing else."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pandas as pd
import pytest
import torch

from glassrec.artifacts import Certificate
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.models.base import Recommender
from glassrec.models.layers import activations
from glassrec.prune.new_rows import NewRowsCheck, float64_pair
from glassrec.prune.pruner import Pruner


def _neurons(model: Recommender) -> pd.DataFrame:
    rows = [(name, unit) for name, layer in model.layers.items() for unit in range(layer.size)]
    return pd.DataFrame(rows, columns=["layer", "unit"]).assign(
        max_abs=1.0, mean_abs=range(len(rows))
    )


def _check(
    model: Recommender, dataset: Dataset, pruner: Pruner
) -> tuple[NewRowsCheck, Certificate]:
    plan = pruner.plan(model, _neurons(model), dataset)
    weights = pruner.prune(model, plan)
    certificate = pruner.certify(model, weights, plan, dataset, files={}, given={})
    return NewRowsCheck(*float64_pair(model, weights), plan, certificate), certificate


@pytest.fixture
def planted(build: Callable[..., Recommender], dataset: Dataset) -> Recommender:
    """A DLRM with four neurons of bottom.0 that are pruned, as no row of the data needs them.

    Neuron 2 is active where I1 is above its largest value by 1, neuron 5 where I2 is. Neurons 6 and
    7 are read by neuron 1 of bottom.1 alone: 6 is always active, and 7, which this one needs to be
    active, where I3 is above its largest value by 1.
    """
    model = build("dlrm", embedding=3, bottom=[9, 5], top=[6])
    first, second = (model.get_submodule(f"bottom.{place}.affine") for place in (0, 1))
    dense = torch.cat([split.batch.dense for split in dataset.splits.values()]).amax(0)
    with torch.no_grad():
        for neuron, column in ((2, 0), (5, 1), (7, 2)):
            first.weight[neuron] = torch.eye(3)[column]
            first.bias[neuron] = -dense[column] - 1
        first.weight[6], first.bias[6] = torch.tensor([0.1, 0.2, 0.3]), 5
        second.weight[:, [6, 7]] = 0
        second.weight[1] = 0
        second.weight[1, 6], second.weight[1, 7], second.bias[1] = 0.1, 1e3, -10
    return model


def test_planted_neurons_that_wake_up_are_found_and_nothing_else(
    planted: Recommender, dataset: Dataset, rows: Callable[..., Batch]
) -> None:
    check, certificate = _check(planted, dataset, Pruner(level="data"))
    assert certificate.exact
    assert {"bottom.0[2]", "bottom.0[5]", "bottom.1[1]"} <= {*check.names}
    assert {6, 7} <= {*check.plan.layers["bottom.0"].constants}
    assert not {"bottom.0[6]", "bottom.0[7]"} & {*check.names}  # nothing else reads them
    new = dataset.test.batch
    assert not check.compare(new).active.any()
    assert not check.compare(new).moved.any()
    dense = new.dense.clone()
    dense[3, 0] += 100
    dense[[3, 7], 1] += 100
    dense[11, 2] += 100
    found = check.compare(new._replace(dense=dense))
    active = {(row, check.names[place]) for row, place in found.active.nonzero().tolist()}
    assert active == {
        (3, "bottom.0[2]"), (3, "bottom.0[5]"), (7, "bottom.0[5]"), (11, "bottom.1[1]")
    }  # fmt: skip
    assert found.moved.nonzero().flatten().tolist() == [3, 7, 11]
    with torch.no_grad():
        own = planted.double()(new._replace(dense=dense.double()))
    assert torch.allclose(found.before, own, atol=1e-12)
    still = [row for row in range(new.rows) if row not in (3, 7, 11)]
    assert (found.before - found.after)[still].abs().max() < 1e-9


def test_an_approximate_cut_holds_up_to_the_change_that_is_certified(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    check, certificate = _check(build("dlrm"), dataset, Pruner(level="budget", share=0.5))
    assert not check.names  # replaced neurons vary on every row
    assert certificate.max_abs_logit_difference > 0.01
    assert not check.compare(dataset.test.batch).moved.any()
    dense = dataset.test.batch.dense.clone()
    dense[4] *= 1000
    found = check.compare(dataset.test.batch._replace(dense=dense))
    change = (found.before - found.after).abs().amax(1)
    assert change[4] > certificate.max_abs_logit_difference
    assert found.moved.nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize("name", ["lstm", "dcn", "two_tower"])
def test_active_neurons_are_those_whose_activation_is_another(
    name: str, build: Callable[..., Recommender], dataset: Dataset, rows: Callable[..., Batch]
) -> None:
    model = build(name)
    check, _ = _check(model, dataset, Pruner(level="data"))
    new = rows(50, seed=9)
    new = new._replace(dense=new.dense * 5)
    found = check.compare(new)
    double = copy.deepcopy(model).double()
    with activations(double.layers) as recorded, torch.no_grad():
        before = double(new._replace(dense=new.dense.double()))
    assert torch.equal(found.before, before)
    for place, neuron in enumerate(check.names):
        layer, unit = re.fullmatch(r"(.+)\[(\d+)\]", neuron).groups()  # type: ignore[union-attr]
        constant = check.plan.layers[layer].constants[int(unit)]
        away = [(values[:, int(unit)] - constant).abs() > 1e-9 for values in recorded[layer]]
        assert torch.equal(found.active[:, place], torch.stack(away).any(0))
    assert torch.equal(found.moved, ((found.after - before).abs() > 1e-9).any(1))
    assert not (found.moved & ~found.active.any(1)).any()  # no change without a cause
    assert found.active.any()
    assert found.moved.any()
