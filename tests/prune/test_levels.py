"""Units that are known, planted in every kind of layer: what each level takes, and what it leaves.

Each planted layer has the same ten units, or more: the eight named below, and alive ones.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.artifacts import PrunePlan
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Schema, Target
from glassrec.explain.explainer import Explain
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.explain.neurons import Conductance
from glassrec.explain.selection import Selection
from glassrec.models.base import Recommender
from glassrec.models.layers import Affine, Hidden
from glassrec.models.lstm import RecurrentCell
from glassrec.prune.budget import Measures
from glassrec.prune.importance import (
    ActivationScore,
    ConductanceScore,
    DeviationScore,
    ImportanceScore,
    RandomScore,
    TaylorScore,
    ZerosScore,
)
from glassrec.prune.pruner import Pruner

DEAD, CONSTANT, ASLEEP, BASELINE, UNREAD, FEEDER, TWIN, OTHER = range(8)
"""Zero; the same, not zero; zero unless the last id of a field, or a large I2, wakes it; zero on
every row, but not on the path from a baseline of zeros, or the same on every row, but not there;
alive, but read by nobody; alive, but read by an unread unit alone; two that are equal and alive,
and that all readers weigh oppositely."""

ROWS = Explain(select=Selection(rows=None), neurons=Conductance(4))
RANGES = ((-1.5, 0.5), (0.5, 2.0), (-1.0, 1.0))
WOKEN = 5
"""Rows of the test split that hold every field's last id and a large I2, where any do."""

Build = Callable[..., Recommender]


@dataclass(frozen=True)
class Units:
    """What should go of a layer: units and their constants, whatever comes in; and units at 0."""

    always: dict[int, float]
    unread: tuple[int, ...] = (UNREAD,)
    asleep: tuple[int, ...] = (ASLEEP,)
    beyond_bounds: tuple[int, ...] = ()
    """of those that always go: what interval bounds do not prove"""
    twins: tuple[int, int] = (TWIN, OTHER)
    orphans: tuple[int, ...] = ()
    """alive, and read by one that always goes alone: they go at that one's level"""

    def by_label(self, level: str) -> dict[str, dict[int, float]]:
        """What goes at an exact level, by the level that each unit is proven at."""
        certain = {u: c for u, c in self.always.items() if u not in self.beyond_bounds}
        orphans = dict.fromkeys(self.orphans, 0.0)
        more = self.always | dict.fromkeys(self.asleep, 0.0) | orphans
        certain |= orphans
        unread = dict.fromkeys(self.unread, 0.0)
        return {"domain": unread, "data": more} if level == "data" else {"domain": certain | unread}


EMBEDDING = Units({DEAD: 0, CONSTANT: 0.5, BASELINE: 0.5}, (UNREAD, FEEDER))
HIDDEN = Units({DEAD: 0, CONSTANT: 1.5, BASELINE: 0})
FEEDING = replace(HIDDEN, unread=(UNREAD, FEEDER))


@dataclass(frozen=True)
class Planted:
    """A model, and what of it should go; layers that are not named lose nothing."""

    model: Recommender
    layers: dict[str, Units]


def _embedding(model: Recommender, field: str, start: int = 0) -> None:
    """Plant units in ten columns of a field's vectors."""
    own = model.table.vectors(field)[:, start : start + 10]
    own[:, [DEAD, ASLEEP]] = 0
    own[-1, ASLEEP] = 1
    own[:, [CONSTANT, BASELINE]] = 0.5
    own[:, OTHER] = own[:, TWIN]


def _outputs(affine: Affine, start: int, *, first: bool = False) -> None:
    """Plant units in a map's outputs, which read those planted at column `start` of its inputs.

    All others are above zero on every row. The `first` map reads embeddings.
    """
    weight, bias = affine.weight, affine.bias
    weight.abs_()
    bias.fill_(0.3)
    weight[:UNREAD] = 0
    bias[:UNREAD] = torch.tensor([0, 1.5, 0, 0.25 if first else 0])
    weight[ASLEEP, start + ASLEEP] = 1
    weight[BASELINE, start + BASELINE] = -1 if first else 1
    weight[OTHER] = weight[TWIN]


