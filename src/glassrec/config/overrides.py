"""The overrides of a command, in Hydra's grammar, and Hydra itself at work on `configs/`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from glassrec.aliases import current, current_defaults, current_key, current_word
from glassrec.config import groups
from glassrec.config.errors import ConfigError, readable_errors
from glassrec.spelling import did_you_mean, one_of


def forced(words: Iterable[str], extra: Path | None = None) -> list[str]:
    """The overrides as Hydra takes them: `++` before a key; ConfigError for unknown groups."""
    known = options_of_groups(extra)
    found = []
    for override in parse(words):
        line, key = str(override.input_line), override.key_or_group
        if not override.is_hydra_override() and override.type is OverrideType.CHANGE:
            if key not in known:
                refuse_misplaced(override, known)
                line = f"++{line}"
            elif isinstance(override.value(), int | float | None):
                raise ConfigError(f"{line}: there is no such option{one_of('', known[key])}")
        found.append(line)
    return found


def refuse_misplaced(override: Override, known: dict[str, list[str]]) -> None:
    """ConfigError for an unknown config group, and for an option written like a value."""
    key, value = override.key_or_group, override.value()
    group = key.replace(".", "/")
    if key == "hydra.run.dir":
        raise ConfigError(f"{key}: it has no effect; did you mean run.dir={value}?")
    if "/" in key and key not in known and not override.is_hydra_override():
        raise ConfigError(f"{key}: there is no such config group{did_you_mean(key, known)}")
    if group != key and value in known.get(group, ()):
        raise ConfigError(
            f"{override.input_line}: a config group is chosen with a slash; write {group}={value}"
        )


@contextmanager
def started() -> Iterator[None]:
    """Hydra at work, with `configs/` as its own folder."""
    GlobalHydra.instance().clear()
    folder = str(groups.configs_folder())
    with hydra.initialize_config_dir(folder, version_base="1.3", job_name="glassrec"):
        yield


def about(options: argparse.Namespace) -> int:
    """Have Hydra report on itself: `--info`, `--hydra-help`, `--cfg hydra`, `--cfg all`."""

    def job(_: DictConfig) -> None: ...

    flags = {"--multirun": options.multirun, "--hydra-help": options.hydra_help}
    valued = {"--cfg": options.cfg, "--info": options.info, "--config-dir": options.config_dir}
    words = [flag for flag, on in flags.items() if on]
    words += [part for flag, value in valued.items() if value for part in (flag, str(value))]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # its exceptions come to us, not to the screen
    words += forced(options.overrides, options.config_dir)
    given, sys.argv = sys.argv, ["glassrec", *words]
    try:
        with readable_errors():
            folder = str(groups.configs_folder())
            hydra.main(version_base="1.3", config_path=folder, config_name="run")(job)()
    finally:
        sys.argv = given
    return 0


def searching(extra: Path | None) -> list[str]:
    """The override, if any, by which Hydra searches a folder of the user's own options, too."""
    if extra is None:
        return []
    quoted = str(_with_current_groups(extra.absolute())).replace("'", r"\'")
    return [f"hydra.searchpath=['file://{quoted}']"]


def parse(words: Iterable[str]) -> list[Override]:
    """The overrides, parsed by Hydra; ConfigError where that fails."""
    known = [current_word(word) for word in words]
    warn(note for _, notes in known for note in notes)
    with readable_errors():
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


def _with_current_groups(folder: Path) -> Path:
    """A folder of the user's own options, or a copy in which no config group has an old name.

    Hydra reads the defaults lists of files by itself, so that they cannot be translated later.
    """
    new, notes = {}, []
    for file in sorted(folder.rglob("*.yaml")):
        place = file.relative_to(folder)
        group = current_key(place.parent.as_posix())
        text, found = current_defaults(file.read_text(encoding="utf-8"), group)
        new[Path(group, place.name)] = text
        moved = [] if group == place.parent.as_posix() else [f"{place.parent} is now {group}"]
        notes += [*moved, *found]
    if not notes:
        return folder
    warn(notes)
    if folder not in _copies:
        _copies[folder] = TemporaryDirectory(prefix="glassrec-")
    for name, text in new.items():
        copy = Path(_copies[folder].name, name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    return Path(_copies[folder].name)


_copies: dict[Path, TemporaryDirectory[str]] = {}  # removed when the process ends


def group_of(override: Override) -> str:
    """The config group that an override belongs to, or its first key."""
    return re.split(r"[./@]", override.key_or_group)[0]


def options_of_groups(extra: Path | None) -> dict[str, list[str]]:
    """The options of each config group, with those of a user's own folder."""
    own = [] if extra is None else [_with_current_groups(extra.absolute())]
    return _options(groups.configs_folder(), *own)


_options = cache(groups.options)
