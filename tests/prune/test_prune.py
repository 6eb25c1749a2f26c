"""Pruning of planted neurons: what goes, what stays, and what the proof says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from glassrec.artifacts import PrunePlan, digest
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.explain.explainer import Explain
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.explain.neurons import Conductance
from glassrec.explain.selection import Selection
from glassrec.models.base import Recommender
from glassrec.models.layers import Hidden, PrunableLayer
from glassrec.prune.certificate import certify
from glassrec.prune.guarantees.ranges import ActivationRange, activation_ranges
from glassrec.prune.precision import copy_sharing_table, to_float64
from glassrec.prune.pruner import Pruner
from glassrec.prune.surgery import prune_model, prune_neurons

EXPLAIN = Explain(select=Selection(rows=25), neurons=Conductance(8))
LAYER = {"mlp": "tower.1", "neumf": "tower.0", "dlrm": "top.0"}


def _kill(layer: Hidden, unit: int) -> None:
    """Never above zero."""
    with torch.no_grad():
        layer.affine.weight[unit] = 0
        layer.affine.bias[unit] = -1


def _freeze(layer: Hidden, unit: int, at: float) -> None:
    """Always the same."""
    with torch.no_grad():
        layer.affine.weight[unit] = 0
        layer.affine.bias[unit] = at


def _wake(model: Recommender) -> None:
    """Let every unit of every hidden layer fire on some rows: none is constant by chance."""
    with torch.no_grad():
        for layer in model.layers.values():
            if isinstance(layer, Hidden):
                layer.affine.weight.abs_()
                layer.affine.bias.fill_(0.3)
        model.table.weight.abs_()


def _planted(build: Callable[..., Recommender], name: str) -> tuple[Recommender, Hidden]:
    settings = {"bottom": [6], "top": [8, 5], "embedding": 4} if name == "dlrm" else {"factors": 2}
    model = build(name, **settings)
    _wake(model)
    layer = model.layers[LAYER[name]]
    assert isinstance(layer, Hidden)
    _kill(layer, 0)
    _freeze(layer, 2, 1.7)
    _freeze(layer, 3, 0.1)
    return model, layer


def _plan(model: Recommender, dataset: Dataset, level: str = "data") -> PrunePlan:
    prune = Pruner(level=level, chunk=7)
    return prune.plan(model, neuron_scores(EXPLAIN.build_explainer(model, dataset, 0)), dataset)


def _difference(model: Recommender, small: Recommender, dataset: Dataset) -> float:
    """The largest |Δlogit| in float64 over every row of every split."""
    large, small = deepcopy(model).double(), deepcopy(small).double()
    largest = 0.0
    for split in dataset.splits.values():
        batch = split.batch._replace(dense=split.batch.dense.double())
        largest = max(largest, (large(batch) - small(batch)).abs().max().item())
    return largest


@pytest.mark.parametrize("name", sorted(LAYER))
def test_blind_zeroing_of_the_constant_ones_is_wrong(
    build: Callable[..., Recommender], dataset: Dataset, name: str
) -> None:
    model, layer = _planted(build, name)
    blind = deepcopy(model)
    for unit in (2, 3):
        _freeze(blind.layers[LAYER[name]], unit, 0.0)
    assert _difference(model, blind, dataset) > 1e-3
    unfolded = deepcopy(model)
    kept = torch.tensor([u for u in range(layer.size) if u not in (2, 3)])
    unfolded.layers[LAYER[name]].keep(kept, torch.zeros(layer.size))
    assert _difference(model, unfolded, dataset) > 1e-3


def test_it_looks_again_until_nothing_more_is_constant(
    build: Callable[..., Recommender], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that feeds tower.1[1] is constant; as rounding may, the stub hides it until that is
    folded."""
    model = build("mlp", factors=2)
    _wake(model)
    first, second = model.layers["tower.0"], model.layers["tower.1"]
    for unit in (0, 1, 2):
        _freeze(first, unit, 0.1 * (unit + 1))
    with torch.no_grad():
        second.affine.weight[1, 3:] = 0
    model.requires_grad_(False)

    def rounded(small: Recommender, batches: Iterable[Batch]) -> dict[str, ActivationRange]:
        found = activation_ranges(small, batches)
        if len(small.layers["tower.0"].units) == 8:
            found["tower.1"].high[1] += 1e-12
        return found

    monkeypatch.setattr("glassrec.prune.guarantees.ranges.activation_ranges", rounded)
    found = _plan(model, dataset)
    assert sorted(found.layers["tower.0"].constants) == [0, 1, 2]
    expected = float(second.affine.weight[1, :3].double() @ torch.tensor([0.1, 0.2, 0.3]).double())
    assert found.layers["tower.1"].constants == pytest.approx(
        {1: expected + second.affine.bias[1].item()}, rel=1e-6
    )
    assert found.passes == 3
    assert _difference(model, prune_model(model, found), dataset) <= 1e-9


