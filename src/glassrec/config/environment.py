"""Settings from environment variables: `${oc.env:KEY}` is used in memory and not written down.

A value may be a password. Whatever is written (`config.yaml`, the report, W&B) gets the text of the
setting as the user gave it, and a later command reads the variable again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import ListConfig, OmegaConf
from omegaconf.resolvers import oc

_read: list[str] = []
"""The variables that were read since it was cleared."""


def _recorded(key: str, *default: Any) -> Any:
    _read.append(key)
    return oc.env(key, *default)


OmegaConf.register_new_resolver("oc.env", _recorded, replace=True)


class Config(dict[str, Any]):
    """A configuration as plain values, and the texts of those that environment variables give."""

    texts: dict[str, str]
    """by dotted key"""

    def __init__(self, values: dict[str, Any], texts: dict[str, str]) -> None:
        super().__init__(values)
        self.texts = texts


def texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The settings whose values depend on an environment variable: dotted key, text as written."""
    keys = range(len(node)) if isinstance(node, ListConfig) else [*node]
    for key in keys:
        place = f"{path}.{key}" if path else str(key)
        if OmegaConf.is_interpolation(node, key):
            _read.clear()
            value = node[key]
            if OmegaConf.is_config(value):
                OmegaConf.to_container(value, resolve=True)
            if _read:
                raw: Any = OmegaConf.to_container(node)
                yield place, str(raw[key])
        elif not OmegaConf.is_missing(node, key) and OmegaConf.is_config(node[key]):
            yield from texts(node[key], place)


def with_texts(node: Any, texts: dict[str, str], path: str = "") -> Any:
    """Plain values with the texts in the place of what environment variables give."""
    if path in texts:
        return texts[path]
    if isinstance(node, dict):
        return {k: with_texts(v, texts, f"{path}.{k}" if path else str(k)) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return [with_texts(inner, texts, f"{path}.{place}") for place, inner in enumerate(node)]
    return node
