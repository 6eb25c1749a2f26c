"""Planted dead and constant neurons of modules from elsewhere are removed exactly."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from plain_modules import MODULES, TwoLookUps, build, marked_line, resize
from torch import Tensor, nn

import glassrec
from glassrec.explain.captum_methods import CaptumNeurons
from glassrec.explain.neurons import Conductance
from glassrec.imported.exported import attribute, call
from glassrec.imported.neuron_layers import ImportedLayer

PLANTED = {
    "TwoLookUps": ("tower.0", "tower.2"),
    "DictInput": ("hidden",),
    "SharedTable": ("deep.0",),
    "Bags": ("bot_l.0", "top_l.0"),
    "CrossNetwork": ("linears.0", "linears.1"),
    "NeuMF": ("mlp.0", "mlp.3"),
}


def plant(module: nn.Module, names: Any) -> None:
    """Make neuron 0 of each linear layer dead behind a ReLU, and neuron 2 constant."""
    for name in names:
        layer = module.get_submodule(name)
        with torch.no_grad():
            layer.weight[[0, 2]] = 0
            layer.bias[[0, 2]] = torch.tensor([-3.0, 1.7]).to(layer.bias)


def output(module: nn.Module, batch: Any) -> Tensor:
    with torch.no_grad():
        return module(*call(module, batch).args, **call(module, batch).kwargs).flatten()


@pytest.mark.parametrize("name", MODULES)
def test_planted_neurons_are_removed_exactly(name: str) -> None:
    module, batch = build(name)
    plant(module, PLANTED[name])
    wrapped = glassrec.wrap(module, batch)
    plan = wrapped.plan(batch)
    pruned = wrapped.pruned(plan)
    assert type(pruned) is type(module)
    fresh = type(module).example()
    for inputs in (batch, fresh):
        assert output(module, inputs).sub(output(pruned, inputs)).abs().max() < 1e-9
    for layer in PLANTED[name]:
        before, after = module.get_submodule(layer), pruned.get_submodule(layer)
        assert {0, 2} <= plan.layers[layer].constants.keys()
        assert after.out_features == before.out_features - len(plan.layers[layer].constants)
        assert after.weight.shape == (after.out_features, after.in_features)
    certificate = wrapped.certify(plan, batch)
    assert certificate.exact
    assert certificate.max_abs_logit_difference < 1e-9
    removed = certificate.layers[PLANTED[name][0]].gone
    assert any(each.units.startswith(f"{PLANTED[name][0]}[") for each in removed)


@pytest.mark.parametrize("name", MODULES)
def test_the_state_loads_into_a_fresh_instance_of_the_smaller_class(name: str) -> None:
    module, batch = build(name)
    plant(module, PLANTED[name])
    wrapped = glassrec.wrap(module, batch)
    pruned = wrapped.pruned(wrapped.plan(batch))
    smaller = resize(MODULES[name](), pruned.state_dict())
    assert torch.equal(output(smaller, batch), output(pruned, batch))


def test_conductance_over_a_bottleneck_adds_up() -> None:
    module, batch = build("Bags")
    explainer = glassrec.wrap(module, batch).explainer(batch)
    (view,) = explainer.views(explainer.rows, 32)
    values = Conductance(steps=512).values(view.model, view.inputs, view.baseline, 0)
    total = values["top_l.0"][0].sum(1)  # all paths to the logit pass this layer
    assert total.sub(view.difference).abs().max() < 1e-3 * view.difference.abs().max()


@pytest.mark.parametrize("name", ["Bags", "CrossNetwork", "NeuMF"])
def test_conductance_equals_that_of_captum(name: str) -> None:
    module, batch = build(name)
    explainer = glassrec.wrap(module, batch).explainer(batch)
    (view,) = explainer.views(explainer.rows, 32)
    ours = Conductance(steps=20, rule="captum").values(view.model, view.inputs, view.baseline, 0)
    captum = CaptumNeurons("LayerConductance", {"n_steps": 20})
    theirs = captum.values(view.model, view.inputs, view.baseline, 0)
    for layer, values in ours.items():
        assert values.sub(theirs[layer]).abs().max() < 1e-7  # Captum's nodes are in float32


def test_a_layer_without_bias_takes_over_constants() -> None:
    module, batch = build("TwoLookUps")
    assert module.out.bias is None
    plant(module, ["tower.2"])
    wrapped = glassrec.wrap(module, batch)
    plan = wrapped.plan(batch)
    pruned = wrapped.pruned(plan)
    expected = module.out.weight[0, [0, 2]] @ torch.tensor([-3.0, 1.7]).double().tanh()
    assert pruned.out.bias.sub(expected).abs() < 1e-12
    untouched = glassrec.wrap(*build("TwoLookUps"))
    assert untouched.pruned(untouched.plan(batch)).out.bias is None


class Joined(nn.Module):
    """Two linear layers multiplied, one added to its own projection, and several consumers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 5)
        self.left, self.right = nn.Linear(5, 6), nn.Linear(5, 6)
        self.hidden, self.side = nn.Linear(6, 4), nn.Linear(6 + 5, 3)
        self.out = nn.Linear(7, 1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        gated = torch.relu(self.left(x)) * torch.sigmoid(self.right(x))
        one = torch.relu(self.hidden(gated))
        two = torch.tanh(self.side(torch.relu(torch.cat([x, gated], 1))))
        return self.out(torch.cat([one, two], 1))


def test_products_and_several_consumers() -> None:
    torch.manual_seed(1)
    module, ids = Joined().double().eval(), torch.arange(9)
    with torch.no_grad():
        module.left.weight[1], module.left.bias[1] = 0, -1  # the product is always zero
        for layer in (module.left, module.right):
            layer.weight[3], layer.bias[3] = 0, 0.8  # the product is constant
        module.left.weight[4], module.left.bias[4] = 0, 0.5  # the product is not
    wrapped = glassrec.wrap(module, ids)
    assert [*wrapped.model.layers] == ["left+right", "hidden", "side"]
    plan = wrapped.plan(ids)
    assert plan.layers["left+right"].constants.keys() == {1, 3}
    pruned = wrapped.pruned(plan)
    assert pruned.left.out_features == pruned.right.out_features == pruned.hidden.in_features == 4
    assert pruned.side.in_features == 4 + 5
    assert output(module, ids).sub(output(pruned, ids)).abs().max() < 1e-12


class _Refusing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.out = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.norm, self.second = nn.LayerNorm(4), nn.Linear(4, 4)


class Normed(_Refusing):
    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.relu(self.first(self.table(ids)))
        return self.out(self.norm(hidden))  # line: norm


class Shared(_Refusing):
    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.relu(self.first(self.table(ids)))
        again = torch.relu(self.first(hidden))  # line: shared
        return self.out(again)


class Residual(_Refusing):
    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.relu(self.first(self.table(ids)))
        more = torch.relu(self.second(hidden)) + hidden  # line: residual
        return self.out(more)


class NormedTwice(_Refusing):
    def __init__(self) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(4)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.batch_norm(self.first(self.table(ids)))  # line: twice
        return self.out(self.batch_norm(self.second(hidden)))


class Split(_Refusing):
    def forward(self, ids: Tensor) -> Tensor:
        one, two = torch.relu(self.first(self.table(ids))).chunk(2, 1)  # line: chunk
        return self.out(torch.cat([two, one], 1))


class Tied(_Refusing):
    def __init__(self) -> None:
        super().__init__()
        self.second.weight = self.first.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.relu(self.first(self.table(ids)))
        again = torch.relu(self.second(hidden))  # line: tied
        return self.out(again)


class TwoDirections(_Refusing):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 2, bidirectional=True)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.relu(self.first(self.table(ids))).unsqueeze(0)
        states, _ = self.gru(hidden)  # line: gru
        return self.out(states[0])


