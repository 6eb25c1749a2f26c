"""Plain modules as people write them, each with an example of its inputs, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROWS = 16


def marked_line(file: str, mark: str) -> str:
    """`test_x.py:17` of the line of a test that ends with the comment `line: mark`."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    (number,) = [i for i, line in enumerate(lines, 1) if line.endswith(f"# line: {mark}")]
    return f"{Path(file).name}:{number}"


def _ids(size: int, *shape: int) -> Tensor:
    return torch.randint(size, (ROWS, *shape))


def _numbers(*shape: int) -> Tensor:
    return torch.randn(ROWS, *shape, dtype=torch.float64)


class TwoLookUps(nn.Module):
    """A vector and a weight for each id; the vectors are of different widths."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(9, 3), nn.Embedding(7, 5, padding_idx=0)
        self.user_weight, self.item_weight = nn.Embedding(9, 1), nn.Embedding(7, 1)
        self.tower = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh())
        self.out = nn.Linear(5, 1, bias=False)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        wide = self.user_weight(user) + self.item_weight(item)
        deep = self.tower(torch.cat([self.user(user), self.item(item)], 1))
        return torch.sigmoid(wide + self.out(deep)).squeeze(1)

    @staticmethod
    def example() -> Any:
        return _ids(9), _ids(7)


class DictInput(nn.Module):
    """A dict of inputs; lists of tags are averaged without their padding."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({"user": nn.Embedding(9, 4), "tags": nn.Embedding(11, 3)})
        self.hidden, self.out = nn.Linear(4 + 3 + 2, 6), nn.Linear(6, 1)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        mask = (features["tags"] != 0).unsqueeze(2).to(features["age"].dtype)
        tags = self.tables["tags"](features["tags"]) * mask
        pooled = tags.sum(1) / mask.sum(1).clamp(min=1)
        dense = torch.stack([features["age"], features["price"]], 1)
        user = self.tables["user"](features["user"])
        return self.out(nn.functional.gelu(self.hidden(torch.cat([user, pooled, dense], 1))))

    @staticmethod
    def example() -> Any:
        return {"user": _ids(9), "tags": _ids(11, 4), "age": _numbers(), "price": _numbers()}


class SharedTable(nn.Module):
    """One table for all columns, with an offset for each, as a factorisation machine has it."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.weights = nn.Embedding(20, 4), nn.Embedding(20, 1)
        self.register_buffer("offsets", torch.tensor([0, 7, 12]))
        self.deep = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        ids = x + self.offsets
        vectors = self.table(ids)
        pairs = vectors.sum(1) ** 2 - (vectors**2).sum(1)
        linear = self.weights(ids).sum((1, 2)) + 0.5 * pairs.sum(1)
        return torch.sigmoid(linear + self.out(self.deep(vectors.flatten(1))).squeeze(1))

    @staticmethod
    def example() -> Any:
        return torch.stack([_ids(7), _ids(5), _ids(8)], 1)


class Bags(nn.Module):
    """Facebook's DLRM: bags with offsets and weights, and dot products of all pairs of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.emb_l = nn.ModuleList(nn.EmbeddingBag(n, 4, mode="sum") for n in (9, 6))
        self.bot_l = nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 4), nn.ReLU())
        self.top_l = nn.Sequential(nn.Linear(4 + 3, 6), nn.ReLU(), nn.Linear(6, 1), nn.Sigmoid())

    def forward(self, dense: Tensor, offsets: Tensor, ids: list[Tensor], weights: list[Tensor]
                ) -> Tensor:  # fmt: skip
        x = self.bot_l(dense)
        vectors = [bag(ids[k], offsets[k], per_sample_weights=weights[k])
                   for k, bag in enumerate(self.emb_l)]  # fmt: skip
        all_vectors = torch.cat([x, *vectors], 1).view(dense.shape[0], -1, 4)
        products = torch.bmm(all_vectors, all_vectors.transpose(1, 2))
        i, j = torch.tensor([1, 2, 2]), torch.tensor([0, 0, 1])
        return self.top_l(torch.cat([x, products[:, i, j]], 1))

    @staticmethod
    def example() -> Any:
        counts = torch.randint(4, (2, ROWS))
        counts[:, 1] = torch.randint(3, 7, (2,))
        offsets = counts.cumsum(1) - counts
        ids = [torch.randint(n, (int(c.sum()),)) for n, c in zip((9, 6), counts, strict=True)]
        weights = [torch.rand(len(each), dtype=torch.float64) for each in ids]
        return _numbers(3), offsets, ids, weights


