"""A small model with four dead neurons, its batches, and loaders with errors in their third batch.

The tests copy this file into the working directory of a command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

number = 3


class ClickModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(30, 4), nn.Embedding(20, 3)
        self.tower = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 1))

    def forward(self, user: Tensor, item: Tensor, price: Tensor) -> Tensor:
        vectors = [self.user(user), self.item(item), price.unsqueeze(1)]
        return torch.sigmoid(self.tower(torch.cat(vectors, 1))).squeeze(1)


def build(scale: float = 1.0) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = ClickModel()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        model.tower[0].bias[:4] = -1000
    return model


def batches() -> list[tuple[dict[str, Tensor], Tensor]]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(4):
        inputs = {
            "user": torch.randint(30, (100,), generator=generator),
            "item": torch.randint(20, (100,), generator=generator),
            "price": torch.rand(100, generator=generator),
        }
        found.append((inputs, torch.randint(2, (100,), generator=generator)))
    return found


def unlabelled() -> list[dict[str, Tensor]]:
    return [inputs for inputs, _ in batches()]


def raises() -> nn.Module:
    raise KeyError("nothing")  # line: raises


def no_module() -> int:
    return 5


def empty() -> list[Any]:
    return []


def _changed(change: Callable[[dict[str, Tensor], Tensor], Any]) -> Iterator[Any]:
    for place, (inputs, labels) in enumerate(batches()):
        yield change(inputs, labels) if place == 2 else (inputs, labels)


def other_shape() -> Iterator[Any]:
    return _changed(lambda x, y: ({**x, "price": torch.rand(100, 2)}, y))


def other_names() -> Iterator[Any]:
    return _changed(lambda x, y: ({"user": x["user"], "item": x["item"]}, y))


def missing_number() -> Iterator[Any]:
    return _changed(
        lambda x, y: ({**x, "price": x["price"].index_fill(0, torch.tensor(7), torch.nan)}, y)
    )


def id_outside() -> Iterator[Any]:
    return _changed(lambda x, y: ({**x, "item": x["item"].index_fill(0, torch.tensor(7), 25)}, y))


def wrong_label() -> Iterator[Any]:
    return _changed(lambda x, y: (x, y * 3))


def few_labels() -> Iterator[Any]:
    return _changed(lambda x, y: (x, y[:3]))


def no_pair() -> Iterator[Any]:
    return _changed(lambda x, y: x)


def stops() -> Iterator[Any]:
    def fail(inputs: Any, labels: Any) -> Any:
        raise OSError("the disk is gone")  # line: stops

    return _changed(fail)


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.EmbeddingBag(9, 4, mode="sum") for _ in range(2)])
        self.out = nn.Linear(11, 1)

    def forward(self, dense: Tensor, offsets: list[Tensor], ids: list[Tensor]) -> Tensor:
        found = [t(i, o) for t, i, o in zip(self.tables, ids, offsets, strict=True)]
        return self.out(torch.cat([dense, *found], 1))
