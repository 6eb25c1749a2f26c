"""Values that environment variables gave, which nobody is to read in files or messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def is_text(value: Any) -> bool:
    """Whether a written value stands for an environment variable, as in `${oc.env:KEY}`."""
    return isinstance(value, str) and "${" in value


def hidden(message: str, values: Any, written: Any) -> str:
    """A message with the texts in the place of the values that environment variables give."""
    for value, text in _differing(values, written):
        if len(value) > 3:  # a shorter one is no secret, and would be found in any word
            message = message.replace(value, text)
    return message


def _differing(values: Any, written: Any) -> Iterator[tuple[str, str]]:
    if is_text(written) and written != values:
        yield str(values), written
    elif isinstance(written, dict) and isinstance(values, dict):
        for key, inner in written.items():
            yield from _differing(values.get(key), inner)
    elif isinstance(written, list) and isinstance(values, list | tuple):
        for value, inner in zip(values, written, strict=False):
            yield from _differing(value, inner)


def displayed(values: Any, written: Any) -> Any:
    """Plain values, with the texts in the place of those that environment variables give."""
    if isinstance(values, dict) and isinstance(written, dict):
        return {key: displayed(value, written.get(key)) for key, value in values.items()}
    return written if is_text(written) else values