def _inputs(affine: Affine, part: int = 0, *, feeds: bool = False) -> None:
    """Plant what reads units; with `feeds`, one of them is for an unread output alone."""
    (columns,) = affine.weights(part)
    columns[:, UNREAD] = 0
    columns[:, OTHER] = -columns[:, TWIN]
    if feeds:
        columns[:, FEEDER] = 0
        columns[UNREAD, FEEDER] = 1


def _mlp(build: Build) -> Planted:
    model = build("mlp", hidden=[10, 10])
    model.table.weight.abs_().add_(0.1)
    _embedding(model, "user")
    _outputs(model.tower[0].affine, 0, first=True)
    _inputs(model.tower[0].affine, feeds=True)
    _outputs(model.tower[1].affine, 0)
    _inputs(model.tower[1].affine, feeds=True)
    # Unit 8 is read by a dead unit alone, and so by nobody once that is gone.
    model.tower[1].affine.weight[:, 8] = 0
    model.tower[1].affine.weight[DEAD, 8] = -1
    _inputs(model.output)
    first = replace(FEEDING, orphans=(8,))
    return Planted(model, {"embedding": EMBEDDING, "tower.0": first, "tower.1": HIDDEN})


def _factors(model: Recommender) -> Units:
    """Plant products of a user and an item, in the first ten columns of either."""
    _embedding(model, "user")
    item = model.table.vectors("item")
    item[:, CONSTANT], item[:, BASELINE] = 3, 2
    item[:, OTHER] = item[:, TWIN]
    _inputs(model.output, 0)
    return Units({DEAD: 0, CONSTANT: 1.5, BASELINE: 1})


def _gmf(build: Build) -> Planted:
    model = build("gmf", factors=10)
    model.table.weight.abs_().add_(0.1)
    return Planted(model, {"product": _factors(model)})


def _neumf(build: Build) -> Planted:
    model = build("neumf", factors=10, hidden=[10])
    model.table.weight.abs_().add_(0.1)
    product = _factors(model)
    _embedding(model, "user", 10)
    _outputs(model.tower[0].affine, 0, first=True)
    _inputs(model.tower[0].affine, feeds=True)
    _inputs(model.output, 1)
    return Planted(model, {"product": product, "embedding": EMBEDDING, "tower.0": HIDDEN})


def _dnn(build: Build) -> Planted:
    model = build("dnn", embedding=10, hidden=[10])
    model.table.weight.abs_().add_(0.1)
    _embedding(model, "C1")
    _outputs(model.tower[0].affine, 3, first=True)
    _inputs(model.tower[0].affine, 1, feeds=True)
    _inputs(model.output)
    return Planted(model, {"embedding": EMBEDDING, "tower.0": HIDDEN})


def _dcn(build: Build) -> Planted:
    """The tower reads what enters the cross layers, as the components of either layer do."""
    model = build("dcn", embedding=10, cross_layers=2, projection_dim=10, deep=[10],
                  structure="parallel")  # fmt: skip
    model.table.weight.abs_().add_(0.1)
    _embedding(model, "C1")
    for cross in model.cross:
        rows = cross.projection.weight
        rows[:UNREAD] = 0
        rows[CONSTANT, 3 + CONSTANT] = 3
        rows[[ASLEEP, BASELINE], [3 + ASLEEP, 3 + BASELINE]] = 1
        rows[OTHER] = rows[TWIN]
        _inputs(cross.affine)
        # What is planted in C1 passes as it is.
        cross.affine.weight[3 : 3 + UNREAD], cross.affine.bias[3 : 3 + UNREAD] = 0, 0
    _outputs(model.tower[0].affine, 3, first=True)
    _inputs(model.output, 1)
    components = Units({DEAD: 0, CONSTANT: 1.5, BASELINE: 0.5})
    layers = {"cross.0.projection": components, "cross.1.projection": components}
    return Planted(model, {**layers, "tower.0": HIDDEN})


