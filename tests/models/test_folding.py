"""Folded copies of pruned models: the same logits, and no operation that the original lacks."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema, Target
from glassrec.models.base import Recommender
from glassrec.models.layers import Total, activations
from glassrec.models.two_tower import TwoTower
from glassrec.stages.program import export_program

Build = Callable[..., Recommender]
MOVES = (
    "index_select", "index", "gather", "constant_pad_nd", "cat", "stack", "index_copy", "index_put",
    "index_add", "scatter", "scatter_add", "new_zeros", "zeros", "zeros_like", "where", "clone",
    "_unsafe_index", "take", "masked_fill", "sigmoid",
)  # fmt: skip
"""Operations that copy numbers or fill them in; and one that is done at once for all gates."""


class Counted(TorchDispatchMode):
    """The operations on floating-point numbers, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.is_floating_point():
            self.counts[func.overloadpacket.__name__] += 1
        return out


def _prune(model: Recommender, seed: int, share: float) -> None:
    """A random part of each layer goes, and leaves constants that a ReLU can have."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.layers.values():
        if torch.rand((), generator=generator) < 0.2:
            continue  # this layer stays as it is
        pruned = torch.rand(len(layer.units), generator=generator) < share
        pruned[seed % len(pruned)] = False
        constants = torch.rand(len(pruned), generator=generator).double()
        foldable = layer.foldable(constants)
        layer.keep((~pruned).nonzero().flatten(), constants.where(foldable, 0))
    model.narrow()


@torch.no_grad()
def _check(model: Recommender, small: Recommender, batch: Batch) -> None:
    """The copy has the logits of the pruned model, and only operations of the original."""
    pruned = any(len(layer.units) < layer.size for layer in small.layers.values())
    assert (small.folded is not None) == pruned
    expected = small.task_logits(small.embed(batch))
    torch.testing.assert_close(small(batch), expected, rtol=1e-12, atol=1e-12)
    with Counted() as before:
        model(batch)
    with Counted() as after:
        small(batch)
    more = {n: after.counts[n] - before.counts[n] for n in MOVES}
    assert not {name: count for name, count in more.items() if count > 0}
    with FlopCounterMode(display=False) as large:
        model(batch)
    with FlopCounterMode(display=False) as less:
        small(batch)
    # The sum of a product is a matrix product with zeros and ones in the copy, and so it counts.
    sums = [module for module in small.modules() if isinstance(module, Total)]
    sums_flops = 2 * batch.rows * model.width * len(sums)
    assert less.get_total_flops() <= large.get_total_flops() + sums_flops


@pytest.mark.parametrize("seed", range(6))
def test_every_model_under_random_plans(model: Recommender, batch: Batch, seed: int) -> None:
    model, batch = model.double(), batch._replace(dense=batch.dense.double())
    small = deepcopy(model)
    for again in (seed, seed + 10):  # pruned once more, the copy is made anew
        _prune(small, again, (0.1, 0.5, 0.9)[seed % 3])
        _check(model, small, batch)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["retrieval", "both"])
def test_two_towers_with_a_retrieval(schema: Schema, batch: Batch, seed: int, kind: str) -> None:
    targets = (Target("next", "retrieval"), *schema.targets[: kind == "both"])
    torch.manual_seed(seed)
    model = TwoTower(replace(schema, targets=targets)).eval().double()
    batch = batch._replace(dense=batch.dense.double())
    small = deepcopy(model)
    _prune(small, seed, 0.5)
    _check(model, small, batch)


def test_negative_constants_of_the_dense_vector(build: Build, batch: Batch) -> None:
    """No ReLU gives them, so they are copied in, as in the model itself."""
    small = build("dlrm").double()
    layer = small.layers["bottom.3"]
    layer.keep(torch.arange(5), torch.full((16,), -0.5).double())
    small.narrow()
    batch = batch._replace(dense=batch.dense.double())
    with torch.no_grad():
        expected = small.task_logits(small.embed(batch))
        torch.testing.assert_close(small(batch), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_change_of_the_model_is_noticed(model: Recommender, batch: Batch, build: Build) -> None:
    _prune(model, 0, 0.5)
    if model.folded is None:
        return  # a model without neurons

    def check() -> None:
        expected = model.task_logits(model.embed(batch))
        torch.testing.assert_close(model(batch), expected, rtol=1e-4, atol=1e-4)

    check()
    before, copy = model(batch), model.folded
    assert model.folded is copy
    for parameter in model.parameters():
        parameter.mul_(1.5)
    check()
    assert not torch.allclose(model(batch), before)
    layer = next(iter(model.layers.values()))
    layer.keep(torch.arange(len(layer.units) - 1), torch.zeros(len(layer.units)))
    check()
    model.narrow()
    check()
    state = {name: tensor.clone() / 2 for name, tensor in model.state_dict().items()}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            state[name] = tensor.clone()
    model.load(state, "here")
    check()
    single, batch = model(batch), batch._replace(dense=batch.dense.double())
    model.double()
    torch.testing.assert_close(model(batch).float(), single, rtol=1e-4, atol=1e-4)
    assert model(batch).dtype == torch.float64
    for other in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.folded is not model.folded
        assert torch.equal(other(batch), model(batch))


def test_a_copy_is_for_inference_alone(build: Build, batch: Batch) -> None:
    small = build("mlp")
    _prune(small, 3, 0.5)
    state, random = deepcopy(small.state_dict()), torch.get_rng_state()
    assert small.folded is None  # gradients
    with torch.no_grad():
        assert small.folded is not None
        assert small.train().folded is None
        small.eval()
        with activations(small.layers) as recorded:
            small(batch)
        assert small.folded.folded is None
    for name, layer in small.layers.items():
        assert recorded[name][0].shape == (batch.rows, len(layer.units))
    assert torch.equal(torch.get_rng_state(), random)
    assert state.keys() == small.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in small.state_dict().items())
    assert small.parameter_count == sum(each.numel() for each in small.parameters())


def test_a_program_is_exported_from_the_copy(build: Build, batch: Batch, schema: Schema) -> None:
    """Of a pruned DLRM, with an index of its pairs, and none of its inputs or of its table."""
    small = build("dlrm", embedding=8, bottom=[16], top=[32])
    _prune(small, 1, 0.3)
    program = export_program(small, schema)
    with torch.no_grad():
        found = program.module()(batch.dense, batch.ids, batch.history)
        torch.testing.assert_close(found, small.task_logits(small.embed(batch)))
    names = Counter(str(node.target) for node in program.graph.nodes)
    assert names["aten.index_select.default"] == 1
    assert not any("pad" in name or "index_copy" in name for name in names)
