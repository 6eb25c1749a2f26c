"""Files without a form of their own: tables, numbers, text and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, Self

import pandas as pd

from glassrec.artifacts.base import Artifact, read_json, write_json
from glassrec.spreadsheet import write_csv


@dataclass(frozen=True)
class Table(Artifact):
    """A table; parquet, or CSV where the path says so.

    History: one row an epoch. Neuron scores: one row a unit, with the columns layer, position
    (in the layer as it is), unit (in the layer as it was built), name, and statistics of the
    unit's conductance over the explained rows: mean_abs, max_abs, mean, cancellation, zero_share.
    Pairs of features: first, second, the same statistics of their interaction, and weight_norm, the
    model's own view of the pair, where it has one.
    """

    frame: pd.DataFrame

    def save(self, path: Path) -> None:
        """Write the table without its index."""
        if _is_csv(path):
            write_csv(self.frame, path)
        else:
            self.frame.to_parquet(path, index=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the table."""
        return cls(pd.read_csv(path) if _is_csv(path) else pd.read_parquet(path))


@dataclass(frozen=True)
class Facts(Artifact):
    """Plain values under names, for who reads JSON."""

    values: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_json(path, self.values)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON."""
        return cls(read_json(path))


@dataclass(frozen=True)
class Metrics(Artifact):
    """Named numbers, flat: `test/auroc`, `pruned/test/auroc`, `parameters`."""

    values: dict[str, float]

    def save(self, path: Path) -> None:
        """Write JSON, sorted by name."""
        write_json(path, dict(sorted(self.values.items())))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON; null is not a number."""
        return read_json(
            path,
            lambda values: cls({name: nan if v is None else v for name, v in values.items()}),
        )


@dataclass(frozen=True)
class Text(Artifact):
    """Text for people, in UTF-8."""

    text: str

    def save(self, path: Path) -> None:
        """Write the text."""
        path.write_text(self.text, encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the text."""
        return cls(path.read_bytes().decode("utf-8"))


@dataclass(frozen=True)
class Binary(Artifact):
    """A file for others, which Glassrec does not read."""

    content: bytes

    def save(self, path: Path) -> None:
        """Write the bytes."""
        path.write_bytes(self.content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the bytes."""
        return cls(path.read_bytes())


@dataclass(frozen=True)
class Picture(Artifact):
    """A figure as PNG."""

    png: bytes

    def save(self, path: Path) -> None:
        """Write the bytes."""
        path.write_bytes(self.png)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the bytes."""
        return cls(path.read_bytes())


def _is_csv(path: Path) -> bool:
    return ".csv" in path.suffixes