def _two_tower(build: Build) -> Planted:
    model = build("two_tower", embedding=10, towers=[10], head=[10])
    model.table.weight.abs_().add_(0.1)
    for field, tower, start, vector in (
        ("C1", model.query_tower, 3, model.to_query),
        ("item", model.candidate_tower, 0, model.to_candidate),
    ):
        _embedding(model, field)
        _outputs(tower[0].affine, start, first=True)
        _inputs(tower[0].affine, 1 if start else 0, feeds=True)
        _outputs(vector, 0)
        _inputs(vector)
    offers = model.to_candidate
    offers.bias[:UNREAD] = 1  # what the query has there decides
    offers.weight[OTHER], offers.bias[OTHER] = -offers.weight[TWIN], -offers.bias[TWIN]
    _outputs(model.head[0].affine, 0)
    for_query, for_item = (model.head[0].affine.weights(part)[0] for part in (0, 1))
    for_query[:, OTHER], for_item[:, OTHER] = -for_query[:, TWIN], for_item[:, TWIN]
    _inputs(model.output)
    layers = {"query_embedding": EMBEDDING, "query_tower.0": HIDDEN}
    layers |= {"candidate_embedding": EMBEDDING, "candidate_tower.0": HIDDEN}
    products = Units({DEAD: 0, CONSTANT: 1.5, BASELINE: 0}, unread=())
    return Planted(model, {**layers, "head.0": HIDDEN, "product": products})


def _states(cell: RecurrentCell, kind: str) -> None:
    """Plant recurrent units; what is new in one, and what lets it in, are gates of their own."""
    maps = [(cell.gates, 2), (cell.proposal, 1)] if kind == "gru" else [(cell.gates, 4)]
    for affine, blocks in maps:
        gates, bias = affine.weight.view(blocks, 10, 20), affine.bias.view(blocks, 10)
        gates[:, OTHER], bias[:, OTHER] = gates[:, TWIN], bias[:, TWIN]
        past = gates[:, :, 10:]
        past[:, :, OTHER] = -past[:, :, TWIN]
        for unit, readers in ((UNREAD, [UNREAD]), (FEEDER, [UNREAD, FEEDER])):
            others = [reader for reader in range(10) if reader not in readers]
            past[:, others, unit] = 0
    new, new_bias = (
        (cell.proposal.weight, cell.proposal.bias)
        if kind == "gru"
        else (cell.gates.weight[30:], cell.gates.bias[30:])
    )
    # Unit 9 repeats what 8 was a step before, so that it is zero in the first step alone.
    new[[DEAD, ASLEEP, BASELINE, 9]] = 0
    new[[ASLEEP, 9], [ASLEEP, 10 + 8]] = 1
    new_bias[[DEAD, ASLEEP, 9]] = 0
    new_bias[BASELINE] = 1
    # The constant of the items shuts it to the bit: e^-800 is zero, and a sigmoid of 800 is 1.
    valve, shut = (10 + BASELINE, 1600.0) if kind == "gru" else (BASELINE, -1600.0)
    cell.gates.weight[valve], cell.gates.bias[valve] = 0, 0
    cell.gates.weight[valve, BASELINE] = shut


def _recurrent(build: Build, kind: str) -> Planted:
    model = build("lstm", cell=kind, embedding=10, hidden=10, tower=[10])
    model.table.weight.abs_().add_(0.1)
    _embedding(model, "item")
    _states(model.recurrent.cell, kind)
    tower = model.tower[0].affine
    _outputs(tower, 10, first=True)
    _inputs(tower, 2, feeds=True)
    _inputs(tower, 0)
    tower.weights(0)[0][:, [FEEDER, 8]] = 0  # 8 is read in the cell, by units that stay
    _inputs(model.output)
    # Bounds take the zeros of padding for a step like any other.
    states = Units({DEAD: 0, BASELINE: 0}, (UNREAD, FEEDER), beyond_bounds=(BASELINE,))
    return Planted(model, {"recurrent": states, "embedding": EMBEDDING, "tower.0": HIDDEN})


