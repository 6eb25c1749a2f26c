"""DLRM against numbers worked out by hand, and against a loop."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch

from glassrec.data.batch import Batch
from glassrec.data.schema import Field, Schema
from glassrec.models.dlrm import DLRM, DotInteraction
from glassrec.models.layers import Affine


def _by_hand() -> tuple[DLRM, Batch]:
    """Four vectors of two numbers: d = (1, 2), C1 = (1, 0), C2 = (0, 3), C3 = (2, −1)."""
    schema = Schema(("I1", "I2"), (Field("C1", 2), Field("C2", 2), Field("C3", 2)))
    model = DLRM(schema, embedding=2, bottom=(), top=(2,))
    with torch.no_grad():
        model.table.weight[[1, 3, 5]] = torch.tensor([[1.0, 0], [0, 3], [2, -1]])
        model.bottom.first.affine.weight.copy_(torch.eye(2))
        model.bottom.first.affine.bias.zero_()
        top = [[1.0, 1, 1, 1, 1, 1, 1, 1], [0, 0, 1, -1, 0, 5, 2, 1]]
        model.top.first.affine.weight.copy_(torch.tensor(top))
        model.top.first.affine.bias.copy_(torch.tensor([0, 0.5]))
        model.output.weight.copy_(torch.tensor([[2.0, 7]]))
        model.output.bias.fill_(-1)
    empty = torch.empty(1, 0, dtype=torch.long)
    return model, Batch(torch.tensor([[1.0, 2]]), torch.tensor([[1, 3, 5]]), empty, empty.float())


def test_four_vectors_by_hand() -> None:
    model, batch = _by_hand()
    inputs = model.embed(batch)
    dense = model.bottom(inputs.dense)
    # d·C1 = 1; d·C2 = 6, C1·C2 = 0; d·C3 = 0, C1·C3 = 2, C2·C3 = −3
    assert model.interaction(dense, inputs.fields).tolist() == [[1, 2, 1, 6, 0, 0, 2, -3]]
    assert model.interaction.neuron_names("interaction") == [
        "dense[0]", "dense[1]", "dense×C1", "dense×C2", "C1×C2", "dense×C3", "C1×C3", "C2×C3",
    ]  # fmt: skip
    # top: 1+2+1+6+0+0+2−3 = 9 and 1−6+4−3+.5 = −3.5, which ReLU stops; 2·9 − 1 = 17
    assert model(batch).item() == 17


def test_without_some_pairs_by_hand() -> None:
    model, batch = _by_hand()
    # C1·C2 and C1·C3 go and leave 10 and −1: 9 − 0 − 2 + 9 = 16; −3.5 − 4 + 0 − 2 stays below 0.
    constants = torch.tensor([0.0, 0, 0, 0, 10, 0, -1, 0])
    model.interaction.keep(torch.tensor([0, 1, 2, 3, 5, 7]), constants)
    assert model.top.first.affine.weight.shape == (2, 6)
    assert model(batch).item() == 2 * 16 - 1


def test_a_unit_of_the_dense_vector_leaves_its_dots_by_hand() -> None:
    model, batch = _by_hand()
    batch = batch._replace(dense=torch.tensor([[-1.0, 2]]))
    # d = (0, 2): pairs 0, 6, 0, −2, 2, −3; top 2+0+6+0−2+2−3 = 5, −6−10+4−3+.5 < 0; 2·5 − 1
    assert model(batch).item() == 9
    model.bottom.last.keep(torch.tensor([1]), torch.zeros(2))
    assert model.bottom.last.affine.weight.shape == (1, 2)
    assert model(batch).item() == 9
    model.interaction.keep(torch.tensor([1, 2, 3, 4, 5, 6, 7]), torch.zeros(8))
    assert model.top.first.affine.weight.shape == (2, 7)
    assert model(batch).item() == 9


def test_a_constant_of_the_dense_vector_goes_on_being_multiplied_by_hand() -> None:
    model, batch = _by_hand()
    assert model.bottom.last.foldable(torch.tensor([0.5, 0.0])).tolist() == [True, True]
    model.bottom.last.keep(torch.tensor([1]), torch.tensor([0.5, 0]))
    # d = (.5, 2): pairs .5, 6, 0, −1, 2, −3; top .5+2+4.5 = 7, .5−6−5+4−3+.5 < 0; 2·7 − 1
    assert model(batch).item() == 13
    model.interaction.keep(torch.tensor([1, 2, 3, 4, 5, 6, 7]), torch.tensor([0.5, *[0] * 7]))
    assert model(batch).item() == 13
    fresh, _ = _by_hand()
    fresh.load(model.state_dict(), "here")
    assert fresh(batch).item() == 13


def test_published_sizes_give_367_inputs_to_the_top() -> None:
    dense = tuple(f"I{i}" for i in range(1, 14))
    schema = Schema(dense, tuple(Field(f"C{i}", 3) for i in range(1, 27)))
    model = DLRM(schema)
    sizes = {name: len(layer.units) for name, layer in model.layers.items()}
    assert sizes == {
        "bottom.0": 512, "bottom.1": 256, "bottom.2": 64, "bottom.3": 16,
        "interaction": 367, "top.0": 512, "top.1": 256,
    }  # fmt: skip
    assert model.top.first.affine.weight.shape == (512, 367)


def test_the_whole_model_against_a_loop(build: Callable[..., DLRM], batch: Batch) -> None:
    model = build("dlrm", embedding=3, bottom=[5], top=[4, 3])
    inputs = model.embed(batch)
    for row in range(batch.rows):
        dense = inputs.dense[row]
        for layer in model.bottom:
            dense = (layer.affine.weight @ dense + layer.affine.bias).clamp(min=0)
        vectors = [dense, *inputs.fields[row]]
        pairs = [vectors[i] @ vectors[j] for i in range(len(vectors)) for j in range(i)]
        hidden = torch.cat([dense, torch.stack(pairs)])
        for layer in model.top:
            hidden = (layer.affine.weight @ hidden + layer.affine.bias).clamp(min=0)
        expected = model.output.weight @ hidden + model.output.bias
        torch.testing.assert_close(model(batch)[row], expected)


def test_dlrm_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"DLRM needs dense columns and categorical fields"):
        DLRM(Schema((), (Field("C1", 3),)))


def test_weights_of_another_size_are_refused(build: Callable[..., DLRM]) -> None:
    small, large = build("dlrm", embedding=4), build("dlrm", embedding=8)
    with pytest.raises(ValueError, match=r"FILE holds the weights of another model than this DLRM"):
        small.load(large.state_dict(), "FILE")


@pytest.mark.parametrize("share", [0.9, 0.4, 0.05])
def test_any_pairs_that_are_left_against_a_loop(share: float) -> None:
    """Vectors of which no pair is left are not multiplied, and that moves no other pair."""
    names = ["dense", *(f"C{i}" for i in range(1, 9))]
    whole = DotInteraction(names, 3)
    whole.register_consumer(Affine([whole.size], 1))
    generator = torch.Generator().manual_seed(0)
    kept = (torch.rand(whole.size, generator=generator) < share).nonzero().flatten()
    small = deepcopy(whole)
    small.register_consumer(Affine([whole.size], 1))
    small.keep(kept, torch.zeros(whole.size))
    dense, fields = torch.rand(5, 3, generator=generator), torch.rand(5, 8, 3, generator=generator)
    vectors = [dense, *fields.unbind(1)]
    pairs = [(vectors[i] * vectors[j]).sum(1) for i in range(9) for j in range(i)]
    expected = torch.cat([dense, torch.stack(pairs, 1)], 1)[:, kept]
    torch.testing.assert_close(small(dense, fields), expected)
    named = whole.neuron_names("interaction")
    assert small.neuron_names("interaction") == [named[unit] for unit in kept.tolist()]
    pairs_left = {name for unit in kept.tolist() for name in named[unit].split("×")}
    assert small.multiplied.tolist() == [name in pairs_left for name in names]
