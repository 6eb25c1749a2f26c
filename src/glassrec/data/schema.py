"""The columns of a dataset: names, types, and the ids of each field in the embedding table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import inf
from typing import Literal

from glassrec.spelling import one_of

UNSEEN = 0
"""The id, in every field, of a value that the training rows do not hold."""

ABSENT = -1
"""The entry of `Batch.ids` where a multi-valued field has fewer values in this row."""

TaskKind = Literal["click", "rating", "retrieval"]
"""click: 0 or 1, by the logit. rating: a number, which the logit estimates. retrieval: 1 where the
row's item is one to show to its user, out of all items."""

OUTPUTS: dict[TaskKind, str] = {
    "click": "probability", "rating": "estimate", "retrieval": "score"
}  # fmt: skip
"""The names of predictions. A probability is the sigmoid of the logit; an estimate is in the unit
of the ratings; a score only ranks the items of one user. The last two are the logit itself."""


@dataclass(frozen=True)
class Target:
    """A task: one column of `Batch.targets`, and one of the logits.

    `mean` and `deviation` are those of the ratings in the training rows, by which ratings are
    standardised for training; 0 and 1 for other kinds.
    """

    name: str
    kind: TaskKind = "click"
    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True)
class Field:
    """A categorical column. `size` counts its ids, the unseen id 0 included.

    A multi-valued field, such as genres, has `values` columns in `Batch.ids`; its vector is the
    mean of those that are not absent, of which there is at least one.
    """

    name: str
    size: int
    values: int = 1


@dataclass(frozen=True)
class Schema:
    """The columns of a `Batch`, in order.

    All fields share one embedding table. An entry of `Batch.ids` is a global id, a row of that
    table: field f owns the rows from `offsets[f]` to `offsets[f] + size - 1`.

    Examples:
        >>> schema = Schema(("age",), (Field("user", 3), Field("genres", 5, values=2)))
        >>> schema.offsets, schema.num_ids
        ((0, 3), 8)
        >>> schema.id_columns("genres")
        range(1, 3)
        >>> schema.select(fields=["genres"]).field_names
        ('genres',)

    Attributes:
        dense: the D columns of `Batch.dense`.
        fields: the categorical fields, in the order of `Batch.ids`.
        targets: the K tasks, in the order of `Batch.targets`.
        user: the field that identifies the user, where there is one.
        item: the field that identifies the item, where there is one.
        item_side: all fields that follow from the item, itself first.
        history_length: T; `Batch.history` holds the global ids of T earlier items of the user,
            newest last.
        ranges: the ends between which each dense column always lies, scaled; an end may be
            infinite, and without `ranges` all are.
        item_dense: the dense columns that follow from the item.
        unseen: whether id 0 of each field stands for unseen values. Where ids are those of another
            project, it is an id like any other.
        summed: whether the vector of several values of a field is their sum, not their mean.

    Raises:
        ValueError: two columns have the same name.
    """

    dense: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    targets: tuple[Target, ...] = (Target("label"),)
    user: str | None = None
    item: str | None = None
    item_side: tuple[str, ...] = ()
    history_length: int = 0
    ranges: tuple[tuple[float, float], ...] = ()
    item_dense: tuple[str, ...] = ()
    unseen: bool = True
    summed: bool = False

    def __post_init__(self) -> None:
        names = self.columns
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"column names must differ; twice in the schema: {', '.join(twice)}")
        assert len(self.ranges) in (0, len(self.dense)), "a range for each dense column, or none"

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns, the dense ones first."""
        return (*self.dense, *self.field_names)

    @property
    def field_names(self) -> tuple[str, ...]:
        """The names of the categorical fields, in the order of `Batch.ids`."""
        return tuple(field.name for field in self.fields)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The global id of each field's unseen value."""
        return tuple(accumulate((field.size for field in self.fields), initial=0))[:-1]

    @property
    def num_ids(self) -> int:
        """The number of global ids, the rows of the embedding table."""
        return sum(field.size for field in self.fields)

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """The range of each dense column, (-inf, inf) where nothing is declared."""
        return self.ranges or ((-inf, inf),) * len(self.dense)

    def field_index(self, name: str) -> int:
        """The position of field `name` in `fields`; ValueError if there is no such field."""
        if name not in self.field_names:
            raise ValueError(f"the data has no field {name!r}{one_of(name, self.field_names)}")
        return self.field_names.index(name)

    def unseen_id(self, name: str) -> int:
        """The global id of the unseen value of field `name`; ValueError if there is none."""
        return self.offsets[self.field_index(name)] + UNSEEN

    def id_columns(self, name: str) -> range:
        """The columns of field `name` in `Batch.ids`; ValueError if there is no such field."""
        index = self.field_index(name)
        start = sum(field.values for field in self.fields[:index])
        return range(start, start + self.fields[index].values)

    def metric(self, target: Target, name: str) -> str:
        """The name of a metric of a task: `task/name` where there are several tasks."""
        return f"{target.name}/{name}" if len(self.targets) > 1 else name

    def select(
        self, *, dense: Sequence[str] = (), fields: Sequence[str], history: bool = False
    ) -> Schema:
        """The schema of a model that reads only these columns, and the history if asked."""
        return replace(
            self,
            dense=tuple(dense),
            ranges=tuple(self.intervals[self.dense.index(name)] for name in dense),
            fields=tuple(self.fields[self.field_index(name)] for name in fields),
            item_side=tuple(name for name in self.item_side if name in fields),
            item_dense=tuple(name for name in self.item_dense if name in dense),
            history_length=self.history_length if history else 0,
        )
