"""The joint embedding table: one row an id, one lookup for all fields, and what of it is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.data.schema import Schema

TABLE = "table.weight"
"""The name of the joint table among the weights of a model."""

NARROWED_ROWS = 1 << 16
"""Rows that are copied at once into a narrower table."""


_folder: list[Path] = []
"""Where the tables that are made are mapped files, see `mapped_tables`."""


@contextmanager
def mapped_tables(folder: Path | None) -> Iterator[None]:
    """Let joint tables that are made inside be files in `folder`, which are deleted with them.

    So they take no memory that is not free for others. None: in memory, as elsewhere.
    """
    if folder is None:
        yield
        return
    _folder.append(folder)
    try:
        yield
    finally:
        _folder.pop()


def _new_weight(rows: int, width: int) -> Tensor:
    return map_table(_folder[-1], rows, width) if _folder else torch.empty(rows, width)


def map_table(folder: Path, rows: int, width: int) -> Tensor:
    """A table (rows, width) of zeros in a file without a name."""
    if not rows * width:
        return torch.zeros(rows, width)
    with NamedTemporaryFile(dir=folder) as file:
        return torch.from_file(file.name, shared=True, size=rows * width).view(rows, width)


class JointTable(nn.Embedding):
    """The vectors of all ids of all fields, E numbers each.

    The weight may be in float32 where the vectors, and the rest of a model, are in float64; see
    `prune.precision.to_float64`.

    Numbers that are no longer read need not be stored. A field that is not read at all has no rows.
    Those of other fields pack their columns to the left, and the table is as wide as the widest
    field needs. A lookup still returns E numbers: those that are not stored are zero.

    Args:
        data: the columns of the batches that come in.
        reads: the columns of them that are looked up here, in their own order.
        width: E.
    """

    read: Tensor
    """(F, E) bool: which numbers of each field are stored"""
    weight: Any
    sharded: Any = None
    _columns: Tensor
    _shift: Tensor
    _owner: Tensor
    _packed: Tensor
    _positions: Tensor
    _like: Tensor

    def __init__(self, data: Schema, reads: Schema, width: int) -> None:
        super().__init__(reads.num_ids, width, device="meta")
        self.weight = nn.Parameter(_new_weight(reads.num_ids, width))
        self.reset_parameters()
        self._data, self._reads, self.width = data, reads, width
        self.register_buffer("read", torch.ones(len(reads.fields), width, dtype=torch.bool))
        # Not weights: they follow from the two schemas and `read`, so no checkpoint holds them.
        for name in ("_columns", "_shift", "_owner", "_packed", "_positions"):
            self.register_buffer(name, torch.empty(0, dtype=torch.long), persistent=False)
        self.register_buffer("_like", torch.empty(0), persistent=False)
        self._index()
        self.register_load_state_dict_pre_hook(_take_size)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the vectors."""
        return self._like.dtype

    def forward(self, input: Tensor) -> Tensor:
        """The stored rows at `input`."""
        found = super().forward(input) if self.sharded is None else self.sharded(input)
        return self._in_precision(found)

    def shard(self, sharded: Any) -> None:
        """Look rows up in a `ShardedTable` until `unshard`; there is no weight meanwhile."""
        self.sharded = sharded
        self.register_parameter("weight", None)

    def unshard(self, weight: Tensor) -> None:
        """Look rows up in this weight again."""
        self.sharded, self.weight = None, nn.Parameter(weight)

    @property
    def numbers(self) -> int:
        """How many numbers are stored, in all processes."""
        return self.num_embeddings * self.embedding_dim

    def fields(self, ids: Tensor) -> Tensor:
        """(B, F, E): the vectors of the fields of a batch with these `ids` (B, columns)."""
        own = ids if self._same_columns else ids.index_select(1, self._columns)
        rows = own if self._same_columns else own - self._shift
        single = len(self._owner) == len(self._stored.fields)
        return self._expand(self(rows) if single else self._pooled(rows, own >= 0))

    def history(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors (B, T, E) of the items `ids` (B, T), and 1 where there are any (B, T)."""
        real, item = ids > 0, self._reads.item
        steps = real.to(self.dtype)
        if not ids.shape[1] or item not in self._shifts:
            return steps.new_zeros(*steps.shape, self.width), steps
        vectors = self((ids - self._shifts[item]).where(real, 0)).where(real.unsqueeze(2), 0)
        if self._whole:
            return vectors, steps
        return _select_or_zero(vectors, self._packed[self._reads.field_index(item)]), steps

    def unseen(self) -> Tensor:
        """(1, F, E): the vectors of each field's unseen id; ValueError if the data has none."""
        if not self._data.unseen:
            raise ValueError("this data has no unseen ids; take explain.baseline=mean or zero")
        return self._expand(self(self._longs([*self._stored.offsets]).unsqueeze(0)))

    def vectors(self, field: str) -> Tensor:
        """(size, E): the vectors of a field, unseen first; ValueError without such a field."""
        return self._in_precision(self.stored(field))

    def stored(self, field: str) -> Tensor:
        """As `vectors`, in the precision of the weight."""
        index = self._reads.field_index(field)
        if field not in self._shifts:
            return self.weight.new_zeros(self._reads.fields[index].size, self.width)
        start, stop = self._rows_of(field)
        own = self.weight[start:stop]
        return own if self._whole else _select_or_zero(own, self._packed[index])

    @torch.no_grad()
    def average_unseen(self, seen: Tensor) -> None:
        """Give the unseen id of each field the mean vector of the ids that training rows hold.

        Otherwise it keeps its random first vector, and a model that has learnt to rank most items
        low ranks the unseen ones above them; `experiments/unseen_ids` compares alternatives. An
        unseen id that training rows do hold, for rare values, stays as it is. Without any id in
        training rows the vector is zero. `seen` (rows of the data,) bool is whether training rows
        hold each id.
        """
        if not self._data.unseen:
            return
        parts = []
        for name, shift in self._shifts.items():
            start, stop = self._rows_of(name)
            held = seen[start + shift : stop + shift]
            if not held[0]:
                parts.append((start, held))
        if self.sharded is not None:
            self.sharded.average(parts)
            return
        for start, held in parts:
            total = held.to(self.weight) @ self.weight[start : start + len(held)]
            self.weight[start] = total / held.to(self.weight).sum().clamp_min(1)

    @property
    def lookups(self) -> int:
        """The number of rows that are looked up for a row of the data."""
        steps = self._reads.history_length if self._reads.item in self._shifts else 0
        return len(self._columns) + steps

    @torch.no_grad()
    def narrow(self, read: Tensor) -> None:
        """Store no more than `read` (F, E); the weight is another parameter then."""
        read = read.to(self.read) & self.read
        if torch.equal(read, self.read):
            return
        weight, start = self.weight.new_zeros(self._size(read)), 0
        for index, name in enumerate(self._reads.field_names):
            if read[index].any():
                columns = self._packed[index, read[index]]
                for rows in self.weight[slice(*self._rows_of(name))].split(NARROWED_ROWS):
                    part = weight[start : start + len(rows), : len(columns)]
                    start += len(part.copy_(rows[:, columns]))
        self._store(read, weight)

    def places(self, names: Sequence[str], columns: range) -> tuple[Tensor, int]:
        """Where the numbers (F, W) of fields side by side are in their stored vectors, of which the
        columns to the left are left out, and how many numbers these have.
        """
        index = [self._reads.field_index(name) for name in names]
        read, packed = self.read[index], self._packed[index, columns.start :]
        left = int(read[:, : columns.start].sum(1).max())
        width, rank = self.embedding_dim - left, read.any(1).cumsum(0)
        return (rank - 1).unsqueeze(1) * width + packed - left, width * int(rank[-1])

    def fold(self) -> None:
        """Look up what is stored (B, stored fields, stored width), and no zeros beside it."""
        self._whole = True

    def _in_precision(self, stored: Tensor) -> Tensor:
        return stored if stored.dtype == self.dtype else stored.to(self.dtype)

    def _expand(self, stored: Tensor) -> Tensor:
        if self._whole:
            return stored
        return _select_or_zero(stored.flatten(1), self._positions).unflatten(1, self.read.shape)

    def _pooled(self, rows: Tensor, present: Tensor) -> Tensor:
        """The mean or the sum of each field's values; `present` (B, C) is false for absent ones."""
        vectors = self(rows.where(present, 0)).where(present.unsqueeze(2), 0)
        shape = (rows.shape[0], len(self._stored.fields))
        sums = vectors.new_zeros(*shape, vectors.shape[2]).index_add(1, self._owner, vectors)
        if self._data.summed:
            return sums
        counts = vectors.new_zeros(shape).index_add_(1, self._owner, present.to(vectors.dtype))
        return sums / counts.unsqueeze(2)

    def _rows_of(self, field: str) -> tuple[int, int]:
        index = self._stored.field_index(field)
        start = self._stored.offsets[index]
        return start, start + self._stored.fields[index].size

    def _size(self, read: Tensor) -> tuple[int, int]:
        stored = zip(self._reads.fields, read.any(1).tolist(), strict=True)
        widest = int(read.sum(1).max()) if len(read) else self.width
        return sum(field.size for field, some in stored if some), widest

    def _store(self, read: Tensor, weight: Tensor) -> None:
        self.read = read
        self.weight = nn.Parameter(weight, requires_grad=self.weight.requires_grad)
        self.num_embeddings, self.embedding_dim = weight.shape
        self._index()

    def _index(self) -> None:
        """Derive the lookups from `read`.

        `_columns` of the ids, less `_shift`, are rows of this table; `_owner` is their field.
        `_packed` (F, E) is the column of each number in its stored row, and `_positions` (F·E,) its
        place in all stored vectors of a row of the data; one behind the last stands for zero.
        """
        data, some = self._data, self.read.any(1)
        names = [n for n, any_ in zip(self._reads.field_names, some.tolist(), strict=True) if any_]
        stored = self._stored = self._reads.select(fields=names)
        offsets = [data.offsets[data.field_index(name)] for name in names]
        starts = zip(names, offsets, stored.offsets, strict=True)
        self._shifts = {name: offset - start for name, offset, start in starts}
        shifts = [*self._shifts.values()]
        owner = [index for index, field in enumerate(stored.fields) for _ in range(field.values)]
        columns = [column for name in names for column in data.id_columns(name)]
        every = [*range(sum(field.values for field in data.fields))]
        self._same_columns = columns == every and not any(shifts)
        self._columns, self._owner = self._longs(columns), self._longs(owner)
        self._shift = self._longs([shifts[index] for index in owner])
        self._whole = bool(self.read.all())
        width, ranks = self.embedding_dim, self.read.cumsum(1) - 1
        self._packed = ranks.where(self.read, width)
        first = (some.cumsum(0) - 1).unsqueeze(1) * width
        self._positions = (first + ranks).where(self.read, int(some.sum()) * width).flatten()

    def _longs(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.read.device)


def _select_or_zero(values: Tensor, positions: Tensor) -> Tensor:
    """(..., P): the values (..., W) at these positions (P,), of which W means zero."""
    return F.pad(values, (0, 1)).index_select(-1, positions)


def _take_size(table: JointTable, state: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
    """Before loading: take the size of the table in `state`, or report why it cannot be."""
    errors: list[str] = rest[-1]
    read, weight = state.get(f"{prefix}read"), state.get(f"{prefix}weight")
    if read is None or weight is None:
        return  # loading reports it
    if read.shape != table.read.shape:
        there, here = (" fields of ".join(map(str, each.shape)) for each in (read, table.read))
        errors.append(f"{prefix[:-1]} is of {there} numbers there, of {here} here")
    elif weight.shape != table._size(read):
        errors.append(
            f"{prefix[:-1]} is {tuple(weight.shape)} there, and for this data it would be "
            f"{table._size(read)}"
        )
    elif weight.shape != table.weight.shape or not torch.equal(read.to(table.read), table.read):
        table._store(read.to(table.read), table.weight.new_empty(weight.shape))


def refuse_missing_numbers(model: Any, _keys: object) -> None:
    """After loading a recommender: all numbers that `score` reads must be stored, not zeros."""
    lacks = (model.dimensions() & ~model.table.read).any(1).tolist()
    if any(lacks):
        name = model.schema.field_names[lacks.index(True)]
        raise RuntimeError(f"the table does not store all numbers of {name} that are read")
