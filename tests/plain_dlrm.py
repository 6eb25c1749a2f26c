"""A plain PyTorch DLRM in the layout of facebookresearch/dlrm, its logits by hand, and batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TABLES = [7, 5, 3]
ROWS = 40


def _tower(sizes: Sequence[int], last: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for below, above in pairwise(sizes):
        layers += [nn.Linear(below, above), nn.ReLU()]
    return nn.Sequential(*layers[:-1], last)


class PlainDLRM(nn.Module):
    """The sizes are those of a state dict in the layout."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        sizes: dict[str, list[int]] = {"bot_l": [], "top_l": []}
        for name, tensor in state.items():
            if name.startswith("emb_l") or not name.endswith("weight"):
                continue
            tower = sizes[name.split(".")[0]]
            tower += [*tensor.shape[::-1]] if not tower else [tensor.shape[0]]
        tables = [tensor.shape for name, tensor in state.items() if name.startswith("emb_l")]
        self.emb_l = nn.ModuleList(nn.EmbeddingBag(*shape, mode="sum") for shape in tables)
        self.bot_l = _tower(sizes["bot_l"], nn.ReLU())
        self.top_l = _tower(sizes["top_l"], nn.Sigmoid())
        if any(tensor.dtype == torch.float64 for tensor in state.values()):
            self.double()
        self.load_state_dict(state, strict=True)

    def forward(self, dense: Tensor, offsets: list[Tensor], ids: list[Tensor]) -> Tensor:
        below = self.bot_l(dense)
        bags = [e(i, o) for e, i, o in zip(self.emb_l, ids, offsets, strict=True)]
        vectors = torch.stack([below, *bags], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        rows, columns = torch.tril_indices(vectors.shape[1], vectors.shape[1], -1)
        return self.top_l(torch.cat([below, products[:, rows, columns]], 1))


def by_hand(state: dict[str, Tensor], batch: dict[str, Any]) -> np.ndarray:
    """The logits (B,) in float64, row by row: pairs (1, 0), (2, 0), (2, 1), (3, 0), …"""
    weights = {name: tensor.double().numpy() for name, tensor in state.items()}

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    depth = {t: sum(n.startswith(t) for n in weights) // 2 for t in ("bot_l", "top_l")}
    logits = []
    for row, dense in enumerate(batch["X_test"].double().numpy()):
        x = dense
        for n in range(depth["bot_l"]):
            x = np.maximum(layer(f"bot_l.{2 * n}", x), 0)
        vectors = [x]
        for table, (starts, ids) in enumerate(
            zip(batch["lS_o_test"], batch["lS_i_test"], strict=True)
        ):
            ends = [*starts.tolist(), len(ids)]
            bag = ids[ends[row] : ends[row + 1]].tolist()
            each = [weights[f"emb_l.{table}.weight"][i] for i in bag]
            vectors.append(sum(each, np.zeros_like(x)))
        pairs = [vectors[i] @ vectors[j] for i in range(len(vectors)) for j in range(i)]
        x = np.array([*x, *pairs])
        for n in range(depth["top_l"] - 1):
            x = np.maximum(layer(f"top_l.{2 * n}", x), 0)
        logits.append(layer(f"top_l.{2 * depth['top_l'] - 2}", x)[0])
    return np.array(logits)


def state_dict(seed: int = 0) -> dict[str, Tensor]:
    """Three tables of width 4, bottom 3-6-4, top 10-8-5-1, with dead and constant neurons."""
    torch.manual_seed(seed)
    state = {f"emb_l.{n}.weight": torch.randn(size, 4) for n, size in enumerate(TABLES)}
    for tower, sizes in {"bot_l": [3, 6, 4], "top_l": [10, 8, 5, 1]}.items():
        for n, (below, above) in enumerate(pairwise(sizes)):
            state[f"{tower}.{2 * n}.weight"] = torch.randn(above, below) / below**0.5
            state[f"{tower}.{2 * n}.bias"] = torch.randn(above) / 2
    for layer, (unit, value) in PLANTED.items():
        state[f"{layer}.weight"][unit] = 0
        state[f"{layer}.bias"][unit] = value
    return state


PLANTED = {"bot_l.0": (1, -0.5), "bot_l.2": (2, 0.75), "top_l.0": (4, 0.25), "top_l.2": (3, -1.0)}
"""By layer, a neuron that is always at ReLU of this value."""


def batch(bags: bool = False, rows: int = ROWS, seed: int = 1) -> dict[str, Any]:
    """Rows of one id a table, or bags of none to three; T_test numbers the rows."""
    torch.manual_seed(seed)
    lengths = [torch.randint(0 if bags else 1, 4 if bags else 2, (rows,)) for _ in TABLES]
    ids = [torch.randint(size, (int(n.sum()),)) for n, size in zip(lengths, TABLES, strict=True)]
    return {
        "X_test": torch.rand(rows, 3) * 3,
        "lS_o_test": torch.stack([n.cumsum(0) - n for n in lengths]),
        "lS_i_test": ids if bags else torch.stack(ids),
        "T_test": torch.arange(rows).float().unsqueeze(1),
    }


def write(folder: Path, state: dict[str, Tensor], rows: Any) -> tuple[Path, Path]:
    """The checkpoint as that project's loop writes it, and the batches."""
    checkpoint, batches = folder / "model.pt", folder / "batches.pt"
    torch.save({"epoch": 0, "train_loss": np.float64(0.5), "state_dict": state}, checkpoint)
    torch.save(rows, batches)
    return checkpoint, batches
