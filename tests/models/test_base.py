"""Looking ids up, against slow loops."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import Field, Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.ncf import GMF


class Reader(Recommender):
    """Reads what it is told to, and adds it up."""

    def __init__(self, data: Schema, reads: Schema) -> None:
        super().__init__(data, reads, 3)

    def score(self, inputs: Inputs) -> Tensor:
        return sum(part.flatten(1).sum(1, keepdim=True) for part in inputs)


def test_every_column_is_found_in_its_own_rows_of_the_table(schema: Schema, batch: Batch) -> None:
    reads = schema.select(dense=["I3", "I1"], fields=["item", "C2"], history=True)
    model = Reader(schema, reads)
    table = model.table.weight
    assert len(table) == 9 + 5
    inputs = model.embed(batch)
    assert torch.equal(inputs.dense, batch.dense[:, [2, 0]])
    for row, ids in enumerate(batch.ids.tolist()):
        torch.testing.assert_close(inputs.fields[row, 0], table[ids[5] - 16])
        values = [table[i - 11 + 9] for i in ids[2:5] if i >= 0]
        torch.testing.assert_close(inputs.fields[row, 1], torch.stack(values).mean(0))
        for step, item in enumerate(batch.history[row].tolist()):
            expected = table[item - 16] if item else torch.zeros(3)
            torch.testing.assert_close(inputs.history[row, step], expected)
            assert inputs.steps[row, step] == (item > 0)


def test_a_model_may_read_the_first_fields_alone() -> None:
    schema = Schema((), (Field("user", 5), Field("item", 4), Field("city", 50)), (), "user", "item")
    ids, none = torch.tensor([[0, 5, 9], [4, 8, 58]]), torch.empty(2, 0)
    batch = Batch(none, ids, none.long(), none)
    inputs = (model := GMF(schema)).embed(batch)
    torch.testing.assert_close(inputs.fields, model.table.weight[batch.ids[:, :2]])


def test_a_baseline_has_the_steps_of_the_row_beside_it(
    build: Callable[..., Recommender], schema: Schema, batch: Batch
) -> None:
    inputs = Reader(schema, schema.select(fields=["item"], history=True)).embed(batch)
    base = Inputs(*(torch.ones_like(part[:1]) for part in inputs)).expand_to(inputs)
    assert torch.equal(base.steps, inputs.steps)
    assert torch.equal(base.history[..., 0], inputs.steps)
    assert base.fields.shape == inputs.fields.shape
