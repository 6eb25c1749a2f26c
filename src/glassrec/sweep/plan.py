"""What a sweep has to do: its words become jobs, and all of them are checked before any starts.

Nothing of a job is imported for it: a model that cannot even be imported ends its own process, and
not the sweep.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from glassrec.config import compose
from glassrec.config.complaints import ConfigError, reworded
from glassrec.config.environment import Config
from glassrec.config.overrides import forced, parse, started
from glassrec.sweep import naming
from glassrec.sweep.record import Job


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
        """Where the record of the sweep and its logs are, if no word names a place."""
        swept = [o.key_or_group for o in parse(self.words) if o.is_sweep_override()]
        return naming.directory(swept or [self.stage], [self.command, list(self.words)])


def expand(asked: Asked) -> list[list[str]]:
    """The words of each job: one for each combination of the values, in Hydra's grammar.

    Raises:
        ConfigError: a word cannot be read, or names a slot that does not exist.
    """
    overrides = forced(asked.words, asked.extra)
    with reworded(), started():
        # A glob over the choices of a slot needs the configurations.
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides(overrides), None)
    return [[word.removeprefix("++") for word in words] for words in jobs]


def check(asked: Asked, jobs: Sequence[Sequence[str]]) -> list[Config]:
    """The checked configuration of each job.

    Raises:
        ConfigError: all that is wrong with any of them, or two that would share a directory.
    """
    found: list[Config] = []
    problems: list[str] = []
    for words in jobs:
        try:
            found.append(compose.prepare(asked.stage, words, asked.extra, sweep=True))
        except ConfigError as error:
            problems += error.problems
    if problems := [*dict.fromkeys(problems)] or list(_meeting(found)):
        raise ConfigError(*problems)
    return found


def _meeting(configs: Iterable[Config]) -> Iterator[str]:
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
            number, label, [*asked.command, *words], os.path.relpath(run, directory),
            f"logs/{number:0{digits}}-{label}.log",
        )
        for number, words, label, run in zip(
            range(1, len(jobs) + 1), jobs, labels(jobs), runs, strict=True
        )
    ]  # fmt: skip


def labels(jobs: Sequence[Sequence[str]]) -> list[str]:
    """What each job has of its own: `model=gmf,factors=8,seed=0`."""
    columns = zip(*jobs, strict=True)  # the order of the words is the same in all
    own = [place for place, words in enumerate(columns) if len(set(words)) > 1]
    pairs = [[words[place].split("=", 1) for place in own] for words in jobs]
    return [naming.label(dict(pair)) for pair in pairs]