class CrossNetwork(nn.Module):
    """DCN-v2 in parallel with a deep tower with batch norm; float columns hold the ids, too."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, 3) for n in (5, 6))
        self.cross = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.linears = nn.ModuleList([nn.Linear(8, 7), nn.Linear(7, 6)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(7), nn.BatchNorm1d(6)])
        self.out = nn.Linear(8 + 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        vectors = [table(x[:, k].long()) for k, table in enumerate(self.tables)]
        start = crossed = torch.cat([*vectors, x[:, 2:]], 1)
        for layer in self.cross:
            crossed = start * layer(crossed) + crossed
        deep = start
        for linear, norm in zip(self.linears, self.norms, strict=True):
            deep = torch.relu(norm(linear(deep)))
        return self.out(torch.cat([crossed, deep], -1))

    @staticmethod
    def example() -> Any:
        return torch.cat([_ids(5, 1).double(), _ids(6, 1).double(), _numbers(2)], 1)


class NeuMF(nn.Module):
    """He et al., 2017: two look-ups of each id, a product, a tower, and both joined."""

    def __init__(self) -> None:
        super().__init__()
        self.users = nn.ModuleList([nn.Embedding(9, 4), nn.Embedding(9, 5)])
        self.items = nn.ModuleList([nn.Embedding(8, 4), nn.Embedding(8, 3)])
        self.mlp = nn.Sequential(
            nn.Linear(8, 7), nn.LeakyReLU(), nn.Dropout(0.1), nn.Linear(7, 5), nn.ReLU()
        )
        self.out = nn.Linear(4 + 5, 1)  # fmt: skip

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        (u, v), (i, j) = (
            (table(user) for table in self.users),
            (table(item) for table in self.items),
        )
        return self.out(torch.cat([u * i, self.mlp(torch.cat([v, j], -1))], -1)).view(-1)

    @staticmethod
    def example() -> Any:
        return {"user": _ids(9), "item": _ids(8)}


MODULES: Mapping[str, Callable[[], Any]] = {
    each.__name__: each for each in (TwoLookUps, DictInput, SharedTable, Bags, CrossNetwork, NeuMF)
}


def build(name: str) -> tuple[nn.Module, Any]:
    """The module in evaluation mode, with batch norms that do something, and its inputs."""
    torch.manual_seed(0)
    module = MODULES[name]().double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            for tensor in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(tensor, std=0.5)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]
    return module, module.example()


def resize(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The module with linear layers, batch norms and PReLUs of the sizes of a state dict."""
    for path, part in [*module.named_modules()]:
        weight = state.get(f"{path}.weight")
        if weight is None or weight.shape == part.weight.shape:
            continue
        if isinstance(part, nn.Linear):
            new: nn.Module = nn.Linear(*weight.T.shape, bias=f"{path}.bias" in state)
        elif isinstance(part, nn.BatchNorm1d):
            new = nn.BatchNorm1d(len(weight), eps=part.eps)
        elif isinstance(part, (nn.Conv1d, nn.Conv2d)):
            new = type(part)(
                weight.shape[1] * part.groups, len(weight), part.kernel_size, part.stride,
                part.padding, part.dilation, part.groups, f"{path}.bias" in state,
            )  # fmt: skip
        else:
            new = type(part)(len(weight))
        holder, _, name = path.rpartition(".")
        setattr(module.get_submodule(holder), name, new.to(weight.dtype))
    dtype = next(each.dtype for each in state.values() if each.is_floating_point())
    module.to(dtype).eval().load_state_dict(dict(state))
    return module
