"""The vector of the unseen id: the mean of what training holds, where nothing has trained it."""

from __future__ import annotations

import torch

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import ABSENT, Field, Schema
from glassrec.explain.path import build_baseline
from glassrec.models.embedding import JointTable
from glassrec.models.ncf import MLP

FIELDS = Field("a", 3), Field("several", 5, values=2), Field("rare", 4), Field("empty", 2)
SCHEMA = Schema((), (*FIELDS, Field("item", 4)), item="item", history_length=2)
FIRST = {"a": 0, "several": 3, "rare": 8, "empty": 12, "item": 14}
IDS = [
    # a, two of several, rare, empty, item
    [1, 4, 6, 8, 12, 15],
    [2, 4, ABSENT, 9, 12, 15],
    [1, 7, 4, 8, 12, 16],
]
HISTORY = [[0, 0], [0, 16], [15, 17]]


def _data() -> Dataset:
    ids, history = torch.tensor(IDS), torch.tensor(HISTORY)
    split = Split(Batch(torch.zeros(3, 0), ids, history, torch.zeros(3, 1)))
    return Dataset(SCHEMA, split, split, split)


def test_which_ids_training_rows_hold() -> None:
    expected = torch.zeros(18, dtype=torch.bool)
    for joint in (joint for row in IDS for joint in row if joint != ABSENT):
        expected[joint] = True
    assert torch.equal(_data().seen_ids(history=False), expected)
    for joint in (joint for row in HISTORY for joint in row if joint):
        expected[joint] = True
    assert torch.equal(_data().seen_ids(history=True), expected)


def _means(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """By hand: the ids 5 and 10, 11 and 13 occur nowhere, 17 in a history only."""
    return {
        "a": weight[[1, 2]].mean(0),
        "several": weight[[4, 6, 7]].mean(0),
        "rare": weight[8],  # training rows hold the unseen id: it has been trained
        "item": weight[[15, 16, 17]].mean(0),
    }


def test_it_is_the_mean_of_the_ids_that_training_rows_hold() -> None:
    torch.manual_seed(0)
    table = JointTable(SCHEMA, SCHEMA, 6)
    before = table.weight.detach().clone()
    table.average_unseen(_data().seen_ids(history=True))
    for name, expected in _means(before).items():
        torch.testing.assert_close(table.weight[FIRST[name]], expected)
    known = [row for row in range(18) if row not in (0, 3, 14)]
    assert torch.equal(table.weight[known], before[known])  # "empty" has only unseen values
    once = table.weight.detach().clone()
    table.average_unseen(_data().seen_ids(history=True))
    torch.testing.assert_close(table.weight, once, rtol=0, atol=0)


def test_without_any_id_in_training_rows_it_is_zero() -> None:
    table = JointTable(SCHEMA, SCHEMA, 6)
    table.average_unseen(torch.zeros(18, dtype=torch.bool))
    assert not table.unseen().any()


def test_a_table_of_fewer_fields_and_numbers_has_the_same() -> None:
    """In another order, without the numbers and the fields that nobody reads."""
    torch.manual_seed(0)
    reads = SCHEMA.select(fields=["item", "a", "several"])
    table = JointTable(SCHEMA, reads, 6)
    whole = torch.zeros(18, 6)
    for name in reads.field_names:
        vectors = table.vectors(name).detach()
        whole[FIRST[name] : FIRST[name] + len(vectors)] = vectors
    read = torch.ones(3, 6, dtype=torch.bool)
    read[0, [1, 4]] = False
    read[1] = False
    table.narrow(read)
    table.average_unseen(_data().seen_ids(history=True))
    expected = _means(whole)
    found = table.unseen()[0]
    torch.testing.assert_close(found[0], expected["item"] * read[0])
    torch.testing.assert_close(found[2], expected["several"])
    assert not found[1].any()


def test_it_is_what_unseen_means_as_a_baseline() -> None:
    fields = Field("user", 4), Field("item", 3)
    schema = Schema((), fields, user="user", item="item")
    torch.manual_seed(0)
    model = MLP(schema, factors=2)
    model.table.average_unseen(torch.tensor([0, 5, 0, 1, 0, 2, 2]) > 0)
    rows = model.embed(
        Batch(
            torch.zeros(1, 0), torch.tensor([[1, 5]]), torch.zeros(1, 0).long(), torch.zeros(1, 1)
        )
    )
    weight = model.table.weight.detach()
    expected = torch.stack([weight[[1, 3]].mean(0), weight[[5, 6]].mean(0)])
    torch.testing.assert_close(build_baseline(model, "unseen", rows).fields[0].detach(), expected)