def _dlrm(build: Build) -> Planted:
    """Vectors of 13: the planted units of the dense one, and columns in which pairs meet."""
    model = build("dlrm", embedding=13, bottom=[10], top=[10, 10])
    first, last = (layer.affine for layer in model.bottom)
    _outputs(first, -ASLEEP + 1)
    first.weight[BASELINE] = torch.tensor([0, -1, 0])
    first.bias[[ASLEEP, BASELINE]] = torch.tensor([-1.5, 0.25])
    _outputs(last, 0)
    _inputs(last, feeds=True)
    _pairs(model)
    _outputs(model.top[0].affine, 0)
    _inputs(model.top[0].affine, feeds=True)
    reads = model.top[0].affine.weight
    reads[:, 18] = 0
    reads[:, 22] = -reads[:, 21]
    _outputs(model.top[1].affine, 0)
    _inputs(model.top[1].affine, feeds=True)
    _inputs(model.output)
    dense, tower = {DEAD: 0.0, CONSTANT: 1.5, BASELINE: 0.0}, replace(HIDDEN, unread=())
    # C1×user and C1×C2 are always the same, C1×item is asleep, user×C2 is not read.
    pairs = Units(dense | {15: 0, 17: 0.5}, (UNREAD, FEEDER, 18), (ASLEEP, 20), twins=(21, 22))
    layers = {"bottom.0": HIDDEN, "bottom.1": tower, "interaction": pairs}
    return Planted(model, {**layers, "top.0": FEEDING, "top.1": HIDDEN})


def _pairs(model: Recommender) -> None:
    """What two fields have in common is their pair; user×item and C2×item are the same."""
    fields = {name: model.table.vectors(name) for name in model.schema.field_names}
    for name, columns in (("C1", []), ("user", [10]), ("C2", [10]), ("item", [9, 11])):
        drawn = fields[name][:, columns].abs() + 0.1
        fields[name].zero_()
        fields[name][:, columns] = drawn
    # Its product goes on with the constant, and reads what is not passed on.
    fields["C1"][:, [CONSTANT, UNREAD, FEEDER, 8]] = 1
    fields["C1"][-1, 9] = 1
    fields["C2"][:, 8] = 0.5
    fields["user"][:, 11], fields["C2"][:, 12] = 1, 1
    fields["item"][:, 12] = fields["item"][:, 11]


PLANTS: dict[str, Callable[[Build], Planted]] = {
    "gmf": _gmf, "mlp": _mlp, "neumf": _neumf, "dnn": _dnn, "dcn": _dcn, "two_tower": _two_tower,
    "lstm": lambda build: _recurrent(build, "lstm"), "gru": lambda build: _recurrent(build, "gru"),
    "dlrm": _dlrm,
}  # fmt: skip


@pytest.fixture
def schema(schema: Schema) -> Schema:
    """With ranges, and with a retrieval, whose logit adds up products."""
    targets = (Target("label"), Target("shown", "retrieval"))
    return replace(schema, ranges=RANGES, targets=targets)


@pytest.fixture(params=PLANTS)
def planted(request: pytest.FixtureRequest, build: Build) -> Planted:
    """Each planted model in turn."""
    with torch.no_grad():
        return PLANTS[request.param](build)


def _within(batch: Batch) -> Batch:
    """With dense columns pressed into their ranges."""
    low, high = torch.tensor(RANGES).T
    return batch._replace(dense=batch.dense.clamp(low, high))


def _asleep(batch: Batch, schema: Schema) -> Batch:
    """Without any field's last id, and without a large I2."""
    batch = _within(batch)
    batch.dense[:, 1].clamp_(max=1)
    for field, start in zip(schema.fields, schema.offsets, strict=True):
        last = start + field.size - 1
        batch.ids[batch.ids == last] = last - 1
        batch.history[batch.history == last] = last - 1
    return batch


@pytest.fixture
def dataset(dataset: Dataset) -> Dataset:
    """Rows on which what is asleep stays so."""
    splits = (Split(_asleep(s.batch, dataset.schema)) for s in dataset.splits.values())
    return Dataset(dataset.schema, *splits)