class Attention(_Refusing):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.relu(self.first(self.table(ids))).unsqueeze(1)
        return self.out(self.attention(x, x, x)[0].flatten(1))  # line: attention


class Crossed(_Refusing):
    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        return self.out(x * self.first(x) + x)  # line: cross


@pytest.mark.parametrize(
    ("module", "words", "mark"),
    [
        (Normed, "feeds layer_norm", "norm"),
        (Shared, "first.weight is shared", "shared"),
        (Tied, ".weight is shared", "tied"),
        (NormedTwice, "feeds batch_norm", "twice"),
        (Split, "feeds chunk", "chunk"),
        (TwoDirections, "feeds gru .* several layers or directions", "gru"),
        (Attention, "all parts of which are as wide", "attention"),
        (Crossed, "feeds mul .* with numbers that are also read elsewhere", "cross"),
        (Residual, "feeds add", "residual"),
    ],
)
def test_a_layer_that_cannot_be_cut_names_the_operation_and_the_line(module, words, mark) -> None:
    wrapped = glassrec.wrap(module(), torch.arange(9))
    reason = next(iter(wrapped.model.layers.values())).not_prunable_reason
    assert re.search(words, reason)
    assert marked_line(__file__, mark) in reason
    assert reason in str(wrapped)
    wrapped.plan(torch.arange(9))


