"""Which jobs of a sweep need not be started, as their runs hold all that is asked for.

A job that is started although all is there finds that out by itself; so where it would take long to
be sure here, the answer is no.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from glassrec import __version__
from glassrec.config import compose
from glassrec.config.aliases import current
from glassrec.config.build import build_node
from glassrec.config.environment import Config
from glassrec.run import SEEDS, flat, is_path, key_of

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Done:
    """Tells runs that are done; the files of a data set are read once."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._fingerprints: dict[str, Mapping[str, str] | None] = {}

    def __call__(self, config: Config) -> bool:
        """Whether the run of a checked configuration, or of each of its seeds, is finished.

        With the same settings, by this version of Glassrec, and with data that has not changed.
        """
        if config["seeds"] is None:
            return self._one(config)
        told = self.stage not in ("run", "evaluate") or (config["run"]["dir"] / SEEDS).is_file()
        runs = (compose.of_seed(config, seed) for seed in config["seeds"])
        return told and _saved(config) and all(map(self._one, runs))

    def _one(self, config: Config) -> bool:
        directory = config["run"]["dir"]
        if self.stage == "verify" or not _saved(config) or _starts_elsewhere(config):
            return False
        status, origin, record = (
            _facts(directory / f"{name}.json") for name in ("status", "provenance", "record")
        )
        return (
            status.get("state") == "finished"
            and status["stage"] == self._last
            and origin.get("glassrec") == __version__
            and bool(record)
            and all((directory / name).is_file() for name in record)
            and origin["data"] == self._fingerprint(config["data"])
        )

    @property
    def _last(self) -> str:
        from glassrec.pipeline import STAGES  # after a first look, as PyTorch comes with it

        return STAGES[-1] if self.stage == "run" else self.stage

    def _fingerprint(self, data: dict[str, Any]) -> Mapping[str, str] | None:
        key = key_of(data)
        if key not in self._fingerprints:
            try:
                self._fingerprints[key] = build_node(data).fingerprint()
            except (ValueError, OSError):  # a file is gone: that is for the job to tell
                self._fingerprints[key] = None
        return self._fingerprints[key]


def _saved(config: Config) -> bool:
    """Whether the settings of the run are those that it was made with."""
    file = config["run"]["dir"] / compose.SAVED
    asked = {name: node for name, node in compose.written(config).items() if name != "run"}
    return file.is_file() and current(yaml.load(file.read_bytes(), _LOADER) or {})[0] == asked


def _starts_elsewhere(config: Config) -> bool:
    """Whether it depends on files of another run, which may have changed."""
    return config["start"] is not None or any(
        map(is_path, flat(compose.plain(config["model"])).values())
    )


def _facts(file: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return facts
