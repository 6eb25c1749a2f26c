"""The jobs of a sweep that need not be started, as their runs are complete.

A job of a complete run makes nothing anew; so where it would take long to be sure, it counts as
incomplete here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from glassrec import __version__
from glassrec.artifacts.table import CONFIG
from glassrec.config import compose
from glassrec.config.aliases import current
from glassrec.config.build import build_node
from glassrec.config.environment import Config
from glassrec.run import SEEDS, flat, is_path, key_of

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class CompletedJobs:
    """Recognises complete runs; the files of a data set are read once."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._fingerprints: dict[str, Mapping[str, str] | None] = {}

    def __call__(self, config: Config) -> bool:
        """Whether the run of a checked configuration, or of each of its seeds, is finished.

        With the same settings, by this version of Glassrec, and with data that has not changed.
        """
        if config["seeds"] is None:
            return self._one(config)
        summarised = (
            self.stage not in ("run", "evaluate") or (config["run"]["dir"] / SEEDS).is_file()
        )
        runs = (each for _, each in compose.seed_runs(config))
        return summarised and _saved(config) and all(map(self._one, runs))

    def _one(self, config: Config) -> bool:
        directory = config["run"]["dir"]
        if self.stage == "verify" or not _saved(config) or _depends_on_other_runs(config):
            return False
        status, origin, record = (
            _read_json(directory / f"{name}.json") for name in ("status", "provenance", "record")
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
            except (ValueError, OSError):  # a file is missing: the job reports it
                self._fingerprints[key] = None
        return self._fingerprints[key]


def _saved(config: Config) -> bool:
    """Whether the run was made with these settings."""
    file = config["run"]["dir"] / CONFIG
    asked = {name: node for name, node in compose.written(config).items() if name != "run"}
    return file.is_file() and current(yaml.load(file.read_bytes(), _LOADER) or {})[0] == asked


def _depends_on_other_runs(config: Config) -> bool:
    """Whether a run depends on files of another one, which may have changed."""
    return config["start"] is not None or any(
        map(is_path, flat(compose.plain(config["model"])).values())
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found
