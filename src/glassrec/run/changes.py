"""The changes since results were made, reported before any of them is replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from glassrec import __version__
from glassrec.aliases import current, current_keys
from glassrec.artifacts.file_list import CONFIG, PROVENANCE
from glassrec.run.experiment import EPOCHS, flat
from glassrec.run.record import holds_results, read_record

SHOWN = 3
"""How many changes are named, and how many files; the others are counted."""


class Changes:
    """The results of a directory as a command finds them, and the differences to its settings."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        there = holds_results(directory) and (directory / CONFIG).is_file()
        self.directory, self.config = directory, config
        self._settings = current(_read(directory / CONFIG))[0] if there else {}
        self._provenance = _read(directory / PROVENANCE)
        self._record = read_record(directory) if there else {}
        self._reported: set[str] = set()

    def report(self, name: str, made_from: Mapping[str, Any]) -> None:
        """Print the changes that make a file stale; each of them once.

        Args:
            name: a file that is about to be made.
            made_from: plain values: the experiment, the settings of a group, and the hashes of
                external inputs.
        """
        if name not in self._record or not (self.directory / name).is_file():
            return
        outside = [*self._outside(made_from.get("given", {}))]
        groups = [group for group in made_from if group in self.config]
        settings = {change: key for key, change in self._settings_of(groups, name)}
        if not outside and not settings:  # files of other runs have changed, or a part was deleted
            outside = ["a command was stopped, or files that the model starts from have changed"]
        changes = [change for change in (*outside, *settings) if change not in self._reported]
        self._reported.update(changes)
        if changes:
            stale = self._stale(None if outside else set(settings.values()))
            listed = f"{_listed(changes, '; ')}; replacing {_listed(stale, ', ')}"
            print(f"changed   {listed}", flush=True)

    def _outside(self, external: Mapping[str, Any]) -> Iterator[str]:
        """Changes on which all depends: of data files, the version of Glassrec, and the epochs."""
        now = external.get("data", {})
        before = self._provenance.get("data", now)
        for file in before | now:
            if before.get(file) != now.get(file):
                yield f"data: {file} has changed since these results were made"
        version = self._provenance.get("glassrec", __version__)
        if version != __version__:
            yield f"Glassrec: {version} made these results, and this is {__version__}"
        group, key = EPOCHS.split(".")
        epochs = [config.get(group, {}).get(key) for config in (self._settings, self.config)]
        if epochs[0] != epochs[1]:
            yield f"{EPOCHS} is {epochs[1]} and was {epochs[0]}"

    def _settings_of(self, groups: list[str], name: str) -> Iterator[tuple[str, str]]:
        """The changed settings that a file depends on: `explain.select`, and the change."""
        for setting in _settings_in(self._record[name]):
            group, _, key = setting.partition(".")
            if group in groups:
                before, now = (
                    flat(config.get(group, {}).get(key), setting)
                    for config in (self._settings, self.config)
                )
                for each in before | now:
                    if before.get(each) != now.get(each):
                        yield setting, f"{each} is {now.get(each)} and was {before.get(each)}"

    def _stale(self, keys: set[str] | None) -> list[str]:
        """The files that depend on one of these settings, or all, and those made from them."""
        stale = [
            name
            for name, entry in self._record.items()
            if keys is None or keys & {*_settings_in(entry)}
        ]
        for name in stale:  # it grows meanwhile
            stale += [
                other
                for other, entry in self._record.items()
                if name in entry["inputs"] and other not in stale
            ]
        return stale


def _settings_in(entry: Mapping[str, Any]) -> list[str]:
    return [
        f"{group}.{key}"
        for group, names in entry.get("settings", {}).items()
        for key in current_keys(group, names)
    ]


def _listed(items: list[str], separator: str) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return separator.join(items[:SHOWN]) + more


def _read(path: Path) -> dict[str, Any]:
    """The content of a file in YAML, or in JSON, which is YAML; empty where it is damaged."""
    found = None
    with suppress(OSError, ValueError, yaml.YAMLError):
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}
