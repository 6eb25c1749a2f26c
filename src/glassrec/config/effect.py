"""Settings of a command that have no effect beside its other settings.

Only what the command itself names is checked: defaults, and settings that a run keeps from an
earlier command, may have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from glassrec.artifacts.pruning import levels_of
from glassrec.config.errors import ConfigError
from glassrec.spelling import either


class NoEffectError(ConfigError):
    """A setting that the command names has no effect beside the others."""


def without_effect(overrides: Sequence[Override], config: Mapping[str, Any]) -> Iterator[str]:
    """A problem for each setting that a command names and that nothing would read.

    Args:
        overrides: the settings that the command names.
        config: the checked configuration that they led to.
    """
    for override in overrides:
        key = override.key_or_group.replace("/", ".")
        if override.is_delete() or override.value() is None:
            continue  # that is how an effect is switched off
        yield from _at_level(key, override.input_line, config["prune"])
        if key == "seed" and config["seeds"] is not None:
            yield f"{override.input_line}: it has no effect beside seeds; leave one of them out"


def _at_level(key: str, line: str | None, prune: Mapping[str, Any]) -> Iterator[str]:
    """Where a setting of pruning is not read at the level that was chosen."""
    levels = levels_of(key)
    if levels is None or prune["level"] in levels:
        return
    if key == "prune.rows" and prune["curves"] is not None:
        return  # the curves measure the scores on these rows
    other = either(f"prune.level={level}" for level in levels)
    yield (
        f"{line}: it has no effect at level {prune['level']}, only with {other}; leave it out or "
        "change the level"
    )
