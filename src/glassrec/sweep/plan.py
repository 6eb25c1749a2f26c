"""What a sweep has to do: its words become jobs, and all of them are checked before any starts.

Nothing of a job is imported for it: a model that cannot even be imported ends its own process, and
not the sweep.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from glassrec.config import compose
from glassrec.run import key_of
from glassrec.sweep.record import Job

LONGEST = 100
"""Characters of a label, which is part of a file's name."""


@dataclass(frozen=True)
class Asked:
    """What a sweep is asked for: the words of a command, without those that say where it runs."""

    stage: str
    words: Sequence[str]
    extra: Path | None
    """a folder of the user's own choices"""

    @property
    def command(self) -> list[str]:
        """The words that the command line of each job begins with."""
        return [self.stage, *(["--config-dir", str(self.extra)] if self.extra else [])]

    @property
    def directory(self) -> Path:
        """The same for the same command: `runs/sweeps/<what is swept>-<hash of the words>`."""
        swept = [o.key_or_group for o in compose.parse(self.words) if o.is_sweep_override()]
        names = [re.split("[./@]", key)[-1] for key in swept] or [self.stage]
        digest = key_of([self.command, list(self.words)])[:8]
        return Path("runs", "sweeps", f"{_safe('-'.join(names))}-{digest}").absolute()


def expand(asked: Asked) -> list[list[str]]:
    """The words of each job: one for each combination of the values, in Hydra's grammar.

    Raises:
        ConfigError: a word cannot be read, or names a slot that does not exist.
    """
    forced = compose.forced(asked.words, asked.extra)
    with compose.reworded(), compose.started():
        # A glob over the choices of a slot needs the configurations.
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides(forced), None)
    return [[word.removeprefix("++") for word in words] for words in jobs]


def check(asked: Asked, jobs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The checked configuration of each job.

    Raises:
        ConfigError: all that is wrong with any of them, or two that would share a directory.
    """
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for words in jobs:
        try:
            found.append(compose.prepare(asked.stage, words, asked.extra, sweep=True))
        except compose.ConfigError as error:
            problems += error.problems
    if problems := [*dict.fromkeys(problems)] or list(_meeting(found)):
        raise compose.ConfigError(*problems)
    return found


def _meeting(configs: Iterable[dict[str, Any]]) -> Iterator[str]:
    first: dict[Path, int] = {}
    for number, config in enumerate(configs, start=1):
        directory = config["run"]["dir"]
        if first.setdefault(directory, number) != number:
            yield (
                f"run.dir: jobs {first[directory]} and {number} would both work in {directory}; "
                "each needs its own (leave run.dir out, or let it hold a setting: "
                "'run.dir=runs/${seed}')"
            )


def jobs_of(
    asked: Asked, jobs: Sequence[Sequence[str]], runs: Sequence[Path], directory: Path
) -> list[Job]:
    """The entries of the record of the sweep in `directory`, one for each job and its run."""
    digits = len(str(len(jobs)))
    return [
        Job(
            number,
            label,
            [*asked.command, *words],
            os.path.relpath(run, directory),
            f"logs/{number:0{digits}}-{label}.log",
        )
        for number, (words, label, run) in enumerate(
            zip(jobs, labels(jobs), runs, strict=True), start=1
        )
    ]


def labels(jobs: Sequence[Sequence[str]]) -> list[str]:
    """What each job has of its own, fit for a file's name: `model=gmf,factors=8,seed=0`."""
    pairs = [[word.split("=", 1) for word in words] for words in jobs]
    own = [
        place
        for place in range(len(jobs[0]))
        if len({words[place] for words in jobs}) > 1  # the order of the words is the same in all
    ]
    keys = [pairs[0][place][0] for place in own]
    short = [re.split("[./@]", key)[-1] for key in keys]
    names = [last if short.count(last) == 1 else key for key, last in zip(keys, short, strict=True)]
    return [
        ",".join(f"{n}={_safe(words[p][1])}" for n, p in zip(names, own, strict=True))[:LONGEST]
        or "job"
        for words in pairs
    ]


def _safe(text: str) -> str:
    return re.sub(r"[^\w.,+-]+", "_", text).strip("_")[:LONGEST]
