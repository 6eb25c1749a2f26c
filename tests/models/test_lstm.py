"""The model of a history: what it reads, and that padding is nothing to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.models.lstm import LSTM

CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])


def longer(schema: Schema, model: LSTM, length: int) -> LSTM:
    """The same weights for data with a longer history."""
    twin = LSTM(replace(schema, history_length=length), cell=_cell(model)).eval()
    twin.load_state_dict(model.state_dict())
    return twin


def _cell(model: LSTM) -> str:
    return type(model.recurrent.cell).__name__.removesuffix("Cell").lower()


@CELLS
@pytest.mark.parametrize("more", [1, 3, 16])
def test_more_padding_changes_no_bit_of_a_logit(
    schema: Schema, batch: Batch, cell: str, more: int
) -> None:
    model = LSTM(schema, cell=cell).eval()
    history = batch.history.clone()
    history[:3] = 0  # some that are all padding
    padded = F.pad(history, (more, 0))
    expected = model(batch._replace(history=history))
    twin = longer(schema, model, schema.history_length + more)
    assert torch.equal(twin(batch._replace(history=padded)), expected)


@CELLS
def test_the_order_of_the_history_matters(schema: Schema, batch: Batch, cell: str) -> None:
    model = LSTM(schema, cell=cell).eval()
    full = batch._replace(history=torch.tensor([[17, 18, 19, 20]]).expand(batch.rows, 4))
    turned = full._replace(history=full.history.flip(1))
    assert not torch.allclose(model(full), model(turned))


def test_a_step_of_the_history_is_the_item_s_own_embedding(schema: Schema, batch: Batch) -> None:
    model = LSTM(schema)
    (item,) = schema.id_columns("item")
    inputs = model.embed(batch._replace(history=batch.ids[:, item : item + 1].repeat(1, 4)))
    assert torch.equal(inputs.history[:, 2], inputs.fields[:, 0])


def test_it_reads_the_candidate_or_everything(schema: Schema, batch: Batch) -> None:
    narrow, wide = LSTM(schema), LSTM(schema, reads="all")
    assert (narrow.schema.field_names, narrow.schema.dense) == (("item", "C2"), ())
    assert wide.schema.field_names == schema.field_names
    assert wide.schema.dense == schema.dense
    assert wide(batch).shape == narrow(batch).shape
    moved = batch._replace(dense=batch.dense + 1)
    assert torch.equal(narrow(moved), narrow(batch))
    assert not torch.allclose(wide(moved), wide(batch))


def test_data_without_a_history_is_refused(schema: Schema) -> None:
    with pytest.raises(ValueError, match=r"needs a history.*set data\.history"):
        LSTM(replace(schema, history_length=0))
