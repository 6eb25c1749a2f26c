"""SASRec against PyTorch's own attention, causality, and heads that are pruned."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.models.base import Inputs
from glassrec.models.lstm import LSTM
from glassrec.models.sasrec import SASRec


def _model(schema: Schema, length: int = 4) -> SASRec:
    """Weights that are large enough to tell errors apart, in float64."""
    torch.manual_seed(0)
    model = SASRec(replace(schema, history_length=length), embedding=6, heads=2)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.eval().double()


def _plain(model: SASRec, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """The states (B, T, E) and attention weights by the modules of PyTorch alone."""
    x = inputs.history * 6**0.5 + model.positions
    length = x.shape[1]
    blocked = torch.ones(length, length).triu(1).bool() | (inputs.steps == 0).unsqueeze(1)
    blocked = blocked & ~torch.eye(length).bool()
    weights = []
    for block in model.blocks:
        own = block.attention
        torchs = nn.MultiheadAttention(6, 2, batch_first=True).double()
        maps = own.query, own.key, own.value
        torchs.load_state_dict(
            {
                "in_proj_weight": torch.cat([each.weight for each in maps]),
                "in_proj_bias": torch.cat([each.bias for each in maps]),
                "out_proj.weight": block.join.weight,
                "out_proj.bias": block.join.bias,
            }
        )
        y = block.attention_norm(x)
        found, each = torchs(
            y, y, y, attn_mask=blocked.repeat_interleave(2, 0), average_attn_weights=False
        )
        weights.append(each[:, :, -1])
        x = x + found
        hidden = F.relu(F.linear(block.hidden_norm(x), *block.hidden.affine.parameters()))
        x = x + F.linear(hidden, *block.output.parameters())
    return model.norm(x), weights


def test_it_is_attention_of_torch(schema: Schema, batch: Batch) -> None:
    model = _model(schema)
    inputs = Inputs(*(part.double() for part in model.embed(batch)))
    states, weights = _plain(model, inputs)
    expected = (states[:, -1] * inputs.fields[:, 0]).sum(1, keepdim=True) + model.output.bias
    torch.testing.assert_close(model.score(inputs), expected)
    torch.testing.assert_close(model.read(inputs.history, inputs.steps, every=True), states)
    torch.testing.assert_close(model.attention(inputs), torch.cat(weights, 1))


@pytest.mark.parametrize("cell", ["sasrec", "lstm", "gru"])
def test_a_state_of_a_sequence_is_that_of_the_history_up_to_it(
    schema: Schema, batch: Batch, cell: str
) -> None:
    def build(length: int) -> SASRec | LSTM:
        if cell == "sasrec":
            return _model(schema, length)
        return LSTM(replace(schema, history_length=length), cell=cell).eval().double()

    model = build(4)
    history, steps = model.table.history(batch.history)
    every = model.read(history, steps, every=True)
    for step in range(4):
        own = build(step + 1)  # for histories that end at the step
        state = {**model.state_dict()}
        if cell == "sasrec":
            state["positions"] = state["positions"][: step + 1]
        own.load_state_dict(state)
        cut = batch._replace(history=batch.history[:, : step + 1])
        expected = own.read(*own.table.history(cut.history))
        torch.testing.assert_close(every[:, step], expected)
        scores = model.compare(
            every[:, step], model.embed(cut._replace(history=cut.history[:, :0]))
        )
        torch.testing.assert_close(model.target_scale(scores), own(cut))


def test_padding_is_nothing_to_it(schema: Schema, batch: Batch) -> None:
    model, twin = _model(schema), _model(schema, 7)
    history = batch.history.clone()
    history[:3] = 0  # some that are all padding
    state = model.state_dict()
    state["positions"] = torch.cat([torch.randn(3, 6).double(), state["positions"]])
    twin.load_state_dict(state)
    padded = batch._replace(history=F.pad(history, (3, 0)))
    torch.testing.assert_close(twin(padded), model(batch._replace(history=history)))


@pytest.mark.parametrize("kind", [SASRec, LSTM])
def test_rows_of_a_list_read_their_history_once(
    schema: Schema, batch: Batch, kind: type[SASRec | LSTM], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kind(schema).eval()
    lists = batch._replace(history=batch.history[:3].repeat_interleave(4, 0))
    expected, seen = model(lists), []  # with gradients every row is read
    read = kind.read
    monkeypatch.setattr(
        kind,
        "read",
        lambda self, history, steps: seen.append(len(history)) or read(self, history, steps),
    )
    with torch.no_grad():
        torch.testing.assert_close(model(lists), expected)
    assert sum(seen) == len(lists.history[::4].unique(dim=0))


def test_a_head_that_is_pruned_goes_with_its_queries_and_keys(schema: Schema, batch: Batch) -> None:
    model = _model(schema)
    small, layer = deepcopy(model), "blocks.0.attention"
    constants = torch.tensor([0.0, 0.3, -0.4, 0.0, 0.0, 0.2]).double()
    small.layers[layer].keep(torch.tensor([3, 4]), constants)

    def hold(_: object, __: object, activation: Tensor) -> Tensor:
        kept = torch.tensor([0, 0, 0, 1, 1, 0]).bool()
        return activation.where(kept, constants)

    model.layers[layer].activation_module.register_forward_hook(hold)
    torch.testing.assert_close(small(batch), model(batch))
    attention = small.layers[layer]
    assert attention.heads.tolist() == [1]
    assert [len(each.weight) for each in (attention.query, attention.key, attention.value)] == [
        3,
        3,
        2,
    ]
    again = SASRec(schema, embedding=6, heads=2).eval().double()
    again.load(small.state_dict(), "here")
    assert torch.equal(again(batch), small(batch))


def test_what_it_cannot_be_built_for_is_refused(schema: Schema) -> None:
    with pytest.raises(ValueError, match=r"SASRec needs a history.*set data\.history"):
        SASRec(replace(schema, history_length=0))
    with pytest.raises(ValueError, match=r"model\.heads: 4 do not divide model\.embedding, 6"):
        SASRec(schema, embedding=6, heads=4)