class Pairs(nn.Module):
    """Dot products of three vectors; the pairs are registered, so that they can become fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(9, 4) for _ in range(3))
        self.register_buffer("left", torch.tensor([1, 2, 2]))
        self.register_buffer("right", torch.tensor([0, 0, 1]))
        self.out = nn.Linear(3, 1)

    def forward(self, ids: Tensor) -> Tensor:
        vectors = torch.stack([table(ids[:, k]) for k, table in enumerate(self.tables)], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        return self.out(products[:, self.left, self.right])


def test_constant_pairs_of_registered_indices_are_folded() -> None:
    torch.manual_seed(0)
    module, ids = Pairs().double().eval(), torch.randint(9, (12, 3))
    with torch.no_grad():
        module.tables[0].weight.copy_(torch.tensor([1.0, 0, 0, 0]))
        module.tables[1].weight[:, 0] = 0.3  # the product with the first is always .3
    wrapped = glassrec.wrap(module, ids)
    plan = wrapped.plan(ids)
    (found,) = plan.layers.values()
    assert found.constants == {0: pytest.approx(0.3)}
    pruned = wrapped.pruned(plan)
    assert (pruned.left.tolist(), pruned.right.tolist()) == ([2, 2], [0, 1])
    assert pruned.out.in_features == 2
    assert output(module, ids).sub(output(pruned, ids)).abs().max() < 1e-12


def test_conductance_of_channels_adds_up_over_positions() -> None:
    class Texts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.conv = nn.Embedding(9, 4), nn.Conv1d(4, 3, 2)
            self.out = nn.Linear(3 * 4, 1)

        def forward(self, words: Tensor) -> Tensor:
            hidden = torch.tanh(self.conv(self.table(words).transpose(1, 2)))
            return self.out(hidden.flatten(1))

    torch.manual_seed(0)
    module, words = Texts().double().eval(), torch.randint(9, (8, 5))
    explainer = glassrec.wrap(module, words).explainer(words)
    (view,) = explainer.views(explainer.rows, 32)
    values = Conductance(steps=512).values(view.model, view.inputs, view.baseline, 0)
    assert values["conv"].shape == (1, 8, 3)
    total = values["conv"][0].sum(1)  # all paths to the logit pass this layer
    assert total.sub(view.difference).abs().max() < 1e-3 * view.difference.abs().max()


def test_code_that_relies_on_sizes_is_refused() -> None:
    class Sized(_Refusing):
        def forward(self, ids: Tensor) -> Tensor:
            hidden = torch.relu(self.first(self.table(ids)))
            assert hidden.shape[1] == 4
            return self.out(torch.relu(hidden))

    module = Sized()
    plant(module, ["first"])
    wrapped = glassrec.wrap(module, torch.arange(9))
    with pytest.raises(ValueError, match="relies on the old sizes"):
        wrapped.pruned(wrapped.plan(torch.arange(9)))


def test_fewer_neurons_by_a_budget() -> None:
    from glassrec.prune.pruner import Pruner

    module, batch = build("NeuMF")
    wrapped = glassrec.wrap(module, batch)
    plan = wrapped.plan(batch, Pruner(level="budget", share=0.5))
    pruned = wrapped.pruned(plan)
    assert pruned.mlp[0].out_features == 4
    assert wrapped.certify(plan, batch).max_abs_logit_difference > 0
    with pytest.raises(ValueError, match="not known of an imported model"):
        wrapped.plan(batch, Pruner(level="domain"))


def test_layers_are_those_of_the_module() -> None:
    module = TwoLookUps()
    layers = glassrec.wrap(module, TwoLookUps.example()).model.layers
    assert all(isinstance(layer, ImportedLayer) for layer in layers.values())
    assert [layer.neuron_names(name)[3] for name, layer in layers.items()] == [
        "tower.0[3]",
        "tower.2[3]",
    ]
    assert attribute(module, "tower.0.weight").shape[0] == layers["tower.0"].size
