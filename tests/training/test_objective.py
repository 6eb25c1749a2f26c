"""The loss against loops and formulas, and what a weight of zero leaves out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.catalogue import Catalogue
from glassrec.data.dataset import Dataset
from glassrec.data.schema import Field, Schema, Target
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender
from glassrec.models.dlrm import DLRM
from glassrec.models.mf import MF
from glassrec.models.ncf import MLP
from glassrec.models.popularity import Popularity
from glassrec.models.retriever import Retriever
from glassrec.models.two_tower import TwoTower
from glassrec.training.objective import InBatchSoftmax, Objective
from glassrec.training.settings import cores
from glassrec.training.trainer import Trainer

TASKS = (Target("find", "retrieval"), Target("label"), Target("stars", "rating", 3.0, 2.0))


def _with_tasks(dataset: Dataset, *targets: Target) -> Dataset:
    """The same rows with these tasks; every row is to be retrieved."""
    schema = replace(dataset.schema, targets=targets)

    def labels(rows: int) -> Tensor:
        """Click and rating of a row are those of all choices of tasks."""
        full = torch.rand(rows, 3, generator=torch.Generator().manual_seed(5)).round()
        full[:, 0] = 1
        return full[:, [TASKS.index(target) for target in targets]]

    splits = [
        replace(split, batch=split.batch._replace(targets=labels(split.batch.rows)))
        for split in (dataset.train, dataset.validation, dataset.test)
    ]
    return Dataset(schema, *splits, Catalogue.from_ids(splits[0].batch, schema))


@pytest.fixture
def all_tasks(dataset: Dataset) -> Dataset:
    return _with_tasks(dataset, *TASKS)


def _twin(model: TwoTower, schema: Schema) -> TwoTower:
    """A model built for fewer tasks, with the same weights."""
    small = TwoTower(schema)
    own = model.state_dict()
    shared = {
        name: own[name] for name in small.state_dict() if not name.startswith("target_scale.")
    }
    missing, _ = small.load_state_dict(shared, strict=False)
    assert all(name.startswith("target_scale.") for name in missing)  # of another number of tasks
    return small


def _gradients(model: TwoTower, loss: Tensor) -> dict[str, Tensor]:
    """Zeros where the loss does not depend on a parameter."""
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, [*learnt.values()], materialize_grads=True)
    return dict(zip(learnt, found, strict=True))


def test_a_weight_of_zero_leaves_the_gradients_of_the_other_task_alone(dataset: Dataset) -> None:
    data = _with_tasks(dataset, TASKS[0], TASKS[2])
    torch.manual_seed(0)
    model, batch = TwoTower(data.schema), data.train.batch
    assert data.catalogue is not None
    softmax = InBatchSoftmax(data.catalogue, data.schema, 1.0)
    ones = torch.ones(batch.rows)
    alone = {
        "find": lambda: softmax(model, model.embed(batch), batch, ones),
        "stars": lambda: torch.nn.functional.mse_loss(
            model.score(model.embed(batch))[:, 1], (batch.targets[:, 1] - 3) / 2
        ),
    }
    for learnt, left_out in (("find", "stars"), ("stars", "find")):
        found = _gradients(model, Objective({left_out: 0}).build_loss(data)(model, batch))
        expected = _gradients(model, alone[learnt]())
        assert expected["table.weight"].any()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("learnt", "left_out"), [("find", "stars"), ("stars", "find")])
def test_a_model_of_both_tasks_learns_one_like_a_model_of_that_task(
    dataset: Dataset, learnt: str, left_out: str
) -> None:
    tasks = {target.name: target for target in TASKS}
    both = _with_tasks(dataset, tasks[learnt], tasks[left_out])
    alone = _with_tasks(dataset, tasks[learnt])
    torch.manual_seed(0)
    model = TwoTower(both.schema)
    single = _twin(model, alone.schema)
    found = _gradients(model, Objective({left_out: 0}).build_loss(both)(model, both.train.batch))
    expected = _gradients(single, Objective().build_loss(alone)(single, alone.train.batch))
    for name, gradient in found.items():
        # In another order of sums: the single model has fewer.
        torch.testing.assert_close(gradient, expected.get(name, torch.zeros_like(gradient)))
        assert name not in expected or gradient.any()


def test_the_loss_is_the_weighted_sum_of_its_tasks(all_tasks: Dataset) -> None:
    torch.manual_seed(0)
    model, batch = TwoTower(all_tasks.schema), all_tasks.train.batch
    click, rating = model(batch).detach()[:, 1:].T
    parts = {
        "find": Objective({"label": 0, "stars": 0}).build_loss(all_tasks)(model, batch).item(),
        "label": log_loss(batch.targets[:, 1], click.sigmoid()),
        "stars": (rating - batch.targets[:, 2]).square().mean().item() / 2.0**2,
    }
    weights = {"find": 0.5, "stars": 3.0}
    found = Objective(weights).build_loss(all_tasks)(model, batch).item()
    expected = sum(weights.get(name, 1) * part for name, part in parts.items())
    assert found == pytest.approx(expected, rel=1e-5)


def _slow_softmax(
    model: Retriever, batch: Batch, train: Tensor, item: int, temperature: float
) -> float:
    """Row by row, as in the paper's equations 3 to 5, with accidental hits left out."""
    inputs = model.embed(batch)
    query, candidate = model.query(inputs), model.candidate(inputs)
    losses = []
    for row in range(batch.rows):
        logits = {}
        for other in range(batch.rows):
            if other != row and batch.ids[other, item] == batch.ids[row, item]:
                continue
            share = (train == batch.ids[other, item]).double().mean().item()
            product = (query[row] @ candidate[other]).item()
            logits[other] = product / temperature - math.log(share)
        total = math.log(sum(math.exp(logit) for logit in logits.values()))
        losses.append(total - logits[row])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("kind", [TwoTower, MF, Popularity])
