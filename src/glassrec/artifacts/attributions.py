"""Attributions of any number of rows, and the facts of an explanation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from glassrec.artifacts.formats import Artifact, JsonRecord, damaged

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

_ABOUT = ("@row", "@label", "@logit", "@baseline_logit")
"""The first columns of an attribution file; a feature may have any name but these."""

_KEYS = ("@user", "@item", "@line")
"""The next ones: keys of the rows. A feature of such a name, of float32, takes the place of a key.
"""

_PIECE_ROWS, _PIECES_IN_GROUP = 4096, 4
"""Rows of an attribution file that are read at once, at most; pieces in a row group of the file."""


_TENSORS = ("values", "logits", "baseline_logits", "rows", "labels")


@dataclass(frozen=True)
class Attributions:
    """How much each of P features moved each of N logits away from the baseline's."""

    features: tuple[str, ...]
    values: Tensor
    """(N, P)"""
    logits: Tensor
    """(N,)"""
    baseline_logits: Tensor
    """(N,)"""
    rows: Tensor
    """(N,) the explained rows of the split"""
    labels: Tensor
    """(N,) the true values of the explained task"""

    @classmethod
    def join(cls, parts: Iterable[Attributions]) -> Self:
        """All rows of several parts with the same features."""
        import torch

        every = [*parts]
        tensors = (torch.cat([getattr(part, name) for part in every]) for name in _TENSORS)
        return cls(every[0].features, *tensors)

    def select(self, places: Tensor) -> Attributions:
        """Some of the rows, by their places."""
        return Attributions(self.features, *(getattr(self, name)[places] for name in _TENSORS))

    @property
    def delta(self) -> Tensor:
        """(N,): the completeness error: the sum of attributions minus the logit difference."""
        return self.values.sum(1) - (self.logits - self.baseline_logits)

    @property
    def relative_delta(self) -> float:
        """The mean size of `delta` over the mean size of the logit difference."""
        import torch

        scale = (self.logits - self.baseline_logits).abs().mean()
        return (self.delta.abs().mean() / scale.clamp_min(torch.finfo(scale.dtype).tiny)).item()

    def importance(self) -> pd.Series:
        """The mean of |attribution| by feature, largest first. Signs never cancel."""
        import pandas as pd

        mean = pd.Series(self.values.abs().mean(0).tolist(), index=list(self.features))
        return mean.sort_values(ascending=False, kind="stable")


@dataclass(frozen=True)
class AttributionFile(Artifact):
    """Attributions of any number of rows in parquet: a column for each feature, after `_ABOUT` and
    keys of the rows, as `@user`.

    It is written and read piece by piece, so that memory does not grow with the rows. Before it is
    saved, each piece has a file of its own.
    """

    files: tuple[Path, ...]

    @staticmethod
    def write_piece(
        path: Path, piece: Attributions, keys: Mapping[str, pa.Array] | None = None
    ) -> None:
        """Write the rows of one piece, as one row group; `keys` are columns (N,) beside them, but
        for one with the name of a feature.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        about = (piece.rows, piece.labels, piece.logits, piece.baseline_logits)
        keys = {name: key for name, key in (keys or {}).items() if name not in piece.features}
        arrays = [
            *(pa.array(column.numpy()) for column in about),
            *keys.values(),
            *(pa.array(column.numpy()) for column in piece.values.unbind(1)),
        ]
        table = pa.Table.from_arrays(arrays, [*_ABOUT, *keys, *piece.features])
        # No two parts are equal, so a dictionary of them would only take time.
        pq.write_table(table, path, row_group_size=max(1, len(piece.rows)), use_dictionary=False)

    def save(self, path: Path) -> None:
        """Write all pieces to one file, several as one row group: readers keep a note of each."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, pq.read_schema(self.files[0]), use_dictionary=False) as writer:
            batches = self._batches()
            while some := [*islice(batches, _PIECES_IN_GROUP)]:
                writer.write_table(
                    pa.Table.from_batches(some), row_group_size=_PIECES_IN_GROUP * _PIECE_ROWS
                )

    @classmethod
    def load(cls, path: Path) -> Self:
        """The file itself; ValueError if it is damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            pq.read_schema(path)
        except pa.ArrowInvalid as error:
            raise damaged(path, error) from None
        return cls((path,))

    @property
    def features(self) -> tuple[str, ...]:
        """The features, in the order of the columns."""
        import pyarrow.parquet as pq

        return tuple(pq.read_schema(self.files[0]).names[len(_ABOUT) + self._keys :])

    @property
    def _keys(self) -> int:
        """How many columns are keys of the rows; none in files of older versions."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        others = [*pq.read_schema(self.files[0])][len(_ABOUT) :]
        return sum(
            1
            for each in takewhile(
                lambda column: column.name in _KEYS and column.type != pa.float32(), others
            )
        )

    @property
    def rows(self) -> int:
        """The number of rows N."""
        import pyarrow.parquet as pq

        return sum(pq.read_metadata(file).num_rows for file in self.files)

    def pieces(self) -> Iterator[Attributions]:
        """All rows, some thousand at a time."""
        import torch

        features, start = self.features, len(_ABOUT) + self._keys
        for batch in self._batches():
            rows, labels, logits, baselines, *values = (
                torch.from_numpy(column.to_numpy().copy())
                for column in (*batch.columns[: len(_ABOUT)], *batch.columns[start:])
            )
            yield Attributions(features, torch.stack(values, 1), logits, baselines, rows, labels)

    def sample(self, count: int) -> Attributions:
        """At most `count` rows, evenly spaced."""
        import torch

        wanted = torch.linspace(0, self.rows - 1, min(count, self.rows)).round().long()
        parts, start = [], 0
        for piece in self.pieces():
            inside = wanted[(wanted >= start) & (wanted < start + len(piece.rows))]
            parts.append(piece.select(inside - start))
            start += len(piece.rows)
        return Attributions.join(parts)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for path in self.files:
            with pq.ParquetFile(path) as file:
                # `iter_batches` would keep the whole file, and threads memory of their own.
                for group in range(file.num_row_groups):
                    yield from file.read_row_group(group, use_threads=False).to_batches(_PIECE_ROWS)
        pa.default_memory_pool().release_unused()  # Arrow would keep it for the next file


@dataclass(frozen=True)
class Explanation(JsonRecord):
    """The subject and the method of an explanation, and how far its result can be trusted."""

    method: str
    neurons: str
    """the method of the neurons"""
    baseline: str
    selection: str
    """which rows: `2,000 of 6,000 val rows at random`"""
    task: str
    rows: int
    mean_logit: float
    mean_baseline_logit: float
    relative_delta: float
    """mean |Σ attributions − logit difference| over mean |logit difference|"""
    complete: bool
    """whether the method claims completeness: attributions add up to the logit difference"""
    agreement: float | None
    """the mean rank correlation, over rows, of the attributions of two seeds; None if nothing is
    drawn, or no row has attributions that can be ranked"""
    rank_stability: float
    """the mean rank correlation of the importance on disjoint random parts of the rows; NaN where
    they rank nothing"""
    trusted: bool = True
    """false where the method claims completeness and its error exceeds the tolerance"""
    constant: bool = False
    """whether the logit is the same on all explained rows and at the baseline, up to rounding"""
    unread: tuple[str, ...] = ()
    """the columns of the data that the model does not read"""

    @classmethod
    def fields_from(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The fields; a null is not a number, but for the agreement, which may be None."""
        unread, agreement = tuple(values.get("unread", ())), values["agreement"]
        return super().fields_from(values) | {"unread": unread, "agreement": agreement}
