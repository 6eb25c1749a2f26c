"""Shrinking the weights of units: against the formula, a search for the minimum, a plain loop."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toy as toy
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from glassrec.data.dataset import Dataset
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Affine, Tower
from glassrec.training.callbacks import GroupLasso
from glassrec.training.objective import Objective
from glassrec.training.trainer import Trained, Trainer

SGD = partial(torch.optim.SGD, lr=0.1)
SLOW = partial(torch.optim.SGD, lr=1e-4)


class Forked(Recommender):
    """Hidden units with two readers: a column of a unit is the columns of both."""

    def __init__(self) -> None:
        super().__init__(toy.SCHEMA, toy.SCHEMA.select(dense=("x",), fields=("user",)), 2)
        self.tower = Tower([3], [5, 4])
        self.left, self.right = Affine([4], 2), Affine([4, 1], 1)
        self.tower.last.register_consumer(self.left)
        self.tower.last.register_consumer(self.right, 0)

    def score(self, inputs: Inputs) -> Tensor:
        hidden = self.tower(torch.cat([inputs.dense, inputs.fields.flatten(1)], 1))
        return self.left(hidden).sum(1, keepdim=True) + self.right(hidden, inputs.dense)

    def read(self) -> list[list[Tensor]]:
        """The weights (n, U) that read the units of each layer, a tensor a reader."""
        last = [self.left.weight.detach(), self.right.weight.detach()[:, :4]]
        return [[self.tower.last.affine.weight.detach()], last]


@pytest.fixture
def forked() -> Forked:
    torch.manual_seed(3)
    return Forked()


def _fit(
    folder: Path, model: Recommender, data: Dataset, objective: Objective, **changes: Any
) -> Trained:
    """Three epochs of SGD unless `changes` say otherwise."""
    settings = {"optimizer": SGD, "on_epoch": lambda row: None} | changes
    trainer = {name: settings.pop(name) for name in set(settings) - {"optimizer", "on_epoch"}}
    folder.mkdir(exist_ok=True)
    return Trainer(**({"max_epochs": 3, "batch_size": 64} | trainer)).fit(
        model, data, seed=1, directory=folder, objective=objective, **settings,
    )  # fmt: skip


def _same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


def _by_hand(column: Tensor, l1: float, group: float) -> Tensor:
    """Simon et al. (2013), equation 12, for a column (n,), with l1 and group times the step."""
    shrunk = column.sign() * (column.abs() - l1).clamp_min(0)
    factor = 1 - group * len(column) ** 0.5 / shrunk.norm().clamp_min(1e-30)
    return shrunk * factor.clamp_min(0)


def _shrink(model: Recommender, objective: Objective, optimizers: list[Any]) -> None:
    lasso = GroupLasso(objective)
    lasso.attach(model, optimizers)
    lasso.shrink()


def _shrink_by_hand(model: Forked, l1: float, group: float) -> None:
    """The formula, unit by unit, at the learning rate 0.1."""
    for readers in model.read():
        for unit in range(readers[0].shape[1]):
            column = torch.cat([reader[:, unit] for reader in readers])
            shrunk = _by_hand(column, 0.1 * l1, 0.1 * group)
            for reader, part in zip(readers, shrunk.split([*map(len, readers)]), strict=True):
                reader[:, unit] = part


@pytest.mark.parametrize(("l1", "group"), [(0.0, 2.0), (1.5, 0.0), (0.8, 1.0), (9.0, 0.1)])
def test_each_unit_is_shrunk_by_the_formula_over_all_of_its_readers(
    forked: Forked, l1: float, group: float
) -> None:
    expected = deepcopy(forked)
    _shrink_by_hand(expected, l1, group)
    _shrink(forked, Objective(l1=l1, group_lasso=group), [SGD(forked.parameters())])
    found = forked.state_dict()
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-7)
        assert torch.equal(found[name] == 0, tensor == 0)


def test_the_step_is_the_minimum_of_distance_and_penalty(forked: Forked) -> None:
    l1, group, rate = 1.2, 0.9, 0.1
    before = [torch.cat(readers).double() for readers in forked.read()]
    _shrink(forked, Objective(l1=l1, group_lasso=group), [SGD(forked.parameters())])
    died = 0
    after = [torch.cat(readers).double() for readers in forked.read()]
    for was, now in zip(before, after, strict=True):
        for k in range(was.shape[1]):
            w, found = was[:, k].numpy(), now[:, k].numpy()

            def cost(x, w=w):
                penalty = l1 * abs(x).sum() + group * len(x) ** 0.5 * (x @ x) ** 0.5
                return 0.5 * (x - w) @ (x - w) + rate * penalty

            tight = {"xatol": 1e-9, "fatol": 1e-15, "maxiter": 20_000}
            best = min(
                minimize(cost, at, method="Nelder-Mead", options=tight).fun for at in (w, found)
            )
            assert cost(found) == pytest.approx(min(best, cost(0 * w)), abs=1e-9)
            died += not found.any()
    assert 0 < died < 9  # of nine units: both cases were seen


def test_the_last_layer_below_an_interaction_is_shrunk_where_it_is_made(build) -> None:
    model = build("dlrm", bottom=[])
    layer = model.bottom.last.affine
    rows, table = layer.weight.detach().clone(), model.table.weight.clone()
    _shrink(model, Objective(group_lasso=3.0), [SGD(model.parameters())])
    expected = torch.stack([_by_hand(row, 0, 0.3) for row in rows])
    torch.testing.assert_close(layer.weight, expected)
    assert 0 < (layer.weight == 0).all(1).sum() < len(rows)
    assert torch.equal(model.table.weight, table)


def test_weights_are_shrunk_in_proportion_to_the_learning_rate_of_their_optimiser(
    forked: Forked,
) -> None:
    left, right = forked.left.weight.detach().clone(), forked.right.weight.detach().clone()
    rest = [p for p in forked.parameters() if p is not forked.right.weight]
    optimizers = [SGD(rest), torch.optim.Adam([forked.right.weight], lr=0.02)]
    _shrink(forked, Objective(l1=1.0), optimizers)
    torch.testing.assert_close(forked.left.weight, left.sign() * (left.abs() - 0.1).clamp_min(0))
    torch.testing.assert_close(
        forked.right.weight[:, :4], (right.sign() * (right.abs() - 0.02).clamp_min(0))[:, :4]
    )


def test_a_learning_rate_of_zero_shrinks_nothing(forked: Forked) -> None:
    with torch.no_grad():
        forked.left.weight[:, 1] = forked.right.weight[:, 1] = 0
    before = {name: tensor.clone() for name, tensor in forked.state_dict().items()}
    optimizer = torch.optim.SGD(forked.parameters(), lr=0.0)
    _shrink(forked, Objective(group_lasso=2.0, l1=1.0), [optimizer])
    assert _same(forked.state_dict(), before)


@pytest.mark.parametrize(("l1", "group"), [(0.0, 0.0), (0.05, 0.1)])
def test_training_is_a_plain_loop_with_the_formula_after_each_step(
    tmp_path: Path, forked: Forked, l1: float, group: float
) -> None:
    model, data, losses = deepcopy(forked), toy.dataset(), []
    optimizer = SGD(model.parameters())
    for epoch in range(3):
        for batch in data.epoch(1, epoch).chunks(64):
            loss = binary_cross_entropy_with_logits(model(batch), batch.targets)
            losses.append(loss.item() * batch.rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if l1 or group:
                _shrink_by_hand(model, l1, group)
        toy.average_unseen(model.table.weight)
    trained = _fit(tmp_path, forked, data, Objective(group_lasso=group, l1=l1))
    plain = model.state_dict()
    if not l1:  # without it no bit is another
        assert _same(trained.weights, plain)
    for name, tensor in trained.weights.items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-4, atol=1e-6)
    told = trained.history["train/loss"].sum() * data.train.batch.rows
    assert told == pytest.approx(sum(losses), rel=1e-5)  # the loss on the data alone


@pytest.mark.parametrize("group", [0.0, 0.05])
def test_a_unit_of_noise_dies_and_those_of_the_signal_live(tmp_path: Path, group: float) -> None:
    data = toy.dataset()

    class Noisy(Forked):
        """Unit 0 reads what says nothing, the others what says most; that is fixed."""

        def score(self, inputs: Inputs) -> Tensor:
            noise = (inputs.dense * 1e4).sin()
            columns = torch.cat([noise, inputs.dense, -inputs.dense], 1)
            hidden = self.tower(columns)
            return self.left(hidden).sum(1, keepdim=True) + self.right(hidden, inputs.dense * 0)

    torch.manual_seed(3)
    model = Noisy()
    with torch.no_grad():
        for layer in (model.tower.first, model.tower.last):
            layer.affine.weight.zero_().requires_grad_(False)
            layer.affine.bias.zero_().requires_grad_(False)
        for unit, column in enumerate([0, 1, 2, 1]):
            model.tower.first.affine.weight[unit, column] = 1
            model.tower.last.affine.weight[unit, unit] = 1
    trained = _fit(tmp_path, model, data, Objective(group_lasso=group), max_epochs=15)
    best = torch.cat([trained.weights["left.weight"], trained.weights["right.weight"][:, :4]])
    assert (best[:, 1:] != 0).any(0).all()
    assert (best[:, 0] == 0).all() == (group > 0)
    if group:  # what is not read is found by the layer itself
        assert model.tower.last.used.tolist() == [False, True, True, True]


@pytest.mark.parametrize("bits", ["32-true", "bf16-mixed"])
def test_every_model_loses_its_units_and_nothing_else(
    tmp_path: Path, model: Recommender, dataset: Dataset, build, bits: str, request
) -> None:
    """One step with a penalty that no weight survives, beside one without it."""
    plain = build(request.node.callspec.params["model"]).train()
    model.train()
    one = {"max_epochs": 1, "batch_size": 60, "precision": bits}
    _fit(tmp_path / "a", plain, dataset, Objective(), optimizer=SLOW, **one)
    _fit(tmp_path / "b", model, dataset, Objective(group_lasso=1e6), optimizer=SLOW, **one)
    views = {n: la.outgoing_weights() or la.incoming_weights() for n, la in model.layers.items()}
    assert all((view == 0).all() for views_ in views.values() for view in views_)
    shrunk = {view.untyped_storage().data_ptr() for each in views.values() for view in each}
    left = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.untyped_storage().data_ptr() not in shrunk:
            assert torch.equal(parameter, left[name]), name
    assert model.table.weight.any()


@pytest.mark.long
def test_after_an_interruption_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def until_second(row: Mapping[str, float]) -> None:
        if row["epoch"] == 2:
            raise RuntimeError("the tracker is gone")

    adam = partial(torch.optim.Adam, lr=0.01)

    def fit(name: str, l1: float = 0.05, **changes: Any) -> Trained:
        torch.manual_seed(3)
        objective = Objective(group_lasso=0.1, l1=l1)
        changes |= {"max_epochs": 4, "optimizer": adam}
        return _fit(tmp_path / name, Forked(), toy.dataset(), objective, **changes)

    whole = fit("whole")
    with pytest.raises(RuntimeError, match="tracker is gone"):
        fit("killed", on_epoch=until_second)
    again = fit("killed")
    assert len(again.history) == 4
    assert _same(again.weights, whole.weights)
    with pytest.raises(ValueError, match=r"its objective is .*l1=0\.05,.* not .*l1=0\.1,"):
        fit("killed", l1=0.1)
