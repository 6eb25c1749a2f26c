"""What has changed since results were made, reported before any of them is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from glassrec import __version__
from glassrec.artifacts.table import CONFIG, PROVENANCE
from glassrec.config.aliases import current, current_keys
from glassrec.run.experiment import flat
from glassrec.run.record import holds_results, read_record

SHOWN = 3
"""How many changes are named, and how many files; the others are counted."""


class Changes:
    """The results of a directory as a command finds them, and what is different now.

    Args:
        directory: of the run.
        config: the settings of the command.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        there = holds_results(directory) and (directory / CONFIG).is_file()
        self.directory, self.config = directory, config
        self._settings = current(_yaml(directory / CONFIG))[0] if there else {}
        self._provenance = _json(directory / PROVENANCE)
        self._record = read_record(directory) if there else {}
        self._reported: set[str] = set()

    def report(self, name: str, made_from: Mapping[str, Any]) -> None:
        """Print what has changed, if it makes the artifact `name` stale; once for each change.

        Args:
            name: an artifact that is about to be made.
            made_from: plain values: the experiment, the settings of a slot and `given`, the hashes
                of what comes from outside.
        """
        if name not in self._record or not (self.directory / name).is_file():
            return
        outside = [*self._outside(made_from.get("given", {}))]
        slots = [slot for slot in made_from if slot in self.config]
        settings = {change: key for key, change in self._settings_of(slots, name)}
        if not outside and not settings:  # files of other runs, or somebody deleted a part
            outside = ["files that the model starts from have changed since it was made"]
        news = [change for change in (*outside, *settings) if change not in self._reported]
        self._reported.update(news)
        if news:
            stale = self._stale(None if outside else set(settings.values()))
            print(f"changed   {_listed(news, '; ')}; replacing {_listed(stale, ', ')}", flush=True)

    def _outside(self, given: Mapping[str, Any]) -> Iterator[str]:
        """What is not a setting: data files and the version of Glassrec."""
        now = given.get("data", {})
        before = self._provenance.get("data", now)
        for file in before | now:
            if before.get(file) != now.get(file):
                yield f"data: {file} has changed since these results were made"
        version = self._provenance.get("glassrec", __version__)
        if version != __version__:
            yield f"Glassrec: {version} made these results, and this is {__version__}"

    def _settings_of(self, slots: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
        """The changed settings that an artifact needs: `explain.select`, and what has changed."""
        needed = self._record[name].get("settings", {})
        for slot in slots:
            for key in current_keys(slot, needed.get(slot, ())):
                before, now = (
                    flat(config.get(slot, {}).get(key), f"{slot}.{key}")
                    for config in (self._settings, self.config)
                )
                for each in before | now:
                    if before.get(each) != now.get(each):
                        yield (
                            f"{slot}.{key}",
                            f"{each} is {now.get(each)} and was {before.get(each)}",
                        )

    def _stale(self, keys: set[str] | None) -> list[str]:
        """The artifacts that need one of these settings, or all, and what was made of them."""
        stale = [
            name
            for name, entry in self._record.items()
            if keys is None
            or keys & {f"{s}.{key}" for s, of in _settings(entry) for key in current_keys(s, of)}
        ]
        for name in stale:  # it grows meanwhile
            stale += [
                other
                for other, entry in self._record.items()
                if name in entry["inputs"] and other not in stale
            ]
        return stale


def _settings(entry: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
    return entry.get("settings", {}).items()


def _listed(items: list[str], separator: str) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return separator.join(items[:SHOWN]) + more


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
