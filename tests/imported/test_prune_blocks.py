"""Random modules of blocks that can be cut: every planted neuron is found, and the cut is exact."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from random_modules import RandomModule
from torch import Tensor, nn

import glassrec

SEEDS = (5, 16, 23, 24, 33)
"""Their modules have every block, and each kind of recurrent layer and of pooling."""

SIZES = {
    nn.Linear: ("in_features", "out_features"),
    nn.Conv1d: ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    nn.BatchNorm1d: ("num_features",),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
    nn.LSTM: ("input_size", "hidden_size"),
    nn.GRU: ("input_size", "hidden_size"),
    nn.RNN: ("input_size", "hidden_size"),
}


def output(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        return module(*batch).flatten()


def built_smaller(module: nn.Module, pruned: nn.Module) -> nn.Module:
    """The module with new layers, built with the sizes that those of the pruned one state."""
    new = deepcopy(module)
    for path, part in pruned.named_modules():
        if type(part) in SIZES:
            sizes = [getattr(part, name) for name in SIZES[type(part)]]
            given: Any = {"batch_first": True} if isinstance(part, nn.RNNBase) else {}
            holder, _, name = path.rpartition(".")
            setattr(new.get_submodule(holder), name, type(part)(*sizes, **given).double().eval())
    return new


def check(seed: int) -> int:
    """Prune a random module and check all that is claimed; how many neurons were cut."""
    torch.manual_seed(seed)
    module = RandomModule(seed)
    batch = module.example()
    wrapped = glassrec.wrap(module, batch)
    layers = wrapped.model.layers
    plan = wrapped.plan(batch)
    for name, units in module.planted.items():
        reason = layers[name].not_prunable_reason
        if name in module.blocked:
            assert reason, name
        elif name not in module.either or not reason:
            assert reason is None, (name, reason)
            found = plan.layers[name]
            assert units <= {*found.constants, *(found.kept if found.stays else ())}, name
    pruned = wrapped.pruned(plan)
    assert output(module, batch).sub(output(pruned, batch)).abs().max() < 1e-9
    smaller = built_smaller(module, pruned)
    smaller.load_state_dict(pruned.state_dict())
    assert torch.equal(output(smaller, batch), output(pruned, batch))
    assert wrapped.certify(plan, batch).exact
    return sum(len(each.constants) for each in plan.layers.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_neurons_of_a_random_module_are_removed_exactly(seed: int) -> None:
    assert check(seed) >= 2
