"""The dot interaction of DLRM (Naumov et al., 2019, arXiv:1906.00091): pairs of vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glassrec.models.layers import PrunableLayer


class DotInteraction(PrunableLayer):
    """A dense vector, passed on, and the dot products of all pairs of vectors: [dense ; pairs].

    The vectors are the dense one and F fields, stacked dense first; the pairs are the strict lower
    triangle, row by row (row i, column j < i). With 27 vectors of 16 numbers these are
    16 + 351 = 367 units.

    Multiplied are all vectors that a pair is left of. To gather the vectors of each pair instead is
    faster below some 20 of 351 pairs, and up to 30 times as slow above.
    """

    columns: Tensor
    constants: Tensor
    _vectors: Tensor
    _places: Tensor

    def __init__(self, names: Sequence[str], width: int) -> None:
        super().__init__(width + len(names) * (len(names) - 1) // 2)
        self.names = tuple(names)
        self.width = width
        # The columns of the dense vector that still arrive, and what the others always held.
        self.register_buffer("columns", torch.arange(width))
        self.register_buffer("constants", torch.zeros(width))
        # Which vectors are multiplied, and where in [dense ; products] each unit is.
        self.register_buffer("_vectors", torch.empty(0, dtype=torch.long), persistent=False)
        self.register_buffer("_places", torch.empty(0, dtype=torch.long), persistent=False)
        self._find()
        self.register_load_state_dict_post_hook(_find_anew)

    def forward(self, dense: Tensor, fields: Tensor) -> Tensor:
        """(B, U) from a dense vector (B, columns) and fields (B, F, width)."""
        if len(self.columns) < self.width:
            constants = self.constants.to(dense.dtype).expand(dense.shape[0], -1)
            dense = constants.index_copy(1, self.columns, dense)
        vectors = torch.cat([dense.unsqueeze(1), fields], 1)
        if len(self._vectors) < len(self.names):
            vectors = vectors.index_select(1, self._vectors)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
        return torch.cat([dense, products], 1).index_select(1, self._places)

    @property
    def multiplied(self) -> Tensor:
        """(1 + F,) bool: of which vectors a pair is left, the dense one first."""
        none = torch.zeros(len(self.names), dtype=torch.bool, device=self.units.device)
        return none.index_fill(0, self._vectors, True)

    def neuron_names(self, layer: str) -> list[str]:
        """`dense[3]`, and the two vectors of each pair, the one stacked first named first."""
        passed = self.units[self.units < self.width]
        return [
            *(f"{self.names[0]}[{column}]" for column in passed.tolist()),
            *(f"{self.names[j]}×{self.names[i]}" for i, j in self._pairs().T.tolist()),
        ]

    def _pairs(self) -> Tensor:
        """(2, pairs left): the row and the column of each."""
        count = len(self.names)
        pairs = torch.tril_indices(count, count, -1, device=self.units.device)
        return pairs[:, self.units[self.units >= self.width] - self.width]

    def _find(self) -> None:
        """What is computed follows from `units`, which are in order."""
        pairs = self._pairs()
        self._vectors = pairs.unique()
        rows, columns = torch.searchsorted(self._vectors, pairs)
        behind = self.width + rows * len(self._vectors) + columns
        self._places = torch.cat([self.units[self.units < self.width], behind])

    def _keep(self, kept: Tensor) -> None:
        self._find()

    def folds(self, constants: Tensor) -> Tensor:
        """Every constant: it goes on being multiplied, though nothing makes it any more."""
        return torch.ones_like(constants, dtype=torch.bool)

    def weights(self, part: int) -> list[Tensor]:
        """None: it multiplies."""
        return []

    def reads(self, part: int) -> Tensor:
        """(columns,): all that arrive if a pair of the dense vector is left, or those passed on."""
        return torch.isin(self.columns, self.units) | self.multiplied[0]

    @torch.no_grad()
    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` columns of the dense vector; hold the constants of the others."""
        assert part == 0, "only the dense vector can be narrowed"
        held = self.constants.index_copy(0, self.columns, constants.to(self.constants))
        self.columns = self.columns[kept].clone()
        self.constants = held.index_fill(0, self.columns, 0)


def _find_anew(layer: DotInteraction, _: object) -> None:
    layer._find()
