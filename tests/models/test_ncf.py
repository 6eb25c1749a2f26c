"""GMF, MLP and NeuMF against the formulas of their paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glassrec.data.batch import Batch
from glassrec.data.schema import Field, Schema, Target
from glassrec.models.base import Recommender
from glassrec.models.ncf import GMF, MLP, NeuMF, Pretrained


def _rows(model: Recommender, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The embeddings of user and item: columns 1 and 5 of the data, fields of 7 and 9 ids."""
    user, item = batch.ids[:, 1] - 4, batch.ids[:, 5] - 16
    return model.table.weight[user], model.table.weight[7 + item]


def test_gmf_is_a_weighted_dot_product(build: Callable[..., GMF], batch: Batch) -> None:
    model = build("gmf").requires_grad_(False)
    p, q = _rows(model, batch)
    expected = [
        sum(float(h * a * b) for h, a, b in zip(model.output.weight[0], pu, qi, strict=True))
        + float(model.output.bias[0])
        for pu, qi in zip(p, q, strict=True)
    ]
    torch.testing.assert_close(model(batch)[:, 0], torch.tensor(expected))


def test_mlp_is_a_relu_tower_that_halves(build: Callable[..., MLP], batch: Batch) -> None:
    model = build("mlp", factors=2)
    assert [tuple(layer.affine.weight.shape) for layer in model.tower] == [
        (8, 16), (4, 8), (2, 4),
    ]  # fmt: skip
    hidden = torch.cat(_rows(model, batch), 1)
    for layer in model.tower:
        hidden = (hidden @ layer.affine.weight.T + layer.affine.bias).clamp(min=0)
    expected = hidden @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(batch), expected)


def load_part(model: Recommender, run: Path) -> None:
    model.load(load_file(run / "weights.safetensors"), "FILE")


@pytest.mark.parametrize("alpha", [0.5, 0.2])
def test_pretrained_neumf_is_the_weighted_mean_of_both_logits(
    build: Callable[..., Recommender], schema: Schema, batch: Batch, tmp_path: Path, alpha: float
) -> None:
    parts = {"gmf": build("gmf"), "mlp": build("mlp")}
    for name, part in parts.items():
        (tmp_path / name).mkdir()
        save_file(part.state_dict(), tmp_path / name / "weights.safetensors")
    start = Pretrained(tmp_path / "gmf", tmp_path / "mlp", alpha)
    joined = NeuMF(schema, pretrained=start)
    assert joined.take_over(load_part)
    expected = alpha * parts["gmf"](batch) + (1 - alpha) * parts["mlp"](batch)
    torch.testing.assert_close(joined(batch), expected)
    h = torch.cat([alpha * parts["gmf"].output.weight, (1 - alpha) * parts["mlp"].output.weight], 1)
    assert torch.equal(joined.output.weight, h)


def test_parts_trained_in_other_units_join_in_that_of_the_gmf(
    schema: Schema, batch: Batch, tmp_path: Path
) -> None:
    """Parts and data have three scales of the ratings; by hand on the MLP's output layer."""

    def of_unit(mean: float, deviation: float) -> Schema:
        targets = (Target("label"), Target("stars", "rating", mean, deviation))
        return replace(schema, targets=targets)

    gmf, mlp = GMF(of_unit(3.0, 2.0)), MLP(of_unit(-100.0, 8.0))
    for part in (gmf, mlp):
        torch.nn.init.normal_(part.output.bias)
        (tmp_path / type(part).__name__).mkdir()
        save_file(part.state_dict(), tmp_path / type(part).__name__ / "weights.safetensors")
    start = Pretrained(tmp_path / "GMF", tmp_path / "MLP", alpha=0.25)
    data = of_unit(50.0, 7.0)
    joined = NeuMF(data, pretrained=start)
    assert joined.take_over(load_part)
    expected = 0.25 * gmf(batch) + 0.75 * mlp(batch)
    torch.testing.assert_close(joined(batch), expected, rtol=1e-5, atol=1e-4)
    hidden = joined.output.weight[:, joined.factors :]
    torch.testing.assert_close(hidden[1], 0.75 * 4 * mlp.output.weight[1])  # 8 / 2
    torch.testing.assert_close(hidden[0], 0.75 * mlp.output.weight[0])  # a click has no unit
    bias = 0.25 * gmf.output.bias[1] + 0.75 * (4 * mlp.output.bias[1] - 103 / 2)
    torch.testing.assert_close(joined.output.bias[1], bias)
    ratings = torch.tensor([[1.0, 7.0]])
    assert joined.target_scale.standardized(ratings).tolist() == [[1.0, 2.0]]  # (7 - 3) / 2


def test_pretraining_refuses_what_it_cannot_join(
    build: Callable[..., Recommender], schema: Schema, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"model\.pretrained\.mlp is not given"):
        Pretrained(gmf=tmp_path)
    save_file(build("mlp").state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights of another model than this GMF"):
        NeuMF(schema, pretrained=Pretrained(tmp_path, tmp_path)).take_over(load_part)
    assert not NeuMF(schema).take_over(load_part)


def test_a_narrower_model_is_not_taken_for_a_pruned_one(
    build: Callable[..., Recommender], schema: Schema, tmp_path: Path
) -> None:
    narrow = build("mlp", hidden=[32, 8, 8])
    with pytest.raises(ValueError, match=r"tower\.1 was built with 8 neurons there, 16 here"):
        build("mlp").load(narrow.state_dict(), "FILE")
    for name, part in {"gmf": build("gmf"), "mlp": narrow}.items():
        (tmp_path / name).mkdir()
        save_file(part.state_dict(), tmp_path / name / "weights.safetensors")
    joined = NeuMF(schema, pretrained=Pretrained(tmp_path / "gmf", tmp_path / "mlp"))
    with pytest.raises(ValueError, match=r"weights of another model than this MLP"):
        joined.take_over(load_part)


def test_a_model_of_users_and_items_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"GMF needs a user and an item column"):
        GMF(Schema(("I1",), (Field("C1", 3),)))
