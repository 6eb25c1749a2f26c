"""The comparison on all pairs of user and item is that of brute force."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
import torch

from glassrec.artifacts import Certificate
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema, Target
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Affine
from glassrec.models.mf import MF
from glassrec.models.ncf import GMF, MLP, NeuMF
from glassrec.prune.certificate_text import text
from glassrec.prune.guarantees import all_pairs as module
from glassrec.prune.guarantees.ranges import enumerate_inputs
from glassrec.prune.new_rows import float64_pair
from glassrec.prune.pruner import Pruner

USERS, ITEMS = 13, 29


class Strange(MLP):
    """A model whose `score` takes rows apart, which the two parts of pairs do not allow."""

    def score(self, inputs: Inputs) -> torch.Tensor:
        halves = [inputs._replace(fields=half) for half in inputs.fields.tensor_split(2)]
        return torch.cat([super(Strange, self).score(half) for half in halves])


def _dataset(order: tuple[str, ...] = ("user", "item"), *more: Target) -> Dataset:
    sizes = {"user": USERS + 1, "item": ITEMS + 1}
    fields = tuple(Field(name, sizes[name]) for name in order)
    targets = (Target("click"), *more)
    schema = Schema((), fields, targets, "user", "item", ("item",))
    (every,) = enumerate_inputs(schema, schema, 1000)
    return Dataset(schema, *(Split(every.select(torch.arange(k, k + 40))) for k in (0, 50, 99)))


def _pair(model: Recommender, dataset: Dataset, share: float = 0.5) -> tuple[Certificate, list]:
    """The certificate of a cut, and the logits (U, I, K) of both models for all ids."""
    with torch.no_grad():
        model.table.weight.normal_()
        for each in model.modules():
            if isinstance(each, Affine):
                each.bias.normal_()
    model.eval()
    rows = [(name, unit) for name, layer in model.layers.items() for unit in range(layer.size)]
    frame = pd.DataFrame(rows, columns=["layer", "unit"])
    frame = frame.assign(max_abs=1.0, mean_abs=[(7 * k) % 11 for k in range(len(rows))])
    pruner = Pruner("budget", share=share)
    plan = pruner.plan(model, frame, dataset)
    weights = pruner.prune(model, plan)
    found = pruner.certify(model, weights, plan, dataset, files={}, given={})
    schema = dataset.schema
    ids = torch.cartesian_prod(torch.arange(USERS + 1), torch.arange(ITEMS + 1))
    batch = next(enumerate_inputs(schema, schema, len(ids)))
    for name, column in zip(("user", "item"), ids.T, strict=True):
        batch.ids[:, schema.field_index(name)] = column + schema.unseen_id(name)
    batch = batch._replace(dense=batch.dense.double())
    with torch.no_grad():
        both = [each(batch).view(USERS + 1, ITEMS + 1, -1) for each in
                float64_pair(model, weights)]  # fmt: skip
    return found, both


@pytest.mark.parametrize("numbers", [module.NUMBERS, 500])
@pytest.mark.parametrize("order", [("user", "item"), ("item", "user")])
@pytest.mark.parametrize("model", [GMF, MLP, NeuMF, MF, Strange])
def test_it_is_that_of_brute_force(
    model: Callable[..., Recommender], order: tuple[str, ...], numbers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "NUMBERS", numbers)
    torch.manual_seed(3)
    dataset = _dataset(order, Target("stars", "rating", 3.5, 1.2))
    certificate, both = _pair(model(dataset.schema, 4), dataset, share=0.26)
    found = certificate.all_pairs
    assert found is not None
    change = (both[0] - both[1]).abs().amax(2).numpy()
    assert (found.users, found.items) == change.shape
    assert found.max_abs_logit_difference == pytest.approx(change.max(), rel=1e-12)
    user, item = divmod(int(change.argmax()), ITEMS + 1)
    names = [f"id {k}" if k else "(unknown)" for k in (user, item)]
    assert [found.user, found.item] == names
    lists = [
        [
            sorted(range(ITEMS), key=lambda i, row=row: -row[i])[:10]
            for row in each[1:, 1:, 0].tolist()
        ]
        for each in both
    ]  # sorted is stable
    members = [sorted(a) == sorted(b) for a, b in zip(*lists, strict=True)]
    order_too = [a == b for a, b in zip(*lists, strict=True)]
    assert found.same_members == pytest.approx(sum(members) / USERS)
    assert found.same_order == pytest.approx(sum(order_too) / USERS)
    assert f"on all {change.size} pairs of user and item" in text(certificate)