def test_the_certificate_counts_what_a_wrong_cut_changed(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model, _ = _planted(build, "mlp")
    frame = neuron_scores(EXPLAIN.build_explainer(model, dataset, 0))
    alive = frame.query("layer == 'tower.1'").nlargest(1, "mean_abs")["unit"].item()
    # As if the sample had missed it:
    frame.loc[(frame["layer"] == "tower.1") & (frame["unit"] == alive), ["mean_abs", "max_abs"]] = 0
    by_sample = Pruner(level="sample").plan(model, frame, dataset)
    assert alive in by_sample.layers["tower.1"].constants
    by_data = Pruner(level="data").plan(model, frame, dataset)
    assert alive not in by_data.layers["tower.1"].constants
    assert by_data.layers["tower.1"].refuted == 1
    prune = Pruner(level="sample")
    certificate = prune.certify(
        model, prune.prune(model, by_sample), by_sample, dataset, files={}, given={}
    )
    assert not certificate.exact
    assert certificate.rows == {"train": 60, "val": 30, "test": 20}
    found = _difference(model, prune_model(model, by_sample), dataset)
    assert certificate.max_abs_logit_difference == pytest.approx(found, rel=1e-9)
    assert certificate.rows_changed > 100
    assert certificate.p999_abs_logit_difference <= certificate.max_abs_logit_difference


def test_sample_level_folds_the_mean(build: Callable[..., Recommender], dataset: Dataset) -> None:
    model, _ = _planted(build, "mlp")
    found = _plan(model, dataset, level="sample")
    assert found.layers["tower.1"].constants == pytest.approx({0: 0, 2: 1.7, 3: 0.1})
    assert found.layers["tower.1"].dropped == {"sample": [0, 2, 3]}
    assert _difference(model, prune_model(model, found), dataset) <= 1e-9


def test_an_exact_level_that_breaks_its_promise_is_an_error(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model = build("mlp").double()
    found = _plan(model, dataset)
    other = deepcopy(model)
    with torch.no_grad():
        other.output.bias += 1e-8
    rows = {name: split.batch.chunks(50) for name, split in dataset.splits.items()}
    with pytest.raises(RuntimeError, match=r"promises equal logits.* up to 1e-08"):
        certify(model, other, found, rows, weights="", pruned="", files={}, given={}, splits={})


def test_the_stored_weights_hold_the_certified_numbers(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    """A folded constant is no float32; the file keeps it in float64, and only that."""
    model, _ = _planted(build, "mlp")
    found = _plan(model, dataset)
    pruned = Pruner().prune(model, found)
    doubles = [n for n, t in pruned.tensors.items() if t.dtype == torch.float64]
    assert doubles == ["tower.2.affine.bias"]
    fresh = build("mlp", factors=2).double()
    fresh.load(pruned.tensors, "FILE")
    assert _difference(model, fresh, dataset) <= 1e-9


def test_each_layer_above_a_dead_one_keeps_one_unit(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model = build("mlp", factors=2)
    _wake(model)
    for unit in range(8):
        _kill(model.layers["tower.0"], unit)
    found = _plan(model, dataset)
    assert found.layers["tower.0"].kept == [0]
    small = prune_model(model, found)
    assert [len(layer.units) for layer in small.tower] == [1, 1, 1]
    assert _difference(model, small, dataset) <= 1e-9


def test_a_unit_whose_only_reader_went_stands_on_the_level_of_that(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    """tower.1[1] is silent on these rows; what it alone reads is as needed as it is elsewhere."""
    model = build("mlp", factors=2)
    _wake(model)
    reader = model.layers["tower.1"].affine
    with torch.no_grad():
        reader.bias[1] = -1e6
        reader.weight[[0, 2, 3], 3] = 0  # one reader
        reader.weight[:, 5] = 0  # none
    found = _plan(model, dataset)
    assert found.layers["tower.1"].dropped == {"data": [1]}
    assert found.layers["tower.0"].dropped == {"domain": [5], "data": [3]}


@pytest.mark.parametrize("level", ["data", "sample", "budget"])
def test_a_plan_leaves_the_model_as_it_is_and_copies_no_table(
    build: Callable[..., Recommender],
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    level: str,
) -> None:
    """In float64, as the pipeline plans; a table can be most of the memory."""
    model = _planted(build, "neumf")[0].double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    table = model.table.weight.data_ptr()
    copies = []
    monkeypatch.setattr(
        "glassrec.prune.plan.to_float64",
        lambda model: copies.append(to_float64(model)) or copies[-1],
    )
    assert _plan(model, dataset, level).dropped
    assert [copy.table.weight.data_ptr() for copy in copies] == [table]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_cut_leaves_the_model_that_it_is_of_as_it_is(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model, _ = _planted(build, "neumf")
    rows = dataset.test.batch
    logits = model(rows)
    goes = {name: torch.arange(len(layer.units)) > 0 for name, layer in model.layers.items()}
    means = {name: torch.ones(len(each)).double() for name, each in goes.items()}
    small = prune_neurons(copy_sharing_table(model), goes, means)
    assert small.table.weight.numel() < model.table.weight.numel()
    assert torch.equal(model(rows), logits)
    assert (
        copy_sharing_table(model).float().double().table.weight.data_ptr()
        != model.table.weight.data_ptr()
    )
    assert model.table.weight.dtype == torch.float32


def test_a_cut_gives_layers_the_numbers_in_the_precision_of_the_model(
    build: Callable[..., Recommender], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a device has no float64, none may be sent there."""
    model, _ = _planted(build, "mlp")
    given = []
    monkeypatch.setattr(
        PrunableLayer, "keep", lambda layer, kept, constants: given.append(constants.dtype)
    )
    goes = {"tower.1": torch.tensor([True, False, False, False])}
    prune_neurons(model, goes, {"tower.1": torch.ones(4).double()})
    assert given == [torch.float32]


def test_a_plan_of_another_model_is_refused(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model, _ = _planted(build, "mlp")
    found = _plan(model, dataset)
    for other in (build("gmf"), prune_model(model, found), build("mlp", factors=2)):
        with pytest.raises(ValueError, match=r"the plan is of the weights .*; plan again"):
            prune_model(other, found)
    for other, said in (
        (build("gmf"), r"the plan is of layers"),
        (build("mlp", factors=1), r"the plan and the model differ in neuron 8 of embedding"),
    ):
        mislabelled = replace(found, weights=digest(other.state_dict()))
        with pytest.raises(ValueError, match=said):
            prune_model(other, mislabelled)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("level", ["domain", "data", "sample", "budget"])
def test_a_gpu_cuts_what_the_processor_does(
    build: Callable[..., Recommender], dataset: Dataset, level: str
) -> None:
    model, _ = _planted(build, "dlrm")
    scores = neuron_scores(EXPLAIN.build_explainer(model, dataset, 0))
    prune = Pruner(level=level)
    expected = prune.plan(model, scores, dataset)
    model.to("cuda")
    found = prune.plan(model, scores, dataset)
    assert {n: c.kept for n, c in found.layers.items()} == {
        n: c.kept for n, c in expected.layers.items()
    }
    pruned = prune.prune(model, found)
    certificate = prune.certify(model, pruned, found, dataset, files={}, given={})
    assert certificate.exact == (level in ("domain", "data"))
