"""Which layers are cuts, and that the units of every layer add up to what flows through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.evaluation.completeness import layer_completeness
from glassrec.explain.masking import FeatureMask, MaskedModel
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender
from glassrec.models.dcn import DNN
from glassrec.models.layers import Hidden, Product

Build = Callable[..., Recommender]


def table(model: Recommender, batch: Batch, steps: int = 400) -> pd.DataFrame:
    """In float64, in two portions of rows."""
    model.double()
    rows = Inputs(*(part.detach().double() for part in model.embed(batch)))
    base = build_baseline(model, "mean", rows)
    parts = zip(*(part.split(7) for part in rows), strict=True)
    views = [_view(model, Inputs(*part), base) for part in parts]
    return layer_completeness(views, steps=steps).set_index("layer")


def _view(model: Recommender, inputs: Inputs, base: Inputs) -> MaskedModel:
    whole = FeatureMask(("all",), torch.zeros(sum(part[0].numel() for part in inputs)).long())
    return MaskedModel(model, whole, inputs, base.expand_to(inputs))


def test_in_dlrm_all_above_the_bottom_are_cuts(build: Build, batch: Batch) -> None:
    model = build("dlrm", bottom=[8, 6])
    found = table(model, batch)
    cuts = {name: not name.startswith("bottom") for name in model.layers}
    assert found["cut"].to_dict() == cuts
    assert found["units"].tolist() == [8, 6, 16, 16 + 10, 512, 256]
    assert (found["flow_share"][found["cut"]] == 1).all()
    assert (found["flow_share"][~found["cut"]] > 0.01).all()
    assert (found["delta"] < 0.01).all()


def test_neither_branch_of_neumf_is_a_cut(build: Build, batch: Batch) -> None:
    found = table(build("neumf"), batch)
    assert not found["cut"].any()
    assert (found["delta"] < 0.01).all()
    # The layers of one branch pass on the same flow, which is not everything.
    tower = found["flow_share"].drop("product")
    assert tower.max() - tower.min() < 1e-9
    assert found.loc["product", "flow_share"] > 0.01


def test_a_tower_alone_is_a_cut_at_each_layer(build: Build, batch: Batch) -> None:
    assert table(build("mlp"), batch)["cut"].all()
    assert table(build("gmf"), batch)["cut"].all()


def test_embedding_dimensions_are_a_cut_where_there_are_no_dense_columns(
    build: Build, schema: Schema, batch: Batch
) -> None:
    found = table(build("mlp"), batch)
    assert found.loc["embedding", "cut"]
    assert found.loc["embedding", "delta"] < 0.01
    found = table(build("dnn"), batch)
    assert found["cut"].to_dict() == {
        "embedding": False, "tower.0": True, "tower.1": True, "tower.2": True,
    }  # fmt: skip
    assert found.loc["embedding", "flow_share"] != 1
    assert found.loc["embedding", "delta"] < 0.01
    torch.manual_seed(0)
    bare = DNN(replace(schema, dense=()), embedding=4, hidden=(6,)).eval()
    assert table(bare, batch._replace(dense=torch.empty(batch.rows, 0)))["cut"].all()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_layer_counts_by_its_last_emission(
    build: Build, batch: Batch, cell: str
) -> None:
    found = table(build("lstm", cell=cell), batch, steps=800)
    assert found["cut"].to_dict() == {"recurrent": False, "embedding": False, "tower.0": True}
    assert found.loc["recurrent", "flow_share"] > 0.01
    assert (found["delta"] < 0.01).all()


def test_every_model_adds_up_and_coarse_steps_do_not(model: Recommender, batch: Batch) -> None:
    if not model.layers:
        pytest.skip("no layers")
    assert (table(model, batch, steps=1000)["delta"] < 0.01).all()
    coarse, fine = (table(model, batch, steps=s)["delta"].sum() for s in (1, 300))
    assert fine < coarse or coarse < 1e-12  # the last layer of a linear output is exact at once


def test_weights_that_want_no_gradient_change_nothing(build: Build, batch: Batch) -> None:
    expected = table(build("dlrm", bottom=[8]), batch, steps=20)
    frozen = build("dlrm", bottom=[8]).requires_grad_(False)
    pd.testing.assert_frame_equal(table(frozen, batch, steps=20), expected)


class ByHand(Recommender):
    """logit = 2 · I1 · I2 + 3 · I3³, the product and the cube each being a layer."""

    def __init__(self, data: Schema) -> None:
        super().__init__(data, data.select(dense=data.dense, fields=()), 1)
        self.product = Product(1)
        self.cube = Hidden([1], 1)

    def score(self, inputs: Inputs) -> Tensor:
        first, second, third = inputs.dense.unsqueeze(2).unbind(1)
        cube = self.cube(third**3)
        return 2 * self.product(first, second) + 3 * cube


def test_two_branches_by_hand(schema: Schema) -> None:
    model = ByHand(schema).double()
    with torch.no_grad():
        model.cube.affine.weight.fill_(1)
    rows = torch.tensor([[1.0, 2, 3], [-1, 3, 2]]).double()
    inputs = Inputs(rows, rows.new_zeros(2, 0, 1), rows.new_zeros(2, 0, 1), rows.new_zeros(2, 0))
    base = inputs._replace(dense=torch.zeros_like(rows))
    found = layer_completeness([_view(model, inputs, base)], steps=500).set_index("layer")
    # The logits are 4 + 81 and -6 + 24, so the mean sizes are 103/2, of the product 10/2.
    assert found["cut"].tolist() == [False, False]
    assert found["flow_share"].tolist() == pytest.approx([10 / 103, 105 / 103], abs=1e-5)
    assert (found["delta"] < 1e-5).all()
    assert layer_completeness([_view(model, inputs, base)], steps=1)["delta"].max() > 0.1