def test_the_softmax_against_a_loop(
    dataset: Dataset, kind: Callable[[Schema], Retriever], temperature: float
) -> None:
    data = _with_tasks(dataset, TASKS[0])
    torch.manual_seed(0)
    model = kind(data.schema)
    torch.nn.init.normal_(model.table.weight)
    batch, item = data.train.batch.slice(0, 25), data.schema.id_columns("item")[0]
    assert len(batch.ids[:, item].unique()) < 25
    expected = _slow_softmax(model, batch, data.train.batch.ids[:, item], item, temperature)
    found = Objective(temperature=temperature).build_loss(data)(model, batch).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_rows_of_target_0_are_candidates_and_no_positives(dataset: Dataset) -> None:
    data = _with_tasks(dataset, TASKS[0])
    torch.manual_seed(0)
    model, batch = TwoTower(data.schema), data.train.batch.slice(0, 8)
    assert data.catalogue is not None
    softmax = InBatchSoftmax(data.catalogue, data.schema, 1.0)
    inputs = model.embed(batch)
    each = [softmax(model, inputs, batch, row).item() for row in torch.eye(8)]
    some = softmax(model, inputs, batch, torch.tensor([1.0, 0, 1, 0, 0, 0, 0, 0])).item()
    assert some == pytest.approx((each[0] + each[2]) / 2, rel=1e-6)
    assert softmax(model, inputs, batch, torch.zeros(8)).item() == 0


