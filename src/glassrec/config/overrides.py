"""The overrides of a command, in Hydra's grammar, and Hydra itself at work on `configs/`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from glassrec.config import slots
from glassrec.config.aliases import current, current_word
from glassrec.config.complaints import ConfigError, reworded
from glassrec.config.slots import find
from glassrec.spelling import did_you_mean, one_of


def forced(words: Iterable[str], extra: Path | None = None) -> list[str]:
    """The words as Hydra takes them: a choice as it is, and `++` before any other key.

    Raises:
        ConfigError: a word names a slot that does not exist.
    """
    known = choices(extra)
    return [_forced(override, known) for override in parse(words)]


def _forced(override: Override, known: dict[str, list[str]]) -> str:
    line, key = str(override.input_line), override.key_or_group
    if override.is_hydra_override() or override.type is not OverrideType.CHANGE:
        return line
    if key in known:
        if isinstance(override.value(), int | float | None):
            raise ConfigError(f"{line}: there is no such option{one_of('', known[key])}")
        return line
    refuse_misplaced(override, known)
    return f"++{line}"


def refuse_misplaced(override: Override, known: dict[str, list[str]]) -> None:
    """ConfigError for a slot that does not exist, and for a choice written like a value."""
    key, value = override.key_or_group, override.value()
    slot = key.replace(".", "/")
    if key == "hydra.run.dir":
        raise ConfigError(f"{key}: it has no effect; did you mean run.dir={value}?")
    if "/" in key and key not in known and not override.is_hydra_override():
        raise ConfigError(f"{key}: there is no such config group{did_you_mean(key, known)}")
    if slot != key and value in known.get(slot, ()):
        raise ConfigError(
            f"{override.input_line}: a config group is chosen with a slash; write {slot}={value}"
        )


@contextmanager
def started() -> Iterator[None]:
    """Hydra at work, with `configs/` as its own folder."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(find()), version_base="1.3", job_name="glassrec"):
        yield


def searching(extra: Path | None) -> list[str]:
    """The word, if any, by which Hydra looks into a folder of the user's own choices, too."""
    if extra is None:
        return []
    quoted = str(extra.absolute()).replace("'", r"\'")
    return [f"hydra.searchpath=['file://{quoted}']"]


def parse(words: Iterable[str]) -> list[Override]:
    """The words as Hydra reads them; ConfigError for those that it cannot."""
    known = [current_word(word) for word in words]
    warn(note for _, notes in known for note in notes)
    with reworded():
        return OverridesParser.create().parse_overrides([word for word, _ in known])


def with_current_names(config: DictConfig) -> DictConfig:
    """A composed configuration, in which a YAML file of the user's may have used old names."""
    values, notes = current(OmegaConf.to_container(config))  # type: ignore[arg-type]
    warn(notes)
    return OmegaConf.create(values) if notes else config


def warn(notes: Iterable[str]) -> None:
    """Report old names on standard error: each once a process, all of a command in one line."""
    new = [note for note in dict.fromkeys(notes) if note not in _reported]
    _reported.update(new)
    if new:
        text = f"glassrec: warning: {'; '.join(new)}; the next release refuses old names"
        print(text, file=sys.stderr)


_reported: set[str] = set()


def slot_of(override: Override) -> str:
    """The config group that an override belongs to, or its first key."""
    return re.split(r"[./@]", override.key_or_group)[0]


def choices(extra: Path | None) -> dict[str, list[str]]:
    """The choices of each slot, with those of a user's own folder."""
    return _choices(find(), *([] if extra is None else [extra.absolute()]))


_choices = cache(slots.choices)