@pytest.fixture
def waking(dataset: Dataset) -> Dataset:
    """The same, but for some rows of the test split."""
    batch = deepcopy(dataset.test.batch)
    batch.dense[:WOKEN, 1] = 2
    for field, start in zip(dataset.schema.fields, dataset.schema.offsets, strict=True):
        last = start + field.size - 1
        batch.ids[:WOKEN, dataset.schema.id_columns(field.name)] = last
        if field.name == "item":
            batch.history[:WOKEN, -1] = last
    return replace(dataset, test=Split(batch))


def _plan(
    prune: Pruner, model: Recommender, dataset: Dataset, explain: Explain = ROWS
) -> PrunePlan:
    return prune.plan(model, neuron_scores(explain.build_explainer(model, dataset, 0)), dataset)


def _gone(plan: PrunePlan) -> dict[str, dict[str, dict[int, float]]]:
    """Constants by layer and level."""
    return {
        name: {
            level: {unit: cut.constants[unit] for unit in units}
            for level, units in cut.dropped.items()
        }
        for name, cut in plan.layers.items()
        if cut.dropped
    }


def _differences(model: Recommender, prune: Pruner, plan: PrunePlan, batch: Batch) -> Tensor:
    """(B,): the largest |Δlogit| of each row in float64."""
    large, small = deepcopy(model).double(), deepcopy(model).double()
    small.load(prune.prune(model, plan).tensors, "the pruned model")
    rows = batch._replace(dense=batch.dense.double())
    return (large(rows) - small(rows)).abs().amax(1).detach()


@pytest.mark.parametrize(
    "prune",
    [Pruner("domain"), Pruner("domain", max_enumerated_inputs=0), Pruner("data", chunk=7)],
    ids=["domain", "bounds", "data"],
)
def test_an_exact_level_takes_what_it_should_and_nothing_else(
    planted: Planted, dataset: Dataset, rows: Callable[..., Batch], prune: Pruner
) -> None:
    model = planted.model
    plan = _plan(prune, model, dataset)
    expected = {name: units.by_label(prune.level) for name, units in planted.layers.items()}
    found = _gone(plan)
    assert {n: {la: {*u} for la, u in each.items()} for n, each in found.items()} == {
        n: {la: {*u} for la, u in each.items() if u} for n, each in expected.items()
    }
    for name, each in found.items():
        for label, constants in each.items():
            assert constants == pytest.approx(expected[name][label], abs=1e-12), name
    certificate = prune.certify(model, prune.prune(model, plan), plan, dataset, files={}, given={})
    assert certificate.exact
    assert certificate.max_abs_logit_difference <= 1e-9
    assert certificate.rows.items() >= {"train": 60, "val": 30, "test": 20}.items()
    elsewhere = _differences(model, prune, plan, _within(rows(400, seed=9)))
    # What is asleep on the data wakes on some of these rows.
    assert (elsewhere > 1e-4).any() == (prune.level == "data")
    assert prune.level == "data" or elsewhere.max() <= 1e-9


def test_the_sample_takes_what_sleeps_there_and_is_caught(
    planted: Planted, waking: Dataset
) -> None:
    """The explained rows and the baseline hold nothing that wakes it; some test rows do."""
    model, prune = planted.model, Pruner("sample")
    plan = _plan(prune, model, waking)
    expected = {
        name: {*units.always, *units.unread, *units.orphans, *units.asleep}
        for name, units in planted.layers.items()
    }
    assert {n: {*u["sample"]} for n, u in _gone(plan).items()} == expected
    wrong = prune.certify(model, prune.prune(model, plan), plan, waking, files={}, given={})
    assert not wrong.exact
    assert wrong.rows_changed == WOKEN
    assert wrong.max_abs_logit_difference > 1e-3
    by_data = _plan(Pruner("data"), model, waking)
    for name, cut in by_data.layers.items():
        asleep = planted.layers[name].asleep if name in planted.layers else ()
        assert cut.refuted == len(asleep), name
        assert {*asleep} <= {*cut.kept}
    assert _differences(model, prune, by_data, waking.test.batch).max() <= 1e-9


