"""The two-tower model: what its logits are made of, and what a cut leaves of them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from glassrec.data.batch import Batch
from glassrec.data.schema import Field, Schema, Target
from glassrec.models.base import Recommender
from glassrec.models.mf import MF
from glassrec.models.popularity import Popularity
from glassrec.models.retriever import Retriever, as_retriever
from glassrec.models.two_tower import TwoTower

TASKS = (Target("find", "retrieval"), Target("label"), Target("stars", "rating"))


@pytest.fixture
def tasks(schema: Schema) -> Schema:
    """With a retrieval task, and that one first."""
    return replace(schema, targets=TASKS)


@pytest.fixture
def model(tasks: Schema) -> TwoTower:
    torch.manual_seed(2)
    model = TwoTower(tasks, embedding=5, towers=(6,), head=(4,)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def _double(batch: Batch) -> Batch:
    return batch._replace(dense=batch.dense.double())


def test_the_whole_model_against_a_loop(model: TwoTower, batch: Batch) -> None:
    inputs = model.embed(_double(batch))
    names = model.schema.field_names
    assert set(names) == {"C1", "user", "item", "C2"}
    logits = model.score(inputs)
    for row in range(batch.rows):
        vector = dict(zip(names, inputs.fields[row], strict=True))
        sides = (
            (torch.cat([inputs.dense[row], vector["C1"], vector["user"]]), "query"),
            (torch.cat([vector["item"], vector["C2"]]), "candidate"),
        )
        ends = []
        for entry, name in sides:
            layer = getattr(model, f"{name}_tower").first.affine
            hidden = (layer.weight @ entry + layer.bias).clamp(min=0)
            last = getattr(model, f"to_{name}")
            ends.append(last.weight @ hidden + last.bias)
        joint = model.head.first.affine
        hidden = (joint.weight @ torch.cat(ends) + joint.bias).clamp(min=0)
        judged = model.output.weight @ hidden + model.output.bias
        expected = torch.cat([(ends[0] @ ends[1] + model.total.bias), judged])
        torch.testing.assert_close(logits[row], expected)


def test_a_tasks_column_does_not_depend_on_the_order_of_the_tasks(
    schema: Schema, batch: Batch
) -> None:
    found = []
    for targets in (TASKS, (TASKS[1], TASKS[0], TASKS[2])):
        torch.manual_seed(0)
        model = TwoTower(replace(schema, targets=targets))
        columns = zip(targets, model(batch).T, strict=True)
        found.append({target.name: column for target, column in columns})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("kinds", [("rating",), ("retrieval",), ("click", "rating")])
def test_only_what_the_tasks_need_is_built(
    schema: Schema, batch: Batch, kinds: tuple[str, ...]
) -> None:
    targets = tuple(Target(kind, kind) for kind in kinds)
    model = TwoTower(replace(schema, targets=targets))
    assert model(batch).shape == (batch.rows, len(kinds))
    assert ("product" in model.layers) == ("retrieval" in kinds)
    assert ("head.0" in model.layers) == (kinds != ("retrieval",))
    model(batch).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def _cut_everywhere(model: Recommender) -> Recommender:
    """Every layer loses a unit that emits no zero, after it has lost one that does."""
    small = deepcopy(model)
    for layer in small.layers.values():
        units = len(layer.units)
        constants = torch.zeros(units).double()
        constants[2] = 0.7
        layer.keep(torch.tensor([u for u in range(units) if u not in (1, 2)]), constants)
    return small


@pytest.mark.parametrize("kind", [TwoTower, MF, Popularity])
def test_query_times_candidate_is_the_logit_but_for_one_number(
    kind: Callable[[Schema], Retriever], tasks: Schema, batch: Batch
) -> None:
    torch.manual_seed(3)
    whole = kind(tasks).double()
    for model in (whole, _cut_everywhere(whole)):
        with torch.no_grad():
            model.table.weight.normal_(generator=torch.Generator().manual_seed(4))
        inputs = model.embed(_double(batch))
        query, candidate = model.query(inputs), model.candidate(inputs)
        assert query.shape == candidate.shape
        left = model.score(inputs)[:, 0] - (query * candidate).sum(1)
        torch.testing.assert_close(left, left[:1].expand_as(left), rtol=0, atol=1e-9)
        assert (query * candidate).sum(1).std() > 0.01


def test_a_folded_product_moves_all_logits_of_a_user_alike(model: TwoTower, batch: Batch) -> None:
    inputs = model.embed(_double(batch))
    with torch.no_grad():  # dimension 3 is 2 for every query and 0.35 for every candidate
        for affine, value in ((model.to_query, 2.0), (model.to_candidate, 0.35)):
            affine.weight[3] = 0
            affine.bias[3] = value
    logits = model.score(inputs)[:, 0]
    before = model.query(inputs) @ model.candidate(inputs).T
    model.layers["product"].keep(torch.tensor([0, 1, 2, 4]), torch.full((5,), 0.7).double())
    after = model.query(inputs) @ model.candidate(inputs).T
    torch.testing.assert_close(before - after, torch.full_like(before, 0.7))
    torch.testing.assert_close(model.score(inputs)[:, 0], logits)


@pytest.mark.parametrize("kind", [TwoTower, MF, Popularity])
def test_each_side_knows_its_own_columns_alone(
    kind: Callable[[Schema], Retriever], tasks: Schema, batch: Batch
) -> None:
    model = kind(tasks)
    other = batch.select(torch.arange(batch.rows).flip(0))
    items = [column for name in tasks.item_side for column in tasks.id_columns(name)]
    mixed = batch._replace(dense=other.dense, ids=other.ids.clone())
    mixed.ids[:, items] = batch.ids[:, items]  # the users of `other`, the items of `batch`
    mixed_inputs = model.embed(mixed)
    assert torch.equal(model.query(mixed_inputs), model.query(model.embed(other)))
    assert torch.equal(model.candidate(mixed_inputs), model.candidate(model.embed(batch)))


def test_a_model_that_cannot_retrieve_says_so(build: Callable[..., Recommender]) -> None:
    with pytest.raises(ValueError, match=r"DLRM cannot retrieve.*two_tower"):
        as_retriever(build("dlrm"))


def test_it_says_what_it_needs() -> None:
    schema = Schema(("I1",), (Field("C1", 3),))
    with pytest.raises(ValueError, match=r"TwoTower needs columns of the item's side"):
        TwoTower(schema)


def test_a_model_of_the_first_fields_reads_no_others(tasks: Schema, batch: Batch) -> None:
    """As in MovieLens, where user and item come before what is known of them."""
    fields = tuple(sorted(tasks.fields, key=lambda field: field.name not in ("user", "item")))
    schema = replace(tasks, fields=fields)
    ids = torch.zeros(3, 6, dtype=torch.long)
    ids[:, :2] = torch.tensor([[1, 8], [6, 15], [3, 7]])
    ids[:, 2:] = schema.num_ids - 1
    found = MF(schema).embed(batch.slice(0, 3)._replace(ids=ids)).fields
    assert found.shape[:2] == (3, 2)