def test_log_q_takes_the_popularity_of_the_batch_out() -> None:
    """With one number an item, the optimum is the log of its share; uncorrected, it is level."""
    schema = Schema(
        fields=(Field("user", 2), Field("item", 41)), targets=(TASKS[0],),
        user="user", item="item", item_side=("item",),
    )  # fmt: skip
    counts = torch.arange(4, 84, 2)
    items = torch.arange(3, 43).repeat_interleave(counts)
    ids = torch.stack([torch.ones_like(items), items], 1)
    empty = torch.empty(len(ids), 0)
    rows = Batch(empty, ids, empty.long(), torch.ones(len(ids), 1))
    softmax = InBatchSoftmax(Catalogue.from_ids(rows, schema), schema, 1.0)
    model = Popularity(schema)
    optimizer = torch.optim.Adam([model.table.weight], lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        batch = rows.select(torch.randint(len(ids), (400,), generator=generator))
        optimizer.zero_grad()
        softmax(model, model.embed(batch), batch, batch.targets[:, 0]).backward()
        optimizer.step()
    learnt, expected = model.table.weight.detach()[1:, 0], counts.log()
    assert torch.corrcoef(torch.stack([learnt, expected]))[0, 1] > 0.98
    assert (learnt.std() / expected.std()).item() == pytest.approx(1, abs=0.1)


def test_a_model_that_cannot_retrieve_is_refused(all_tasks: Dataset) -> None:
    with pytest.raises(ValueError, match="DLRM cannot retrieve"):
        Objective().build_loss(all_tasks)(DLRM(all_tasks.schema), all_tasks.train.batch)


def test_it_is_refused_before_training(
    all_tasks: Dataset, build: Callable[..., Recommender], tmp_path: Path
) -> None:
    told: list[object] = []
    with pytest.raises(ValueError, match="DLRM cannot retrieve"):
        Trainer(max_epochs=1, batch_size=8).fit(
            build("dlrm"), all_tasks, partial(torch.optim.SGD, lr=0.1), seed=0,
            directory=tmp_path, validate=partial(quality, name="val"), on_epoch=told.append,
        )  # fmt: skip
    assert told == [] == [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"strs": 1.0}, "no task 'strs'.*'stars'"),
        ({"find": 0, "label": 0, "stars": 0}, "all are zero"),
    ],
)
def test_weights_that_make_no_sense(
    all_tasks: Dataset, weights: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=f"objective.weights: {message}"):
        Objective(weights).build_loss(all_tasks)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two cores are needed")
def test_two_processes_learn_one_of_two_tasks(dataset: Dataset, tmp_path: Path) -> None:
    data = _with_tasks(dataset, TASKS[0], TASKS[2])
    torch.manual_seed(0)
    model = TwoTower(data.schema)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Trainer(max_epochs=2, batch_size=10, devices=2).fit(
        model, data, partial(torch.optim.SGD, lr=0.1), seed=0, directory=tmp_path,
        objective=Objective({"stars": 0}), validate=partial(quality, name="val"),
        on_epoch=lambda row: None,
    )  # fmt: skip
    moved = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert "table.weight" in moved
    assert not any(name.startswith(("head", "output")) for name in moved)


def test_what_is_not_learnt_is_not_the_first_task() -> None:
    targets = (Target("find", "retrieval"), Target("label"), Target("stars", "rating"))
    assert Objective().first(targets).name == "find"
    assert Objective({"find": 0.0, "label": 0.0}).first(targets).name == "stars"


def test_l2_adds_to_gradients_and_not_to_the_loss(dataset: Dataset) -> None:
    """By hand: λ v for each time that a row looks a vector up, by the rows, and λ W of matrices."""
    rows = dataset.train.batch.slice(0, 32)
    model = MLP(dataset.schema, factors=2)
    losses, gradients = [], []
    for settings in ({}, {"l2_embeddings": 0.5, "l2_kernels": 0.25}):
        model.zero_grad()
        loss = Objective(**settings).build_loss(dataset)(model, rows)
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    plain, found = gradients
    assert losses[0] == losses[1]
    own = [dataset.schema.field_index(name) for name in model.schema.field_names]
    offsets = zip(own, model.schema.offsets, strict=True)
    for field, start in offsets:
        size = dataset.schema.fields[field].size
        (column,) = dataset.schema.id_columns(dataset.schema.field_names[field])
        counts = (rows.ids[:, column] - dataset.schema.offsets[field]).bincount(minlength=size)
        vectors = model.table.weight.detach()[start : start + size]
        expected = 0.5 * counts.unsqueeze(1) * vectors / rows.rows
        difference = (found["table.weight"] - plain["table.weight"])[start : start + size]
        torch.testing.assert_close(difference, expected)
    for name, weight in model.named_parameters():
        if name != "table.weight":
            factor = 0.25 if weight.dim() > 1 else 0
            torch.testing.assert_close(found[name] - plain[name], factor * weight.detach())