def test_what_is_silent_on_rows_alone_goes_though_it_has_conductance(
    planted: Planted, dataset: Dataset
) -> None:
    from_zero = replace(ROWS, baseline="zero")
    scores = neuron_scores(from_zero.build_explainer(planted.model, dataset, 0))
    worth = scores.set_index(["layer", "unit"])["max_abs"]  # for whichever task
    plan = Pruner("data").plan(planted.model, scores, dataset)
    for name in planted.layers:
        assert worth[name, BASELINE] > 0, name
        assert BASELINE in plan.layers[name].constants, name


def test_twins_that_cancel_stay_though_both_could_go(planted: Planted, dataset: Dataset) -> None:
    """Each has conductance, and both together have no effect: nothing proves that but algebra."""
    worth = neuron_scores(ROWS.build_explainer(planted.model, dataset, 0)).set_index(
        ["layer", "unit"]
    )
    large = deepcopy(planted.model).double()
    batch = dataset.train.batch
    batch = batch._replace(dense=batch.dense.double())
    for name, units in planted.layers.items():
        both = worth.loc[[(name, unit) for unit in units.twins], "max_abs"].tolist()
        assert both[0] == pytest.approx(both[1], rel=1e-4)
        assert both[0] > 0
        for gone, equal in ((units.twins, True), (units.twins[:1], False)):
            small = deepcopy(large)
            layer = small.layers[name]
            kept = torch.tensor([u for u in range(layer.size) if u not in gone])
            layer.keep(kept, torch.zeros(layer.size))
            largest = (small(batch) - large(batch)).abs().max()
            assert (largest <= 1e-9) == equal, name


def _loss(model: Recommender, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch)[:, 0], batch.targets[:, 0])


@pytest.mark.parametrize(
    ("score", "worst"),
    [
        (ConductanceScore(), {DEAD, CONSTANT, ASLEEP, BASELINE, UNREAD, FEEDER, 8}),
        (DeviationScore(), {DEAD, CONSTANT, ASLEEP, BASELINE, UNREAD}),
        (TaylorScore(), {DEAD, ASLEEP, BASELINE, UNREAD, FEEDER, 8}),
        (ActivationScore(), {DEAD, ASLEEP, BASELINE}),
        (ZerosScore(), {DEAD, ASLEEP, BASELINE}),
    ],
    ids=lambda value: value.name if isinstance(value, ImportanceScore) else "",
)
@pytest.mark.parametrize("fold", [True, False])
def test_a_budget_takes_what_its_score_calls_useless(
    build: Build, dataset: Dataset, score: ImportanceScore, worst: set[int], fold: bool
) -> None:
    """As many as there are; only a constant that is not folded changes the data's logits."""
    with torch.no_grad():
        model = _mlp(build).model
    share = len(worst) / 10
    prune = Pruner("budget", layers=["tower.0"], score=score, share=share, fold=fold)
    scores = neuron_scores(ROWS.build_explainer(model, dataset, 0))
    plan = prune.plan(model, scores, dataset, measures=Measures(loss=_loss))
    found = _gone(plan)
    assert {name: {*each["budget"]} for name, each in found.items()} == {"tower.0": worst}
    constants = found["tower.0"]["budget"]
    assert constants.get(CONSTANT, 0) == (1.5 if CONSTANT in worst and fold else 0)
    wrong = _differences(model, prune, plan, dataset.train.batch) > 1e-9
    assert wrong.all() if CONSTANT in worst and not fold else not wrong.any()


