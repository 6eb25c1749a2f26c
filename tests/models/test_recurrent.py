"""Recurrent layers against PyTorch's own, against the formulas, and under surgery."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassrec.models.layers import activations
from glassrec.models.lstm import CellName, Recurrent

WIDTH, UNITS = 3, 5


@pytest.fixture(params=["lstm", "gru"])
def layer(request: pytest.FixtureRequest) -> Recurrent:
    torch.manual_seed(0)
    layer = Recurrent(WIDTH, UNITS, request.param).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


@pytest.fixture
def history() -> Tensor:
    return torch.randn(7, 6, WIDTH, generator=torch.Generator().manual_seed(1)).double()


def test_the_lstm_is_pytorchs(history: Tensor) -> None:
    torch.manual_seed(0)
    theirs = nn.LSTM(WIDTH, UNITS, batch_first=True).double()
    ours = Recurrent(WIDTH, UNITS, "lstm").double()
    # PyTorch's order is input, forget, cell, output; ours has the cell last.
    order = torch.arange(4 * UNITS).view(4, UNITS)[[0, 1, 3, 2]].flatten()
    weights = torch.cat([theirs.weight_ih_l0, theirs.weight_hh_l0], 1)[order]
    biases = (theirs.bias_ih_l0 + theirs.bias_hh_l0)[order]
    ours.cell.gates.load_state_dict(
        ours.cell.gates.state_dict() | {"weight": weights, "bias": biases}
    )
    expected, _ = theirs(history)
    with activations({"it": ours}) as emitted:
        last = ours(history, torch.ones(7, 6))
    torch.testing.assert_close(torch.stack(emitted["it"], 1), expected)
    assert torch.equal(last, emitted["it"][-1])


def test_the_gru_follows_its_formula(history: Tensor) -> None:
    torch.manual_seed(0)
    layer = Recurrent(WIDTH, UNITS, "gru").double()
    nn.init.normal_(layer.cell.gates.bias)
    gates, proposal = (
        {name: value.detach().numpy() for name, value in affine.named_parameters()}
        for affine in (layer.cell.gates, layer.cell.proposal)
    )
    h = np.zeros((7, UNITS))
    for x in history.numpy().transpose(1, 0, 2):
        both = gates["weight"] @ np.hstack([x, h]).T + gates["bias"][:, None]
        reset, keep = np.split(1 / (1 + np.exp(-both)), 2)
        new = np.tanh(
            proposal["weight"] @ np.hstack([x, reset.T * h]).T + proposal["bias"][:, None]
        )
        h = (keep * h.T + (1 - keep) * new).T
    np.testing.assert_allclose(layer(history, torch.ones(7, 6)).detach().numpy(), h)


def test_a_forget_gate_starts_open() -> None:
    assert Recurrent(WIDTH, 2, "lstm").cell.gates.bias.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("more", [1, 4, 30])
def test_padding_on_the_left_changes_no_bit(layer: Recurrent, history: Tensor, more: int) -> None:
    layer, history = layer.float(), history.float()
    steps = (torch.arange(6) >= torch.arange(7).unsqueeze(1)).float()  # row r has 6 - r of them
    longer = torch.cat([torch.randn(7, more, WIDTH), history], 1)
    padded = torch.cat([torch.zeros(7, more), steps], 1)
    assert torch.equal(layer(longer, padded), layer(history, steps))
    assert torch.equal(layer(history, steps)[6], torch.zeros(UNITS))


def test_a_row_sees_its_real_steps_alone(layer: Recurrent, history: Tensor) -> None:
    steps = torch.ones(7, 6)
    steps[:, :2] = 0
    torch.testing.assert_close(layer(history, steps), layer(history[:, 2:], steps[:, 2:]))
    assert not torch.equal(layer(history, steps), layer(history, torch.ones(7, 6)))


def test_units_emit_at_every_step_padding_included(layer: Recurrent, history: Tensor) -> None:
    steps = torch.tensor([0.0, 0, 1, 1, 1, 1]).expand(7, 6)
    with activations({"it": layer}) as emitted:
        layer(history, steps)
    assert len(emitted["it"]) == 6
    assert not emitted["it"][0].any()
    assert not emitted["it"][1].any()
    assert all(values.all() for values in emitted["it"][2:])


def test_only_a_unit_that_is_always_zero_can_go(layer: Recurrent) -> None:
    constants = torch.tensor([0, 0.5, 0, -1e-30, 1])
    assert layer.foldable(constants).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("kept", [[0, 2, 4], [3], [1, 2, 3, 4]])
def test_a_cut_equals_silence_in_every_step(
    layer: Recurrent, history: Tensor, kept: list[int]
) -> None:
    small = deepcopy(layer)
    small.keep(torch.tensor(kept), torch.zeros(UNITS).double())
    on = torch.zeros(UNITS).double()
    on[kept] = 1
    handle = layer.activation_module.register_forward_hook(lambda _, __, emitted: emitted * on)
    silenced = layer(history, torch.ones(7, 6))
    handle.remove()
    torch.testing.assert_close(small(history, torch.ones(7, 6)), silenced[:, kept])
    assert not torch.allclose(layer(history, torch.ones(7, 6))[:, kept], silenced[:, kept])
    assert small.units.tolist() == kept


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_cut_layer_loads_into_a_fresh_one(kind: CellName, history: Tensor) -> None:
    small, fresh = (Recurrent(WIDTH, UNITS, kind).double() for _ in range(2))
    small.keep(torch.tensor([1, 3]), torch.zeros(UNITS).double())
    fresh.load_state_dict(small.state_dict())
    assert torch.equal(fresh(history, torch.ones(7, 6)), small(history, torch.ones(7, 6)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gradients_in_evaluation_mode_on_a_gpu(layer: Recurrent, history: Tensor) -> None:
    """Where cuDNN's cells raise: "cudnn RNN backward can only be called in training mode"."""
    layer.eval()
    here = history.clone().requires_grad_()
    layer(here, torch.ones(7, 6)).sum().backward()
    there = history.cuda().requires_grad_()
    layer.cuda()(there, torch.ones(7, 6).cuda()).sum().backward()
    torch.testing.assert_close(there.grad.cpu(), here.grad)
