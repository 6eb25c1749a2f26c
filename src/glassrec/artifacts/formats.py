"""How the content of a file is written and read: JSON, tables, text and bytes.

Nothing heavy is imported before it is used: the command line reads the list of files.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class Artifact(ABC):
    """The content of a file that a stage makes once and others read."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write everything to one file."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; ValueError if the file is damaged."""


def damaged(path: Path, error: Exception) -> ValueError:
    """The error to raise for a file that is not as it was written."""
    return ValueError(f"{path} is damaged ({error}); delete it to have it made again")


def write_json(path: Path, value: Any) -> None:
    """Write plain values; a number that is not finite becomes null."""
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    # A list of a thousand neurons on one line, not on a thousand.
    text = re.sub(r'\[\s+([^\[\]{}"]*?)\s+\]', lambda m: f"[{' '.join(m[1].split())}]", text)
    path.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value


def read_json(path: Path, build: Callable[[Any], T] = lambda value: value) -> T:
    """What `build` makes of a JSON file; ValueError if that is damaged, or not what it expects."""
    try:
        return build(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(path, error) from None


class JsonRecord(Artifact):
    """A dataclass as one JSON object; a null is a number that is not finite."""

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_json(path, asdict(self))  # type: ignore[call-overload]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON."""
        return read_json(path, lambda values: cls(**cls.fields_from(values)))

    @classmethod
    def fields_from(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The fields of the dataclass, from the values in the file."""
        return _with_nan(values)


def _with_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {name: nan if value is None else value for name, value in values.items()}


@dataclass(frozen=True)
class StoredTable(Artifact):
    """A table; parquet, or CSV where the name of the file says so. The index is not stored."""

    frame: pd.DataFrame

    def save(self, path: Path) -> None:
        """Write the table."""
        if _is_csv(path):
            write_csv(self.frame, path)
        else:
            self.frame.to_parquet(path, index=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the table; ValueError if the file is damaged."""
        import pandas as pd

        return cls(pd.read_csv(path) if _is_csv(path) else pd.read_parquet(path))


@dataclass(frozen=True)
class Facts(Artifact):
    """Plain values under names."""

    values: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_json(path, self.values)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON."""
        return cls(read_json(path))


@dataclass(frozen=True)
class Metrics(Facts):
    """Named numbers, flat: `test/auroc`, `pruned/test/auroc`, `parameters`; null is no number."""

    def save(self, path: Path) -> None:
        """Write JSON, sorted by name."""
        write_json(path, dict(sorted(self.values.items())))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON."""
        return cls(read_json(path, _with_nan))


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
    """Bytes in the format of another program."""

    content: bytes

    def save(self, path: Path) -> None:
        """Write the bytes."""
        path.write_bytes(self.content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the bytes."""
        return cls(path.read_bytes())


class Picture(Binary):
    """A figure as PNG, which notebooks show."""

    def __repr__(self) -> str:
        return f"Picture({len(self.content):,} bytes of PNG)"

    def _repr_png_(self) -> bytes:
        return self.content


def _is_csv(path: Path) -> bool:
    return ".csv" in path.suffixes


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table, without its index, for spreadsheets: no text in it acts as a formula.

    A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@`, a tab or a line break; such a
    heading or text gets an apostrophe in front (OWASP, "CSV Injection"). Numbers stay numbers, also
    where they lie in a column of text. A carriage return, which is not quoted, becomes a newline.
    """
    import numpy as np
    import pandas as pd

    safe = frame.rename(columns=_not_a_formula)
    for place, kind in enumerate(safe.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            cells = [_not_a_formula(cell) for cell in safe.iloc[:, place].astype(object)]
            safe.isetitem(place, np.array([*cells, None], dtype=object)[:-1])
    safe.to_csv(path, index=False)


def _not_a_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    if text.startswith(("=", "+", "-", "@", "\t", "\n")):
        try:
            float(text)
        except ValueError:
            return f"'{text}"
    return text
