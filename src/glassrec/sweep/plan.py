"""The jobs of a sweep: its overrides become jobs, and all are checked before any starts.

No class of a job is imported: a model that cannot be imported ends its own process, and not the
sweep.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.types import Glob, Override

from glassrec.config import compose
from glassrec.config.effect import NoEffectError
from glassrec.config.environment import Config
from glassrec.config.errors import ConfigError, readable_errors
from glassrec.config.overrides import forced, options_of_groups, parse
from glassrec.run import key_of
from glassrec.sweep.executors import split_overrides
from glassrec.sweep.sweep_record import Job

NAME_BYTES = 100
"""The longest name; file systems allow 255, with what comes before and after."""


@dataclass(frozen=True)
class SweepRequest:
    """The command of a sweep, without the overrides that choose where its jobs run."""

    stage: str
    words: Sequence[str]
    extra: Path | None
    """a folder of the user's own options"""

    @property
    def command(self) -> list[str]:
        """The beginning of the command line of each job."""
        return [self.stage, *(["--config-dir", str(self.extra)] if self.extra else [])]

    @property
    def directory(self) -> Path:
        """Where the record of the sweep and its logs are, if no override names a place."""
        swept = [o.key_or_group for o in parse(self.words) if o.is_sweep_override()]
        return sweep_directory(swept or [self.stage], [self.command, list(self.words)])


def planned_jobs(
    stage: str, words: Sequence[str], extra: Path | None
) -> Iterator[tuple[str, Config]]:
    """The label and the checked configuration of each job of a sweep.

    Raises:
        ConfigError: an override or a job is wrong.
    """
    request = SweepRequest(stage, split_overrides(words)[0], extra)
    jobs, configs = check_jobs(request, expand(request))
    return zip(labels(jobs), configs, strict=True)


def expand(request: SweepRequest) -> list[list[str]]:
    """The overrides of each job: one for each combination of the values, in Hydra's grammar.

    Raises:
        ConfigError: an override cannot be read, or names a config group that does not exist.
    """
    known = options_of_groups(request.extra)
    forced(request.words, request.extra)  # refuses groups that do not exist
    with readable_errors():
        values = [_each_value(override, known) for override in parse(request.words)]
        return [list(job) for job in itertools.product(*values)]


def _each_value(override: Override, known: Mapping[str, Sequence[str]]) -> list[str]:
    """An override with each of its values."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    value = override.value()
    texts = (
        value.filter(list(known.get(override.key_or_group, ())))
        if isinstance(value, Glob)
        else override.sweep_string_iterator()
    )
    return [f"{override.get_key_element()}={text}" for text in texts]


def check_jobs(
    request: SweepRequest, jobs: Sequence[list[str]]
) -> tuple[list[list[str]], list[Config]]:
    """The jobs that can run, and the checked configuration of each.

    A job in which a setting has no effect is left out with a message, as long as others remain.

    Raises:
        ConfigError: all errors in any of them, or two that would share a directory.
    """
    found: list[tuple[list[str], Config]] = []
    problems: list[str] = []
    left_out: dict[str, NoEffectError] = {}
    for words, name in zip(jobs, labels(jobs), strict=True):
        try:
            found.append((words, compose.prepare(request.stage, words, request.extra, sweep=True)))
        except NoEffectError as error:
            left_out[name] = error
        except ConfigError as error:
            problems += error.problems
    if not found and not problems:
        problems = [line for reason in left_out.values() for line in reason.problems]
    configs = [config for _, config in found]
    if problems := [*dict.fromkeys(problems)] or list(_shared_directories(configs)):
        raise ConfigError(*problems)
    for name, reason in left_out.items():
        print(f"left out  {name}: {'; '.join(reason.problems)}", flush=True)
    return [words for words, _ in found], configs


def _shared_directories(configs: Iterable[Config]) -> Iterator[str]:
    first: dict[Path, int] = {}
    for number, config in enumerate(configs, start=1):
        directory = config["run"]["dir"]
        if first.setdefault(directory, number) != number:
            yield (
                f"run.dir: jobs {first[directory]} and {number} would both work in {directory}; "
                "each needs its own (leave run.dir out, or let it hold a setting: "
                "'run.dir=runs/${seed}')"
            )


def entries(
    request: SweepRequest, jobs: Sequence[Sequence[str]], runs: Sequence[Path], directory: Path
) -> list[Job]:
    """The entries of the record of the sweep in `directory`, one for each job and its run."""
    digits = len(str(len(jobs)))
    return [
        Job(
            number, label, [*request.command, *words], os.path.relpath(run, directory),
            f"logs/{number:0{digits}}-{label}.log",
        )
        for number, words, label, run in zip(
            range(1, len(jobs) + 1), jobs, labels(jobs), runs, strict=True
        )
    ]  # fmt: skip


# --- names -----------------------------------------------------------------------------------


def labels(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The settings in which each job differs from others: `model=gmf,factors=8,seed=0`."""
    columns = zip(*jobs, strict=True)  # the order of the overrides is the same in all
    own = [place for place, words in enumerate(columns) if len(set(words)) > 1]
    pairs = [[words[place].split("=", 1) for place in own] for words in jobs]
    return [label(dict(pair)) for pair in pairs]


def sweep_directory(keys: Iterable[str], command: object) -> Path:
    """The same for the same command: `runs/sweeps/<swept keys>-<hash of the command>`."""
    name = _safe("-".join(map(_last, keys)))
    return Path("runs", "sweeps", f"{name}-{key_of(command)[:8]}").absolute()


def label(settings: Mapping[str, str | float]) -> str:
    """`model=gmf,factors=8,seed=0`; a key is whole where another one ends alike."""
    ends = [_last(key) for key in settings]
    pairs = (
        f"{_safe(key) if ends.count(_last(key)) > 1 else _last(key)}={_safe(_value(value))}"
        for key, value in settings.items()
    )
    return _cut(",".join(pairs)) or "job"


def _last(key: str) -> str:
    return re.split("[./@]", key)[-1]


def _value(value: str | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _safe(text: str) -> str:
    return _cut(re.sub(r"[^\w.,+-]+", "_", text).strip("_"))


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:NAME_BYTES].decode(errors="ignore")
