"""The certificate: what it counts, which units it names, and what it says to people."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from math import ceil

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec import processes
from glassrec.artifacts import (
    Certificate,
    CertifiedLayer,
    LayerPlan,
    PrunedNeurons,
    PrunePlan,
    Weights,
    digest,
)
from glassrec.data.batch import Batch, Split
from glassrec.data.dataset import Dataset
from glassrec.data.schema import Field, Schema
from glassrec.models.base import Recommender
from glassrec.models.ncf import GMF
from glassrec.prune import logit_differences
from glassrec.prune.certificate import BrokenPromiseError, certify, data_digests
from glassrec.prune.certificate_text import in_short, text
from glassrec.prune.logit_differences import LogitDifferences
from glassrec.prune.precision import to_float64
from glassrec.prune.pruner import Pruner
from glassrec.prune.surgery import prune_model, prune_neurons
from glassrec.training.memory import AllocationCounter


def _plan(model: Recommender, level: str, gone: dict[str, dict[int, float]]) -> PrunePlan:
    """A plan that drops these units of these layers, with their constants."""
    cuts = {}
    for name, layer in model.layers.items():
        constants = gone.get(name, {})
        kept = [unit for unit in layer.units.tolist() if unit not in constants]
        cuts[name] = LayerPlan(layer.size, kept, {level: [*constants]}, constants, 0, 0, 0, "")
    return PrunePlan(level, "", "by hand", 1, True, False, digest(model.state_dict()), cuts)


def _certificate(large: Recommender, small: Recommender, plan: PrunePlan, dataset: Dataset):
    rows = {name: split.batch.chunks(7) for name, split in dataset.splits.items()}
    return certify(
        large.double(), small.double(), plan, rows, weights="w", pruned="p", files={"a": "b"},
        given={"data": {"f": "g"}}, splits=data_digests(dataset),
    )  # fmt: skip


def test_the_differences_are_those_of_numpy(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    large = build("dlrm", embedding=4, bottom=[6], top=[8, 5])
    plan = _plan(large, "sample", {"top.0": {1: 0.5, 4: 0.25}})
    small = prune_model(large, plan)
    found = _certificate(large, small, plan, dataset)
    parts = [
        (large(b) - small(b)).detach().numpy()
        for b in (s.batch._replace(dense=s.batch.dense.double()) for s in dataset.splits.values())
    ]
    differences = np.abs(np.concatenate(parts)).max(1)
    assert found.max_abs_logit_difference == pytest.approx(differences.max(), rel=1e-9)
    expected = np.quantile(differences, 0.999, method="inverted_cdf")
    assert found.p999_abs_logit_difference == pytest.approx(expected, rel=1e-9)
    assert found.rows_changed == (differences > 1e-9).sum() > 0
    assert found.rows == {"train": 60, "val": 30, "test": 20}
    assert not found.exact


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 12_345])
def test_the_quantile_is_the_kth_value_also_with_nan(
    build: Callable[..., Recommender], rows: Callable[..., Batch], count: int
) -> None:
    large, batch = build("dlrm", embedding=4, bottom=[6], top=[8, 5]).double().eval(), rows(count)
    batch.dense[::9000] = torch.nan
    small = deepcopy(large)
    with torch.no_grad():
        small.table.weight += 0.1
        found = LogitDifferences(large, small, {"test": batch.chunks(700)})
        doubled = batch._replace(dense=batch.dense.double())
        each = (large(doubled) - small(doubled)).abs().amax(1)
    expected = each.kthvalue(ceil(0.999 * count)).values.item()
    assert found.p999() == pytest.approx(expected, nan_ok=True)


def test_a_float32_table_gives_the_logits_of_a_float64_one_bit_for_bit(
    model: Recommender, batch: Batch
) -> None:
    """Rows that become float64 as they are looked up, in the model and in a pruned one."""
    shared = to_float64(model.eval())
    whole = deepcopy(model).double()
    assert shared.table.weight.data_ptr() == model.table.weight.data_ptr()
    rows = batch._replace(dense=batch.dense.double())
    with torch.no_grad():
        assert torch.equal(shared(rows), whole(rows))
        for name in model.schema.field_names:
            assert torch.equal(shared.table.vectors(name), whole.table.vectors(name))
        masks = {name: torch.arange(len(la.units)) % 2 == 1 for name, la in model.layers.items()}
        zeros = {name: torch.zeros(len(mask)) for name, mask in masks.items()}
        shared, whole = (prune_neurons(each, masks, zeros) for each in (shared, whole))
        assert shared.table.weight.dtype == torch.float32
        assert torch.equal(shared(rows), whole(rows))


def test_each_process_holds_the_differences_of_its_share(
    build: Callable[..., Recommender], rows: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    large, batch = build("gmf").double().eval(), rows(40_000)
    peaks = {}
    for count in (1, 4):
        monkeypatch.setattr(processes, "count", lambda count=count: count)
        monkeypatch.setattr(processes, "rank", lambda count=count: count - 1)
        monkeypatch.setattr(logit_differences, "gather", lambda value: [value])
        with AllocationCounter() as counter, torch.no_grad():
            found = LogitDifferences(large, deepcopy(large), {"test": batch.chunks(500)})
        assert found.counts == {"test": 40_000 // count}
        peaks[count] = counter.most
    every, chunk = 40_000 * 2 * 8, 500 * 100 * 8  # bytes; at most 100 numbers a row on the way
    assert every < peaks[1]
    assert peaks[4] < every / 4 + chunk


@pytest.mark.parametrize("level", ["data", "domain"])
def test_planning_and_certifying_take_two_large_tables(level: str) -> None:
    """The narrower table of the pruned model, and a place to load it into."""
    schema = Schema((), (Field("user", 200_000), Field("item", 200_000)), user="user", item="item")
    ids = torch.randint(1, 200_000, (500, 2)) + torch.tensor([0, 200_000])
    empty = torch.zeros(500, 0)
    split = Split(Batch(empty, ids, empty.long(), torch.ones(500, 1)))
    large = GMF(schema, 16).eval()
    with torch.no_grad():
        large.table.weight[:, 3] = 0
    neurons = pd.DataFrame({"layer": ["product"], "unit": [0], "max_abs": [0.0]})
    pruner, dataset = Pruner(level), Dataset(schema, split, split, split)
    with AllocationCounter() as counter:
        plan = pruner.plan(large, neurons, dataset)
        pruned = pruner.prune(large, plan)
        found = pruner.certify(large, pruned, plan, dataset, files={}, given={})
    assert found.exact
    assert plan.dropped == 1
    assert pruned.tensors["table.weight"].shape == (400_000, 15)
    assert counter.most < 2.1 * large.table.weight.nbytes


def test_the_tolerance_is_relative_to_the_largest_logit(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    """Logits of millions, as of revenue, round by more than 1e-9; the same rounding is no error."""
    large = build("gmf").double()
    with torch.no_grad():
        large.output.bias += 1e9
    small = deepcopy(large)
    with torch.no_grad():
        small.output.bias += 0.5  # of what 1e9 · 1e-9 = 1 allows
    plan = _plan(large, "data", {})
    found = _certificate(large, small, plan, dataset)
    largest = max(
        large(split.batch._replace(dense=split.batch.dense.double())).abs().max().item()
        for split in dataset.splits.values()
    )
    assert found.max_abs_logit == pytest.approx(largest, rel=1e-12)
    # The rating's is larger by its unit: the bias is one of standard units.
    assert found.tolerance == pytest.approx(1e-9 * largest, rel=1e-12)
    assert found.rows_changed == 0
    assert f"{found.tolerance:.3g}" in text(found)
    with torch.no_grad():
        small.output.bias += 1
    with pytest.raises(BrokenPromiseError, match=r"up to 1\.8, where up to 1\.2 is rounding"):
        _certificate(large, small, plan, dataset)


@pytest.mark.parametrize(("unit", "task"), [(1e6, 0), (1e6, 1), (1e-6, 0), (1e-6, 1)])
def test_the_unit_of_a_rating_hides_no_change(
    build: Callable[..., Recommender], dataset: Dataset, unit: float, task: int
) -> None:
    """A change of 1e-6 standard units is one in either task, whatever the rating's unit is."""
    large = build("gmf").double()
    large.target_scale.deviation[1], large.target_scale.mean[1] = unit, 0.0
    small = deepcopy(large)
    with torch.no_grad():
        small.output.bias[task] += 1e-6
    found = _certificate(large, small, _plan(large, "sample", {}), dataset)
    assert found.rows_changed == 110
    size = unit if task else 1.0
    assert found.max_abs_logit_difference == pytest.approx(1e-6 * size, rel=1e-6)
    name, changed = dataset.schema.targets[task].name, f"{1e-6 * size:.3g}"
    with pytest.raises(BrokenPromiseError, match=f"{name!r} differ by up to {changed},"):
        _certificate(large, small, _plan(large, "data", {}), dataset)


