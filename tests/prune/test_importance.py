"""What units are worth, against formulas by hand."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.data.schema import Schema
from glassrec.models.base import Recommender
from glassrec.models.layers import activations
from glassrec.prune.importance import (
    ActivationScore,
    CalibrationData,
    ConductanceScore,
    DeviationScore,
    ImportanceScore,
    MagnitudeScore,
    RandomScore,
    TaylorScore,
    ZerosScore,
)

MODELS = ("dlrm", "neumf", "lstm", "dcn")


def loss(model: Recommender, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch)[:, 0], batch.targets[:, 0])


def _evidence(model: Recommender, rows: Batch, chunk: int = 7, seed: int = 0) -> CalibrationData:
    return CalibrationData(model, model.layers, pd.DataFrame(), rows, chunk, seed, loss)


def _emitted(model: Recommender, rows: Batch) -> dict[str, Tensor]:
    """(calls · B, U) of each layer."""
    with activations(model.layers) as heard, torch.no_grad():
        model(rows)
    return {name: torch.cat(emissions).double() for name, emissions in heard.items()}


@pytest.fixture(params=MODELS)
def model(build: Callable[..., Recommender], request: pytest.FixtureRequest) -> Recommender:
    settings = {"dcn": {"projection_dim": 3, "deep": [6]}, "dlrm": {"bottom": [6], "top": [8]}}
    return build(request.param, **settings.get(request.param, {}))


def test_activity_is_that_of_all_rows_in_any_chunks(model: Recommender, dataset: Dataset) -> None:
    rows = dataset.train.batch
    evidence = _evidence(model, rows)
    worths = {
        score: score.compute(evidence)
        for score in (ActivationScore(), ZerosScore(), DeviationScore())
    }
    for name, emitted in _emitted(model, rows).items():
        close = {"rtol": 1e-5, "atol": 1e-6}
        torch.testing.assert_close(worths[ActivationScore()][name], emitted.abs().mean(0), **close)
        share = (emitted != 0).double().mean(0)
        torch.testing.assert_close(worths[ZerosScore()][name], share, **close)
        views = [view.flatten(0, -2) for view in model.layers[name].outgoing_weights()]
        norm = torch.cat(views).double().norm(dim=0) if views else 1.0
        expected = emitted.std(0, correction=0) * norm
        torch.testing.assert_close(worths[DeviationScore()][name], expected, **close)
        torch.testing.assert_close(evidence.statistics[name].mean, emitted.mean(0), **close)


def test_taylor_is_the_mean_effect_on_the_loss_of_each_row(
    model: Recommender, dataset: Dataset
) -> None:
    rows = dataset.validation.batch
    found = TaylorScore().compute(_evidence(model, rows))
    totals = {name: torch.zeros(len(layer.units)) for name, layer in model.layers.items()}
    for row in rows.chunks(1):
        with activations(model.layers) as heard:
            of_row = loss(model, row)
        for name, emissions in heard.items():
            gradients = torch.autograd.grad(of_row, emissions, retain_graph=True)
            steps = zip(emissions, gradients, strict=True)
            totals[name] += sum(a * g for a, g in steps).detach().abs().squeeze(0)
    assert max(total.max() for total in totals.values()) > 0
    for name, total in totals.items():
        torch.testing.assert_close(found[name].float(), total / rows.rows, rtol=1e-4, atol=1e-7)


def test_taylor_foretells_what_a_small_change_does(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    """Shrinking a unit's emission by a part in a million changes each row's loss accordingly."""
    model, rows = build("neumf", factors=2).double(), dataset.validation.batch
    found = TaylorScore().compute(_evidence(model, rows))["tower.0"]

    def losses(unit: int, by: float) -> Tensor:
        def shrink(_: object, __: object, out: Tensor) -> Tensor:
            return out * (1 - by * (torch.arange(out.shape[1]) == unit).double())

        handle = model.tower[0].register_forward_hook(shrink)
        with torch.no_grad():
            logits = model(rows)[:, 0]
        handle.remove()
        target = rows.targets[:, 0].double()
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")

    for unit in range(8):
        change = (losses(unit, 1e-6) - losses(unit, 0)).abs().mean() / 1e-6
        assert change.item() == pytest.approx(found[unit].item(), rel=1e-4, abs=1e-8)


def test_magnitude_is_the_norm_of_the_weights(build: Callable[..., Recommender]) -> None:
    model = build("dlrm", bottom=[6], top=[8], embedding=4)
    found = MagnitudeScore().compute(_evidence(model, None))
    rows = model.top[0].affine.weight.detach().double()
    assert found["top.0"].tolist() == pytest.approx(rows.norm(dim=1).tolist())
    # A pair has no weights of its own: those that it is read with count.
    assert found["interaction"].tolist() == pytest.approx(rows.norm(dim=0).tolist())
    recurrent = build("lstm", hidden=3)
    gates = recurrent.recurrent.cell.gates.weight.detach().double()
    expected = [torch.cat([gates[block * 3 + unit] for block in range(4)]).norm().item()
                for unit in range(3)]  # fmt: skip
    found = MagnitudeScore().compute(_evidence(recurrent, None))
    assert found["recurrent"].tolist() == pytest.approx(expected)


def test_conductance_is_what_the_table_says_of_each_unit(
    build: Callable[..., Recommender],
) -> None:
    model = build("mlp", factors=1)
    frame = pd.DataFrame(
        {"layer": "tower.1", "unit": [1, 0], "mean_abs": [0.25, 0.5], "max_abs": [1.0, 1.0]}
    )
    layers = {"tower.1": model.layers["tower.1"]}
    evidence = CalibrationData(model, layers, frame, None, 1, 0)
    assert ConductanceScore().compute(evidence)["tower.1"].tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="needs the loss"):
        TaylorScore().compute(evidence)


def test_a_random_order_is_of_the_seed_and_the_layer_and_survives_a_cut(
    build: Callable[..., Recommender],
) -> None:
    model = build("mlp", factors=2)
    first, again, other = (RandomScore().compute(_evidence(model, None, seed=s)) for s in (0, 0, 1))
    assert torch.equal(first["tower.0"], again["tower.0"])
    assert not torch.equal(first["tower.0"], other["tower.0"])
    assert first["tower.0"][:4].tolist() != first["tower.1"].tolist()
    model.layers["tower.0"].keep(torch.tensor([1, 4, 5]), torch.zeros(8))
    left = RandomScore().compute(_evidence(model, None))
    assert torch.equal(left["tower.0"], first["tower.0"][[1, 4, 5]])


def test_taylor_refuses_a_layer_that_the_loss_does_not_pass(
    build: Callable[..., Recommender], dataset: Dataset, schema: Schema
) -> None:
    model = build("neumf", factors=2)

    def detour(model: Recommender, batch: Batch) -> Tensor:
        return model.tower(model.embed(batch).fields[:, :, 2:].flatten(1)).mean()

    layers = {"product": model.layers["product"]}
    evidence = CalibrationData(model, layers, pd.DataFrame(), dataset.train.batch, 9, 0, detour)
    with pytest.raises(ValueError, match="does not pass through the layer 'product'"):
        TaylorScore().compute(evidence)


@pytest.mark.parametrize("score", [
    ConductanceScore(), TaylorScore(), ActivationScore(), ZerosScore(), MagnitudeScore(),
    DeviationScore(), RandomScore(),
])  # fmt: skip
def test_where_no_layer_may_be_cut_there_is_nothing_to_rank(
    build: Callable[..., Recommender], dataset: Dataset, score: ImportanceScore
) -> None:
    model = build("popularity")
    neurons = pd.DataFrame(columns=["layer", "unit", "mean_abs"])
    evidence = CalibrationData(model, {}, neurons, dataset.train.batch, 7, 0, loss)
    assert score.compute(evidence) == {}


class Wrong(ImportanceScore):
    def __init__(self, change: Callable[[dict[str, Tensor]], object]) -> None:
        self.change = change

    def compute(self, data: CalibrationData) -> dict[str, Tensor]:
        found = MagnitudeScore().compute(data)
        self.change(found)
        return found


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda found: found["top.0"].fill_(torch.nan), "NaN or infinity for 8 of the 8 neurons"),
        (
            lambda found: found.update({"top.0": found["top.0"][:3]}),
            r"shape \(3,\) for the 8 neurons of top.0",
        ),
        (lambda found: found.pop("top.0"), "no entry for the layer 'top.0'"),
    ],
)
def test_a_score_that_does_not_rank_every_neuron_is_refused(
    build: Callable[..., Recommender],
    rows: Callable[..., Batch],
    change: Callable[[dict[str, Tensor]], object],
    problem: str,
) -> None:
    evidence = _evidence(build("dlrm", bottom=[6], top=[8]), rows(5))
    assert MagnitudeScore().importance(evidence).keys() == evidence.layers.keys()
    with pytest.raises(ValueError, match=rf"prune.score: Wrong.compute .*{problem}"):
        Wrong(change).importance(evidence)
    assert Wrong.name == "Wrong"
