"""What cannot be wrapped is refused, by the operation and the line of the user's code."""

from __future__ import annotations

import pytest
import torch
from plain_modules import marked_line
from torch import Tensor, nn

import glassrec
from glassrec.imported.exported import UnsupportedModelError


class _Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(9, 4), nn.Linear(4, 1)


class Sorts(_Base):
    def forward(self, ids: Tensor) -> Tensor:
        vectors = self.table(ids)
        ordered, _ = torch.sort(vectors, 1)  # line: sort
        return self.out(ordered)


class Branches(_Base):
    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.table(ids)
        if hidden.sum() > 0:  # line: branch
            hidden = -hidden
        return self.out(hidden)


class Bypasses(_Base):
    def forward(self, ids: Tensor) -> Tensor:
        score = self.out(self.table(ids))
        return score + 0.1 * ids.unsqueeze(1)  # line: bypass


class OneHot(_Base):
    def forward(self, ids: Tensor, age: Tensor) -> Tensor:
        flags = nn.functional.one_hot(ids, 9).to(age.dtype)
        return self.out(self.table(ids)) + flags.sum(1, True) * age.unsqueeze(1)  # line: one-hot


class FixedRows(_Base):
    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.table(ids)).view(int(ids.shape[0]), 1)


class Several(_Base):
    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.table(ids)
        return self.out(hidden), hidden


IDS = torch.tensor([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("module", "batch", "operation", "mark"),
    [
        (Sorts, IDS, "sort", "sort"),
        (Branches, IDS, "control flow depends on the values", "branch"),
        (Bypasses, IDS, "add", "bypass"),
        (OneHot, (IDS, torch.rand(4)), "mul", "one-hot"),
    ],
)
def test_a_refusal_names_the_operation_and_the_line(module, batch, operation, mark) -> None:
    with pytest.raises(UnsupportedModelError) as refused:
        glassrec.wrap(module(), batch)
    assert operation in str(refused.value)
    assert marked_line(__file__, mark) in str(refused.value)


def test_the_bypass_names_the_input() -> None:
    with pytest.raises(UnsupportedModelError, match="reads ids beside its look-up"):
        glassrec.wrap(Bypasses(), IDS)


@pytest.mark.parametrize(
    ("module", "batch", "reason"),
    [
        (Several, IDS, "returns tuple"),
        (OneHot, (IDS[:1], torch.rand(1)), "two rows"),
    ],
)
def test_what_else_is_refused(module, batch, reason) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        glassrec.wrap(module(), batch)


def test_a_batch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"fit OneHot.forward: .*'age'"):
        glassrec.wrap(OneHot(), {"ids": IDS, "agee": torch.rand(4)})
    with pytest.raises(UnsupportedModelError, match="no parameters"):
        glassrec.wrap(nn.ReLU(), torch.rand(4, 1))


def test_a_random_forward_is_refused() -> None:
    class Noisy(_Base):
        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.table(ids)) + torch.rand(ids.shape[0], 1)

    with pytest.raises(UnsupportedModelError, match="random"):
        glassrec.wrap(Noisy(), IDS)


def test_torchscript_and_weights_that_forward_changes_are_refused() -> None:
    class Renormed(_Base):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 4, max_norm=0.5)

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.table(ids))

    module = Renormed()
    before = module.table.weight.clone()
    with pytest.raises(UnsupportedModelError, match=r"table\.max_norm changes weights"):
        glassrec.wrap(module, IDS)
    assert torch.equal(module.table.weight, before)
    with pytest.raises(UnsupportedModelError, match="TorchScript"):
        glassrec.wrap(torch.jit.trace(nn.Linear(2, 1), torch.rand(4, 2)), torch.rand(4, 2))


def test_an_example_that_does_not_run_names_the_line() -> None:
    with pytest.raises(UnsupportedModelError, match="cannot be run on the example, at") as refused:
        glassrec.wrap(Sorts(), IDS.double())
    assert "vectors = self.table(ids)" in str(refused.value)


def test_a_position_that_the_look_ups_do_not_give_names_the_line() -> None:
    class Last(_Base):
        def forward(self, ids: Tensor, length: Tensor) -> Tensor:
            at = (length - 1).view(-1, 1, 1).expand(-1, -1, 4)
            last = self.table(ids).gather(1, at)  # line: gather
            return self.out(last.squeeze(1)) + self.out(self.table(ids)).sum(1)

    with pytest.raises(UnsupportedModelError, match="gather") as refused:
        glassrec.wrap(Last(), (IDS.view(2, 2), torch.tensor([1, 2])))
    assert marked_line(__file__, "gather") in str(refused.value)
