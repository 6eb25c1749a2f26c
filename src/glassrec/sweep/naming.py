"""What sweeps and jobs are called; a file or a folder may be called so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from glassrec.run import key_of

LONGEST = 100
"""Bytes of a name; file systems allow 255, with what comes before and after."""


def directory(keys: Iterable[str], command: object) -> Path:
    """The same for the same command: `runs/sweeps/<what is swept>-<hash of the command>`."""
    name = _safe("-".join(map(_last, keys)))
    return Path("runs", "sweeps", f"{name}-{key_of(command)[:8]}").absolute()


def label(settings: Mapping[str, str | float]) -> str:
    """`model=gmf,factors=8,seed=0`; a key is whole where another one ends alike."""
    ends = [_last(key) for key in settings]
    pairs = (
        f"{_safe(key) if ends.count(_last(key)) > 1 else _last(key)}={_safe(_value(value))}"
        for key, value in settings.items()
    )
    return _cut(",".join(pairs)) or "job"


def _last(key: str) -> str:
    return re.split("[./@]", key)[-1]


def _value(value: str | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _safe(text: str) -> str:
    return _cut(re.sub(r"[^\w.,+-]+", "_", text).strip("_"))


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:LONGEST].decode(errors="ignore")
