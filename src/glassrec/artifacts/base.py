"""What every artifact does, and how facts lie in JSON."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Artifact(ABC):
    """Something that a stage makes once and others read."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write everything to one file."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; ValueError if the file is damaged."""


def damaged(path: Path, error: Exception) -> ValueError:
    """What to raise where a file is not what was written."""
    return ValueError(f"{path} is damaged ({error}); delete it to have it made again")


def write_json(path: Path, value: Any) -> None:
    """Write plain values; a number that is not finite becomes null."""
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    # A list of a thousand units on one line, not on a thousand.
    text = re.sub(r'\[\s+([^\[\]{}"]*?)\s+\]', lambda m: f"[{' '.join(m[1].split())}]", text)
    path.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    # A number that is not finite has no JSON; null says "no value" to every reader.
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value


def read_json(path: Path, build: Callable[[Any], T] = lambda value: value) -> T:
    """What `build` makes of a JSON file; ValueError if that is damaged, or not what it expects."""
    try:
        return build(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(path, error) from None
