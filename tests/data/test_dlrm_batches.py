"""Batches of facebookresearch/dlrm as data, against the tensors that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glassrec.data.dlrm_batches import DLRMBatches
from glassrec.data.schema import ABSENT
from glassrec.data.splits import ByTime, Random
from plain_dlrm import batch, state_dict, write


def _load(folder: Path, rows: Any, **settings: Any):
    checkpoint, path = write(folder, state_dict(), rows)
    return DLRMBatches(path, checkpoint, **settings).load(seed=0)


@pytest.mark.parametrize("bags", [False, True])
def test_ids_dense_values_labels_and_outputs_are_those_of_the_file(tmp_path, bags):
    rows = batch(bags)
    rows["probs"] = torch.rand(40, 1)
    data = _load(tmp_path, rows)
    assert data.schema.dense == ("d0", "d1", "d2")
    assert [(f.name, f.size) for f in data.schema.fields] == [("s0", 7), ("s1", 5), ("s2", 3)]
    assert data.schema.summed
    assert not data.schema.unseen
    seen = []
    for name, split in data.splits.items():
        numbers = split.batch.targets[:, 0].long()
        seen += numbers.tolist()
        assert torch.equal(split.batch.dense, rows["X_test"][numbers])
        assert torch.equal(data.probabilities[name], rows["probs"][numbers])
        for table, field in enumerate(data.schema.fields):
            ids = split.batch.ids[:, [*data.schema.id_columns(field.name)]]
            own, ends = rows["lS_i_test"][table], [*rows["lS_o_test"][table].tolist()]
            ends.append(len(own))
            for row, found in zip(numbers.tolist(), ids.tolist(), strict=True):
                there = [i - data.schema.offsets[table] for i in found if i != ABSENT]
                assert there == own[ends[row] : ends[row + 1]].tolist()
    assert sorted(seen) == [*range(40)]
    assert [split.batch.rows for split in data.splits.values()] == [8, 16, 16]


def test_a_list_of_batches_is_their_rows_one_after_the_other(tmp_path):
    one = batch(bags=True)
    parts = []
    for first, last in ((0, 15), (15, 40)):
        part: dict[str, Any] = {"X": one["X_test"][first:last], "T": one["T_test"][first:last]}
        starts = [
            [*o.tolist(), len(i)] for o, i in zip(one["lS_o_test"], one["lS_i_test"], strict=True)
        ]
        part["lS_o"] = [torch.tensor(s[first:last]) - s[first] for s in starts]
        part["lS_i"] = [
            i[s[first] : s[last]] for s, i in zip(starts, one["lS_i_test"], strict=True)
        ]
        parts.append(part)
    whole, joined = _load(tmp_path, one, split=ByTime()), _load(tmp_path, parts, split=ByTime())
    for split, other in zip(whole.splits.values(), joined.splits.values(), strict=True):
        assert all(map(torch.equal, split.batch, other.batch))
    assert joined.probabilities is None


def test_logarithms_where_the_file_holds_counts_and_sizes_without_a_checkpoint(tmp_path):
    rows = batch()
    checkpoint, path = write(tmp_path, state_dict(), rows)
    data = DLRMBatches(path, log=True, split=Random(0.2, 0.2)).load(seed=0)
    train = data.train.batch
    torch.testing.assert_close(
        train.dense, torch.log(1 + rows["X_test"][train.targets[:, 0].long()])
    )
    assert [f.size for f in data.schema.fields] == [int(i.max()) + 1 for i in rows["lS_i_test"]]
    assert {*DLRMBatches(path, checkpoint).fingerprint()} == {"model.pt", "batches.pt"}


def _changed(name: str, value: Any) -> dict[str, Any]:
    return batch() | {name: value}


def _with(name: str, place: tuple[int, int], value: float) -> dict[str, Any]:
    rows = batch()
    rows[name][place] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (_with("lS_i_test", (1, 17), 5), {},
         "s1 has the id 5 in row 17, and emb_l.1 has 5 rows, numbered from 0"),
        (_with("lS_i_test", (0, 3), -1), {}, "s0 has the id -1 in row 3, and emb_l.0 has 7 rows"),
        (_with("lS_o_test", (2, 9), 3), {}, r"lS_o_test\[2\] must begin at 0.* row 8 begins at 8"),
        (_with("lS_o_test", (0, 0), 1), {}, r"lS_o_test\[0\] must begin at 0.* row 0 begins at 1"),
        (_with("X_test", (4, 1), float("nan")), {}, "d1 is no finite number in row 4"),
        (_with("X_test", (4, 1), -1), {"log": True},
         r"d1 is no finite number after log\(1 \+ x\) in row 4"),
        (_changed("X_test", torch.zeros(39, 3)), {}, "lS_o_test has 40 rows, and X_test 39"),
        (_changed("T_test", torch.zeros(41)), {}, "T_test has 41 rows, and X_test 40"),
        (_changed("lS_i_test", torch.zeros(2, 40).long()), {},
         "40 rows, 3 tables of offsets and 2 of ids"),
        ({"X_test": torch.zeros(2, 3), "lS_o_tset": 0}, {}, "no lS_o_test; .*lS_o_tset"),
        (_changed("X_test", torch.zeros(0, 3)), {}, "has 0 rows, 3 tables"),
        ([], {}, "batch 0 is of type list; a dict of tensors is needed"),
        ([torch.zeros(2)], {}, "batch 0 is of type Tensor; a dict of tensors is needed"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_refused_by_key_row_and_value(tmp_path, rows, settings, message):
    with pytest.raises(ValueError, match=message):
        _load(tmp_path, rows, **settings)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, r"ids of 2 tables, and .*model\.pt has emb_l.2.weight; take the batches"),
        ("emb_l.0.weight_q", r"model\.pt has emb_l.0.weight_q"),
    ],
)
def test_another_models_tables_are_refused(tmp_path, key, message):
    rows, state = batch(), state_dict()
    if key is None:
        rows |= {name: rows[name][:2] for name in ("lS_o_test", "lS_i_test")}
    else:
        state[key] = state.pop("emb_l.0.weight")
    checkpoint, path = write(tmp_path, state, rows)
    with pytest.raises(ValueError, match=message):
        DLRMBatches(path, checkpoint).load(seed=0)
