"""The cross layers of DCN-v2 (Wang et al., WWW 2021): products of features, of bounded degree."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.models.layers import Affine, PrunableLayer


class Projection(PrunableLayer):
    """The components V x of a low-rank cross layer: (B, width) to (B, U), linear and without bias.

    A component that is always the same can go: what it adds to the layer is a bias.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__(size)
        self.weight = nn.Parameter(torch.empty(size, width))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, U)."""
        return F.linear(x, self.weight)

    def incoming_weights(self) -> list[Tensor]:
        """The rows of V, as columns (width, U)."""
        return [self.weight.T]

    def _keep(self, kept: Tensor) -> None:
        self.weight = nn.Parameter(self.weight[kept].detach().clone())


class Cross(nn.Module):
    """x₀ ⊙ (W x + b) + x, which raises the degree of a polynomial in x₀ by one.

    Args:
        width: of x₀ and x.
        projection: the rank of W = U V; W is a matrix of its own if None.
    """

    def __init__(self, width: int, projection: int | None) -> None:
        super().__init__()
        self.projection = None if projection is None else Projection(width, projection)
        self.affine = Affine([projection or width], width)
        if self.projection is not None:
            self.projection.register_consumer(self.affine)

    def forward(self, start: Tensor, x: Tensor) -> Tensor:
        """(B, width) from x₀ and x, both (B, width)."""
        return start * self.affine(x if self.projection is None else self.projection(x)) + x

    @property
    def kernel(self) -> Tensor:
        """W (width, width); entry (i, j) is the weight of x₀ᵢ · xⱼ in output i."""
        weight = self.affine.weight
        return weight if self.projection is None else weight @ self.projection.weight


class CrossNetwork(nn.ModuleList):
    """Cross layers one after the other; each multiplies with what entered the first."""

    def __init__(self, width: int, count: int, projection: int | None) -> None:
        super().__init__(Cross(width, projection) for _ in range(count))

    def forward(self, start: Tensor) -> Tensor:
        """(B, width) to (B, width)."""
        x = start
        for layer in self:
            x = layer(start, x)
        return x

    @torch.no_grad()
    def block_norms(self, sizes: list[int]) -> Tensor:
        """How strongly the first layer multiplies blocks of x₀, one block a feature: (P, P).

        A pair of features meets in two blocks of the kernel, W_ij and W_ji. Its norm is the
        Frobenius norm of both together, so the result is symmetric; on the diagonal is that of W_ii
        alone. The paper draws the norm of each W_ij for itself.

        Args:
            sizes: the widths of the P blocks.
        """
        squares = cast(Cross, self[0]).kernel.square()
        blocks = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        member = F.one_hot(blocks, len(sizes)).to(squares)  # (width, P)
        sums = member.T @ squares @ member
        both = sums + sums.T
        both.diagonal().div_(2)
        return both.sqrt()
