"""Checkpoints of facebookresearch/dlrm: logits by hand, the way back, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dlrm_batches import DLRMBatches
from glassrec.data.schema import Field, Schema, Target
from glassrec.models.dlrm import DLRM
from glassrec.models.dlrm_checkpoint import to_layout
from glassrec.prune.guarantees.ranges import domain_ranges
from plain_dlrm import PlainDLRM, batch, by_hand, state_dict, write


def _loaded(folder: Path, state: dict[str, Tensor], rows: Any) -> tuple[DLRM, Batch]:
    """The model in float64, and all rows in the order of the file."""
    checkpoint, path = write(folder, state, rows)
    data = DLRMBatches(path, checkpoint).load(seed=0)
    model = DLRM(data.schema, weights=checkpoint).double().eval()
    assert model.take_over(lambda model, run: None)
    joined = Batch(
        *(torch.cat(each) for each in zip(*(s.batch for s in data.splits.values()), strict=True))
    )
    joined = joined.select(joined.targets[:, 0].argsort())
    return model, joined._replace(dense=joined.dense.double())


def _logit(module: PlainDLRM, rows: dict[str, Any]) -> Tensor:
    offsets, ids = [*rows["lS_o_test"]], [*rows["lS_i_test"]]
    with torch.no_grad():
        return torch.logit(module.double()(rows["X_test"].double(), offsets, ids))


@pytest.mark.parametrize("bags", [False, True])
def test_the_logits_are_those_by_hand(tmp_path, bags):
    state, rows = state_dict(), batch(bags)
    model, given = _loaded(tmp_path, state, rows)
    expected = by_hand(state, rows)
    np.testing.assert_allclose(model.predict(given)[:, 0].numpy(), expected, rtol=0, atol=1e-12)
    single = given._replace(dense=given.dense.float())
    np.testing.assert_allclose(model.float().predict(single)[:, 0], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(_logit(PlainDLRM(state), rows)[:, 0], expected, rtol=0, atol=1e-12)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    state = state_dict()
    model, _ = _loaded(tmp_path, state, batch())
    found = to_layout(model)
    assert [*found] == [*state]
    assert all(torch.equal(found[name].float(), tensor) for name, tensor in state.items())


@pytest.mark.parametrize("bags", [False, True])
def test_a_pruned_model_in_the_layout_has_the_same_logits(tmp_path, bags):
    """Of every layer some neurons go, each with a constant of its own; of s2 no pair is left."""
    rows = batch(bags)
    model, given = _loaded(tmp_path, state_dict(), rows)
    for name, kept in {
        "bottom.0": [0, 2, 3], "bottom.1": [0, 3], "interaction": [0, 3, 4, 6], "top.0": [1, 2, 5],
        "top.1": [0, 4],
    }.items():  # fmt: skip
        layer = model.layers[name]
        constants = torch.linspace(0.1, 0.9, len(layer.units), dtype=torch.float64)
        layer.keep(torch.tensor(kept), constants)
    model.narrow()
    assert not model.table.read[2].any()
    found = to_layout(model)
    assert [found[f"bot_l.{n}.weight"].shape for n in (0, 2)] == [(3, 3), (4, 3)]
    assert [found[f"top_l.{n}.weight"].shape for n in (0, 2, 4)] == [(3, 10), (2, 3), (1, 2)]
    assert not found["top_l.0.weight"][:, [1, 2, 5, 7, 8, 9]].any()
    torch.testing.assert_close(
        _logit(PlainDLRM(found), rows), model.predict(given), rtol=0, atol=1e-12
    )
    (tmp_path / "again").mkdir()
    again, same = _loaded(tmp_path / "again", found, rows)
    torch.testing.assert_close(again.predict(same), model.predict(given), rtol=0, atol=1e-12)


def test_a_model_of_glassrecs_own_data_keeps_the_rows_of_unseen_ids():
    schema = Schema(("a", "b"), (Field("x", 4), Field("y", 3)))
    torch.manual_seed(0)
    model = DLRM(schema, embedding=4, bottom=(6,), top=(5, 4)).double().eval()
    numbers, dense = torch.tensor([[0, 2], [3, 0], [1, 1]]), torch.randn(3, 2).double()
    given = Batch(dense, numbers + torch.tensor([0, 4]), numbers[:, :0], dense[:, :1])
    rows = {"X_test": dense, "lS_o_test": [torch.arange(3)] * 2, "lS_i_test": numbers.T}
    found = to_layout(model)
    assert found["emb_l.0.weight"].shape == (4, 4)
    torch.testing.assert_close(_logit(PlainDLRM(found), rows), model.predict(given))


def _without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state_dict().items() if key != name}


def _as(name: str, *shape: int) -> dict[str, Tensor]:
    return state_dict() | {name: torch.zeros(shape)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (_as("emb_l.1.weight_q", 2, 4), "has emb_l.1.weight_q; .*quotient-remainder"),
        (_as("emb_l.2.embs.weight", 3, 4), "has emb_l.2.embs.weight; .*mixed-dimension"),
        (_as("v_W_l.0", 7), r"v_W_l.0 is \(7,\) there, and missing here; .*and sums are read"),
        (_as("tab.weight", 1), r"tab.weight is \(1,\) there, and missing here"),
        (_without("bot_l.0.weight"), "model.pt has no bot_l.0.weight"),
        ({n: t for n, t in state_dict().items() if n < "top_l.2"}, "has no top_l.2.weight"),
        (_without("bot_l.2.bias"), r"bot_l.2.bias is missing there, and \(4,\) here"),
        (_as("bot_l.2.weight", 4, 5), r"bot_l.2.weight is \(4, 5\) there, and \(4, 6\) here"),
        (_as("emb_l.1.weight", 5, 3), r"emb_l.1.weight is \(5, 3\) there, and \(5, 4\) here"),
        (_as("top_l.0.weight", 8, 14), r"\(8, 14\) there, and \(8, 10\) here; .*only dot products"),
        (_as("top_l.4.weight", 2, 5), r"top_l.4.weight is \(2, 5\) there, and \(1, 5\) here"),
    ],
)  # fmt: skip
def test_what_is_not_in_the_layout_is_refused_by_key_and_shapes(tmp_path, state, message):
    with pytest.raises(ValueError, match=message):
        _loaded(tmp_path, state, batch())


def test_data_of_other_ids_is_refused(tmp_path):
    checkpoint, _ = write(tmp_path, state_dict(), batch())
    schema = Schema(("a", "b", "c"), (Field("x", 8), Field("y", 5), Field("z", 3)))
    with pytest.raises(
        ValueError, match=r"emb_l.0.weight is \(7, 4\) .*\(8, 4\) here; take the data"
    ):
        DLRM(schema, weights=checkpoint).take_over(lambda model, run: None)


def test_what_the_layout_cannot_hold_is_refused():
    rating = Schema(("a",), (Field("x", 4),), (Target("stars", "rating"),))
    means = Schema(("a",), (Field("tags", 4, values=2),))
    for schema, message in ((rating, "ends in a sigmoid"), (means, "sums the vectors of tags")):
        with pytest.raises(ValueError, match=message):
            to_layout(DLRM(schema, 4, (), (4,)))


def test_sums_have_no_bounds_and_no_id_is_unseen(tmp_path):
    model, _ = _loaded(tmp_path, state_dict(), batch(bags=True))
    with pytest.raises(ValueError, match="no bounds are known of sums of several ids"):
        domain_ranges(model, model.schema)
    with pytest.raises(ValueError, match=r"no unseen ids; take explain\.baseline=mean"):
        model.table.unseen()
    before = model.table.weight.clone()
    model.table.average_unseen(torch.zeros(model.schema.num_ids).long())
    assert torch.equal(before, model.table.weight)
