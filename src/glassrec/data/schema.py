"""What the columns of a dataset are: names, kinds, and where each field lies in the joint table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

UNSEEN = 0
"""The id, in every field, of a value that the training rows do not hold."""


@dataclass(frozen=True)
class Field:
    """A categorical column. `size` counts its ids, the unseen id 0 included."""

    name: str
    size: int


@dataclass(frozen=True)
class Schema:
    """The columns of a `Batch`, in order.

    Fields share one joint embedding table: field f owns the rows from `offsets[f]` to
    `offsets[f] + size - 1`, and `Batch.ids` holds joint rows. `user` and `item` name the fields
    that identify who and what, where the data has them; `history` names the field whose ids an
    ordered history holds.
    """

    dense: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    targets: tuple[str, ...] = ("label",)
    user: str | None = None
    item: str | None = None
    history: str | None = None
    history_length: int = 0

    def __post_init__(self) -> None:
        names = [*self.dense, *self.field_names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"column names must differ; twice in the schema: {', '.join(twice)}")

    @property
    def field_names(self) -> tuple[str, ...]:
        """The names of the categorical fields, in the order of `Batch.ids`."""
        return tuple(field.name for field in self.fields)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The joint-table row of each field's unseen id."""
        return tuple(accumulate((field.size for field in self.fields[:-1]), initial=0))[
            : len(self.fields)
        ]

    @property
    def rows(self) -> int:
        """The number of rows of the joint table."""
        return sum(field.size for field in self.fields)

    def position(self, name: str) -> int:
        """The column of field `name` in `Batch.ids`; ValueError if there is none."""
        if name not in self.field_names:
            raise ValueError(f"no field {name!r}; the data has {', '.join(self.field_names)}")
        return self.field_names.index(name)

    def take(self, *, dense: Sequence[str] = (), fields: Sequence[str]) -> Schema:
        """The schema of a model that reads only these columns."""
        chosen = tuple(self.fields[self.position(name)] for name in fields)
        return Schema(
            tuple(dense), chosen, self.targets, self.user, self.item,
            self.history, self.history_length,
        )  # fmt: skip
