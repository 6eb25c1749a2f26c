"""Random modules of blocks whose neurons can be cut, or cannot, with planted constants."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ROWS, STEPS, WIDTH = 12, 5, 4
ACTIVATIONS: list[Callable[[Tensor], Tensor]] = [
    torch.relu, torch.tanh, torch.sigmoid, nn.functional.gelu, nn.functional.leaky_relu,
]  # fmt: skip


class RandomModule(nn.Module):
    """Two towers on ids, a history and numbers: a random program of blocks.

    Attributes:
        planted: by name of the layer, the neurons that are constant whatever the input.
        blocked: names of layers that must keep all neurons.
        either: those that may keep theirs.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.random = seed, random.Random(seed)
        self.planted: dict[str, set[int]] = {}
        self.blocked: set[str] = set()
        self.either: set[str] = set()
        self.users, self.items = nn.Embedding(9, WIDTH), nn.Embedding(7, WIDTH)
        if self.random.random() < 0.3:
            self.items = nn.Embedding(9, WIDTH)
            self.items.weight = self.users.weight
        self.past = nn.Embedding(7, WIDTH)
        self.parts = nn.ModuleList()
        self.program: list[tuple[Callable[..., Tensor], list[int]]] = []
        widths, sources = [WIDTH, WIDTH, 3], [set[str]() for _ in range(3)]
        blocks = [self.tower, self.product, self.gmf, self.texts, self.recurrent, self.positions,
                  self.residual, self.low_rank, self.joint_norm, self.tied]  # fmt: skip
        for _ in range(self.random.randint(3, 6)):
            block = self.random.choice(blocks)
            read = self.random.sample(range(len(widths)), self.random.randint(1, 2))
            run, width, source = block(sum(widths[n] for n in read), [sources[n] for n in read])
            self.program.append((run, read))
            widths.append(width)
            sources.append(source)
        self.order = self.random.sample(range(len(widths)), len(widths))
        self.out = nn.Linear(sum(widths), 1)
        self.double().eval()

    def forward(self, user: Tensor, item: Tensor, past: Tensor, numbers: Tensor) -> Tensor:
        values, inputs = [self.users(user), self.items(item), numbers], (user, item, past)
        for run, read in self.program:
            values.append(run(self, torch.cat([values[n] for n in read], 1), *inputs))
        return self.out(torch.cat([values[n] for n in self.order], 1))

    at = nn.Module.get_submodule

    @staticmethod
    def example() -> Any:
        ids = [torch.randint(n, (ROWS, *shape)) for n, shape in ((9, ()), (7, ()), (7, (STEPS,)))]
        return (*ids, torch.randn(ROWS, 3).double())

    # A block adds its layers and gives a function of this module (or a copy), its input and the
    # ids, the width of its output, and the names of the layers whose neurons are in that.

    def add(self, part: Any) -> str:
        self.parts.append(part)
        return f"parts.{len(self.parts) - 1}"

    def weights(self, name: str) -> str:
        """Plant constants: one below zero, one above."""
        part: Any = self.get_submodule(name)
        with torch.no_grad():
            for unit, value in ((0, -3), (2, 1.7)):
                part.weight[unit] = 0
                part.bias[unit] = value
        self.planted[name] = {0, 2}
        return name

    def linear(self, width: int, size: int) -> str:
        return self.weights(self.add(nn.Linear(width, size)))

    def norm(self, size: int) -> str:
        part = nn.BatchNorm1d(size)
        for each in (part.weight, part.bias, part.running_mean):
            nn.init.normal_(each)  # type: ignore[arg-type]
        nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]
        return self.add(part)

    def tower(self, width: int, read: Any) -> Any:
        first, norm, second = self.linear(width, 6), self.norm(6), self.linear(6, 5)
        act, wide = self.random.choice(ACTIVATIONS), self.random.random() < 0.5

        def run(m: Any, x: Tensor, *ids: Tensor) -> Tensor:
            hidden = act(m.at(second)(act(m.at(norm)(m.at(first)(x)))))
            return torch.cat([hidden, x], 1) if wide else hidden

        return run, 5 + wide * width, {second, *(union(read) if wide else ())}

    def product(self, width: int, read: Any) -> Any:
        left, right = self.linear(width, 5), self.linear(width, 5)
        self.planted[name := f"{left}+{right}"] = self.planted.pop(left)
        del self.planted[right]
        act = self.random.choice(ACTIVATIONS)
        return (
            lambda m, x, *_: act(m.at(left)(x)) * torch.sigmoid(m.at(right)(x)),
            5,
            {name},
        )

    def gmf(self, width: int, read: Any) -> Any:
        tables = [nn.Embedding(9, WIDTH), nn.Embedding(7, WIDTH)]
        with torch.no_grad():
            tables[0].weight[:, 1] = 0
            tables[0].weight[:, 2] = tables[1].weight[:, 2] = 0.7
        one, two = map(self.add, tables)
        self.planted[name := f"{one}+{two}"] = {1, 2}
        return lambda m, x, user, item, _: m.at(one)(user) * m.at(two)(item), WIDTH, {name}

    def texts(self, width: int, read: Any) -> Any:
        padding, act = self.random.choice([0, 1]), self.random.choice(ACTIVATIONS)
        one = self.weights(self.add(nn.Conv1d(WIDTH, 6, 2)))
        two = self.weights(self.add(nn.Conv1d(6, 5, 2, padding=padding)))
        if padding:  # only a zero is the same at the border
            self.planted[one] = {0} if act is torch.relu else set()
        norm = self.norm(6) if not padding else self.add(nn.Identity())
        pool = self.add(self.random.choice([nn.MaxPool1d(2), nn.AvgPool1d(2)]))

        def run(m: Any, x: Tensor, *ids: Tensor) -> Tensor:
            hidden = act(m.at(norm)(m.at(one)(m.past(ids[2]).transpose(1, 2))))
            return act(m.at(two)(m.at(pool)(hidden))).flatten(1)

        return run, 5 * ((STEPS - 1) // 2 - 1 + 2 * padding), {two}

    def recurrent(self, width: int, read: Any) -> Any:
        kind: Any = self.random.choice([nn.GRU, nn.LSTM, nn.RNN])
        part = kind(WIDTH, 6, batch_first=True)
        with torch.no_grad():
            for each in part.parameters():
                each[1 if kind is nn.RNN else 12 + 1] = 0  # what the new state is made of
        name, last = self.add(part), self.random.random() < 0.5
        self.planted[name] = {1}

        def run(m: Any, x: Tensor, *ids: Tensor) -> Tensor:
            states, end = m.at(name)(m.past(ids[2]))
            return (end[0] if kind is nn.LSTM else end)[-1] if last else states.mean(1)

        return run, 6, {name}

    def positions(self, width: int, read: Any) -> Any:
        first, second = self.linear(WIDTH, 5), self.linear(5, 4)
        act, pools = self.random.choice(ACTIVATIONS), self.random.random() < 0.5

        def run(m: Any, x: Tensor, *ids: Tensor) -> Tensor:
            hidden = act(m.at(second)(act(m.at(first)(m.past(ids[2])))))
            return hidden.sum(1) if pools else hidden.flatten(1)

        return run, 4 if pools else 4 * STEPS, {second}

    def residual(self, width: int, read: Any) -> Any:
        first, second = self.linear(width, 4), self.linear(4, 4)
        self.blocked |= {first, second}

        def run(m: Any, x: Tensor, *ids: Tensor) -> Tensor:
            hidden = torch.relu(m.at(first)(x))
            return hidden + torch.relu(m.at(second)(hidden))

        return run, 4, set()

    def low_rank(self, width: int, read: Any) -> Any:
        down, up = self.linear(width, 4), self.linear(4, width)
        self.blocked |= {up, *union(read)}
        return lambda m, x, *_: x * m.at(up)(m.at(down)(x)) + x, width, set()

    def joint_norm(self, width: int, read: Any) -> Any:
        first, act = self.linear(width, 4), self.random.choice(ACTIVATIONS)
        picks = self.random.choice([slice(0), slice(0), slice(1, None), slice(-3, None), slice(3)])
        more = len(range(width)[picks])
        norm = self.norm(4 + width + more)
        self.either |= union(read) if more else set()  # they may lie outside of a slice

        def run(m: Any, x: Tensor, *ids: Tensor) -> Tensor:
            parts = [act(m.at(first)(x)), x, *([x[:, picks]] if more else [])]
            return act(m.at(norm)(torch.cat(parts, 1)))

        return run, 4 + width + more, {first, *union(read)}

    def tied(self, width: int, read: Any) -> Any:
        name = self.linear(width, width)
        self.blocked |= {name, *union(read)}
        return lambda m, x, *_: torch.relu(m.at(name)(torch.relu(m.at(name)(x)))), width, set()


def union(sources: list[set[str]]) -> set[str]:
    return set().union(*sources)
