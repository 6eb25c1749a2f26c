"""Items scored for one user get the logits of whole rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.models.base import Recommender
from glassrec.models.dlrm import DLRM
from glassrec.models.item_scorer import DLRMItemScorer, ItemScorer


def whole_rows(schema: Schema, user: Batch, items: Batch) -> Batch:
    """One user beside each item, column by column."""
    rows = Batch(*(part.repeat_interleave(items.rows, 0).clone() for part in user))
    for name in schema.item_side:
        for column in schema.id_columns(name):
            rows.ids[:, column] = items.ids[:, column]
    for name in schema.item_dense:
        at = schema.dense.index(name)
        rows.dense[:, at] = items.dense[:, at]
    return rows


@torch.no_grad()
def check(model: Recommender, schema: Schema, rows: Callable[..., Batch]) -> ItemScorer:
    model, items = model.double(), rows(40, 3)
    items = items._replace(dense=items.dense.double())
    dlrm = isinstance(model, DLRM) and not schema.item_dense
    scorer = (DLRMItemScorer if dlrm else ItemScorer)(model, items)
    places = torch.tensor([7, 0, 39, 7])
    for user in rows(3, 4).chunks(1):
        user = user._replace(dense=user.dense.double())
        expected = model(whole_rows(schema, user, items))
        found = scorer.logits(model.embed(user), places)
        torch.testing.assert_close(found, expected[places], rtol=1e-10, atol=1e-10)
    return scorer


def test_every_model(model: Recommender, schema: Schema, rows: Callable[..., Batch]) -> None:
    check(model, schema, rows)


@pytest.mark.parametrize("name", ["dlrm", "two_tower"])
def test_numbers_of_the_item(
    name: str, schema: Schema, rows: Callable[..., Batch], build: Callable[..., Recommender]
) -> None:
    object.__setattr__(schema, "item_dense", ("I2",))
    assert type(check(build(name), schema, rows)) is ItemScorer


@pytest.mark.parametrize("kept", [[0, 3, 4], [5]])
def test_a_pruned_dlrm(
    kept: list[int],
    schema: Schema,
    rows: Callable[..., Batch],
    build: Callable[..., Recommender],
) -> None:
    """Pairs, columns of the dense vector and hidden neurons are gone, and the table is narrower."""
    model = build("dlrm", embedding=4, bottom=[5], top=[6, 3])
    assert isinstance(model, DLRM)
    with torch.no_grad():
        model.bottom.last.affine.bias.fill_(1)
    for layer in (model.bottom.last, model.interaction, model.top.first):
        left = torch.tensor([at for at in kept if at < len(layer.units)] or [0])
        layer.keep(left, torch.full((len(layer.units),), 0.7))
    model.narrow()
    assert isinstance(check(model, schema, rows), DLRMItemScorer)