def test_weights_that_are_not_finite_are_named(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model = build("gmf")
    pruned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned["output.bias"][0] = float("nan")
    pruned["table.weight"][2, :2] = float("inf")
    plan = _plan(model, "data", {})
    with pytest.raises(ValueError, match="not finite") as refusal:
        Pruner().certify(model, Weights(pruned), plan, dataset, files={}, given={})
    said = str(refusal.value)
    size = pruned["table.weight"].numel()
    assert said.startswith("pruned.safetensors: ")
    assert f"output.bias (1 of {len(pruned['output.bias'])})" in said
    assert f"table.weight (2 of {size})" in said


def test_a_row_without_a_number_has_changed(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model = build("gmf")
    broken = deepcopy(model)
    with torch.no_grad():
        broken.output.bias.fill_(float("nan"))
    found = _certificate(model, broken, _plan(model, "sample", {}), dataset)
    assert found.rows_changed == 110


def test_it_names_every_unit_that_went_as_it_was_built(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    whole = build("dlrm", embedding=4, bottom=[6], top=[8, 5])
    once = prune_model(whole, _plan(whole, "sample", {"top.0": {0: 0.0}}))
    plan = _plan(
        once, "sample", {"top.0": {5: 0.0, 1: 1.5, 6: 0.0, 7: 0.0}, "interaction": {4: 0.0}}
    )
    found = _certificate(once, prune_model(once, plan), plan, dataset)
    assert found.layers["top.0"] == CertifiedLayer(
        8,
        7,
        [
            PrunedNeurons("sample", 0.0, 3, "top.0[5-7]"),
            PrunedNeurons("sample", 1.5, 1, "top.0[1]"),
        ],
    )
    assert found.layers["interaction"].gone == [PrunedNeurons("sample", 0.0, 1, "dense×C1")]
    assert found.layers["top.1"] == CertifiedLayer(5, 5, [])


def test_a_plan_of_other_layers_or_units_is_refused(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model = build("mlp")
    with pytest.raises(ValueError, match="the plan is of layers"):
        _certificate(model, model, _plan(build("gmf"), "data", {}), dataset)
    strange = _plan(model, "data", {"tower.0": {99: 0.0}})
    with pytest.raises(ValueError, match=r"differ in neuron 99 of tower\.0"):
        _certificate(model, model, strange, dataset)


def test_rows_of_other_data_have_other_digests(dataset: Dataset) -> None:
    before = data_digests(dataset)
    dataset.test.batch.dense[3, 1] += 1e-6
    after = data_digests(dataset)
    assert [name for name in before if before[name] != after[name]] == ["test"]


def test_a_plan_of_another_checkpoint_is_refused(build: Callable[..., Recommender]) -> None:
    model = build("gmf")
    plan = _plan(model, "data", {})
    prune_model(model, plan)
    before = digest(model.state_dict())
    with torch.no_grad():
        model.table.weight[0, 0] += 1
    found = digest(model.state_dict())
    said = f"the plan is of the weights {before[:12]}…, these are {found[:12]}…; plan again"
    with pytest.raises(ValueError, match=said):
        prune_model(model, plan)


def test_names_in_short() -> None:
    names = [*(f"a[{k}]" for k in (9, 0, 1, 2, 3, 17)), "C3×C14", "b.0[4]", "dense×C1"]
    assert in_short(names) == "a[0-3, 9, 17], C3×C14, b.0[4], dense×C1"
    assert in_short([]) == ""


CERTIFICATE = Certificate(
    level="data",
    exact=True,
    ground="the least and the most on all rows are equal",
    rows={"train": 900, "test": 100},
    max_abs_logit_difference=3.21e-12,
    p999_abs_logit_difference=1e-13,
    rows_changed=0,
    max_abs_logit=0.5,
    tolerance=1e-9,
    layers={
        "top.0": CertifiedLayer(
            512, 512,
            [PrunedNeurons("data", 0.0, 3, "top.0[0-2]"), PrunedNeurons("data", 0.5, 1, "top.0[9]"),
             PrunedNeurons("data", 0.1 + 0.2, 1, "top.0[11]")],
        ),
        "top.1": CertifiedLayer(8, 8, []),
    },
    weights="aa",
    pruned="bb",
    files={"weights.safetensors": "cc"},
    given={"data": {"rows.csv": "dd"}, "model": {}},
    splits={"train": "ee", "test": "ff"},
    versions={"glassrec": "0.1.0", "torch": "2.13"},
)  # fmt: skip


def test_the_text_states_guarantee_neurons_comparison_and_hashes() -> None:
    found = text(CERTIFICATE)
    assert max(map(len, found.splitlines())) <= 100
    plain = " ".join(found.split())
    for part in (
        "Equal on every row: the logits of all 1,000 rows differ by at most 3.2e-12",
        "5 of 520 neurons were pruned at level data: the least and the most on all rows are equal.",
        "All neurons are kept in top.1.",
        "- top.0: 5 of 512 neurons",
        "- data, replaced by 0: top.0[0-2]",
        "- data, each replaced by its own constant: top.0[9] by 0.5, top.0[11] by 0.3",
        "- rows: 1,000 (train 900, test 100)",
        "- largest |Δlogit|: 3.21e-12 - 99.9th percentile: 1e-13",
        "- cc file weights.safetensors - aa tensors large - bb tensors pruned - ee rows train "
        "- ff rows test - dd given as data rows.csv",
        "glassrec 0.1.0, torch 2.13.",
    ):
        assert part in plain


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"level": "domain"}, "Equal for every possible input: "),
        ({"level": "sample", "exact": False}, "Equal on every row, though not proven by the level"),
        ({"layers": {}}, "Nothing was pruned; equal on every row: "),
        (
            {"exact": False, "rows_changed": 17, "max_abs_logit_difference": 0.3111},
            "Not exact: 17 of 1,000 rows changed, by at most 0.31.\n",
        ),
    ],
)
def test_the_first_sentence_says_what_is_proven(change: dict, said: str) -> None:
    assert f"\n\n{said}" in text(replace(CERTIFICATE, **change))


def test_hundreds_of_units_are_all_in_the_text() -> None:
    units = [*range(0, 600, 2)]
    gone = [PrunedNeurons("budget", 0.0, 300, in_short(f"t[{u}]" for u in units))]
    layers = {"t": CertifiedLayer(700, 600, gone)}
    said = text(replace(CERTIFICATE, layers=layers))
    assert max(map(len, said.splitlines())) <= 100
    listed = said.split("t[")[1].split("]")[0]
    assert [int(unit) for unit in listed.split(",")] == units
    assert "- t: 300 of 600 neurons (built with 700)" in said