def test_what_is_cut_leaves_its_mean_or_nothing_by_hand(build: Build, dataset: Dataset) -> None:
    """A unit a of the last layer, read with w: the logit falls by w (a - mean a), or by w a."""
    model = build("mlp", hidden=[8, 2])
    for fold in (True, False):
        prune = Pruner("budget", layers=["tower.1"], score=RandomScore(), fold=fold)
        plan = _plan(prune, model, dataset)
        ((unit, constant),) = plan.layers["tower.1"].constants.items()
        exact = deepcopy(model).double()
        with torch.no_grad():
            users, items = exact.embed(dataset.train.batch).fields.unbind(1)
            below = exact.tower[0](torch.cat([users, items], 1))
            emitted = exact.tower[1](below)[:, unit]
            weights = exact.output.weight[:, unit]
        assert constant == pytest.approx(emitted.mean().item() if fold else 0, rel=1e-6)
        expected = (emitted - constant).abs() * weights.abs().max()
        assert expected.max() > 0.01
        found = _differences(model, prune, plan, dataset.train.batch)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("level", ["domain", "data"])
@pytest.mark.parametrize(
    ("name", "settings", "field", "size", "units"),
    [
        ("dnn", {"embedding": 3, "hidden": [6]}, "C1", 4, 3),
        ("mlp", {"hidden": [6]}, "user", 7, 6),
        ("two_tower", {"embedding": 3, "towers": [6], "head": [4]}, "user", 7, 3),
        ("lstm", {"embedding": 3, "hidden": 4, "tower": [6], "reads": "all"}, "user", 7, 3),
        ("dlrm", {"embedding": 3, "bottom": [4], "top": [6]}, "C1", 4, 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_field_that_nobody_reads_loses_its_table(
    build: Build, dataset: Dataset, rows: Callable[..., Batch], level: Literal["domain", "data"],
    name: str, settings: dict[str, object], field: str, size: int, units: int,
) -> None:  # fmt: skip
    model = build(name, **settings)
    homes = {"dlrm": "interaction", "two_tower": "query_embedding"}
    home = model.layers[homes.get(name, "embedding")]
    (columns,) = home.outgoing_weights()
    own = [at for at, unit in enumerate(home.neuron_names("")) if field in unit.split("[")[0]]
    assert len(own) == units
    with torch.no_grad():
        for layer in model.layers.values():  # none is dead by chance
            if isinstance(layer, Hidden):
                layer.affine.weight.abs_()
                layer.affine.bias.fill_(0.3)
        model.table.weight.abs_()
        columns[:, own] = 0
    prune = Pruner(level)
    plan = _plan(prune, model, dataset)
    assert {n: {*c.constants} for n, c in plan.layers.items() if c.constants} == {
        homes.get(name, "embedding"): {*own}
    }
    pruned = prune.prune(model, plan)
    assert len(pruned.tensors["table.weight"]) == len(model.table.weight) - size
    certificate = prune.certify(model, pruned, plan, dataset, files={}, given={})
    assert certificate.exact
    assert _differences(model, prune, plan, _within(rows(200, seed=9))).max() <= 1e-9


def test_a_model_that_is_cut_twice_names_its_units_as_built(build: Build, dataset: Dataset) -> None:
    with torch.no_grad():
        model = _mlp(build).model
    prune, again = (
        Pruner("data"),
        Pruner("budget", layers=["tower.0"], score=RandomScore(), share=0.5),
    )
    small = deepcopy(model)
    small.load(prune.prune(model, _plan(prune, model, dataset)).tensors, "the pruned model")
    scores = neuron_scores(ROWS.build_explainer(small.float(), dataset, 0)).query(
        "layer == 'tower.0'"
    )
    left = [TWIN, OTHER, 9]
    assert scores["unit"].tolist() == left
    assert scores["name"].tolist() == [f"tower.0[{unit}]" for unit in left]
    plan = _plan(again, small, dataset)
    cut = plan.layers["tower.0"]
    assert cut.built == 10
    assert {*cut.kept} | {*cut.constants} == {*left}
    assert len(cut.kept) == 2
    pruned = again.prune(small, plan)
    assert pruned.tensors["tower.0.units"].tolist() == cut.kept
    certificate = again.certify(small, pruned, plan, dataset, files={}, given={})
    gone = [each.units for each in certificate.layers["tower.0"].gone]
    assert gone == [f"tower.0[{unit}]" for unit in cut.constants]
