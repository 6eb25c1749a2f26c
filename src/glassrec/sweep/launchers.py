"""Hydra's launchers: where jobs run, and how many at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext

from glassrec.config.complaints import ConfigError, reworded
from glassrec.config.overrides import parse, searching, started
from glassrec.sweep.task import task

EXTRAS = {"joblib": "parallel", "submitit": "slurm", "ray": "ray"}
"""What installs a launcher, as in `glassrec[parallel]`, by the beginning of its name."""


class Launcher:
    """The launcher that the words of a command choose.

    Args:
        words: those of a command that say where its jobs run.
        directory: of the sweep, unless a word names another.
        extra: a folder of the user's own choices.

    Raises:
        ConfigError: there is no such launcher, it is not installed, or has no such setting.
    """

    def __init__(self, words: Sequence[str], directory: Path, extra: Path | None = None) -> None:
        for word in words:
            _refuse_missing(word)
        about = [_directory(directory), f"hydra.job.name={directory.name}"]
        with reworded(), started():
            overrides = [*searching(extra), *about, *words]
            config = hydra.compose("run", overrides=overrides, return_hydra_config=True)
            context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
            self._launcher = Plugins.instance().instantiate_launcher(context, task, config)
        self.directory = Path(config.hydra.sweep.dir).absolute()

    def launch(self, numbers: Sequence[int]) -> None:
        """Run these jobs of the sweep, and wait for their end."""
        # A job is known by its number; its words are in the record, and not for Hydra to compose.
        place = _directory(self.directory)
        jobs = [[place, f"hydra.job.name={number}"] for number in numbers]
        if jobs:
            self._launcher.launch(jobs, initial_job_idx=0)


def divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command that say what a sweep does, and those that say where.

    Raises:
        ConfigError: a word cannot be read, or wants another sweeper.
    """
    what: list[str] = []
    where: list[str] = []
    for word, parsed in zip(words, parse(words), strict=True):
        part = re.match(r"hydra[./](launcher|sweeper|sweep|job)\b", parsed.key_or_group)
        if part and part[1] == "sweeper":
            raise ConfigError(
                f"{word}: a sweep takes every combination; glassrec search looks for the best"
            )
        (where if part else what).append(word)
    return what, where


def side_by_side(jobs: int) -> list[str]:
    """The words for so many jobs at a time on this machine, each with its share of processors.

    joblib gives it them, by OMP_NUM_THREADS. A batch of jobs would wait for one worker.
    """
    if jobs == 1:
        return []
    settings = {"n_jobs": jobs, "batch_size": 1, "pre_dispatch": "all"}
    return ["hydra/launcher=joblib", *(f"hydra.launcher.{k}={v}" for k, v in settings.items())]


def _directory(path: Path) -> str:
    quoted = str(path).replace("'", r"\'")
    return f"hydra.sweep.dir='{quoted}'"


def _refuse_missing(word: str) -> None:
    key, _, name = word.partition("=")
    begins = name.partition("_")[0]
    if key != "hydra/launcher" or begins not in EXTRAS:
        return
    try:
        found = find_spec(f"hydra_plugins.hydra_{begins}_launcher")
    except ModuleNotFoundError:  # no plugin at all
        found = None
    if found is None:
        raise ConfigError(f'{word} needs: pip install "glassrec[{EXTRAS[begins]}]"')
