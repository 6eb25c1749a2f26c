"""The jobs of a sweep: its overrides become jobs, all are checked, and complete ones are found.

No class of a job is imported: a model that cannot be imported ends its own process alone.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Glob, Override

from glassrec import __version__
from glassrec.aliases import current
from glassrec.artifacts.file_list import CONFIG
from glassrec.config import compose
from glassrec.config.build import build, build_node, check_devices
from glassrec.config.environment import Config
from glassrec.config.errors import ConfigError, NoEffectError, readable_errors
from glassrec.config.overrides import forced, options_of_groups, parse
from glassrec.run import SEEDS, flat, is_path, key_of
from glassrec.run.record import read_record
from glassrec.spelling import counted
from glassrec.sweep.executors import split_overrides
from glassrec.sweep.sweep_record import SweepJob

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
    """The label and the checked configuration of each job; ConfigError for a wrong one."""
    request = SweepRequest(stage, split_overrides(words)[0], extra)
    jobs, configs = check_jobs(request, expand(request))
    return zip(labels(jobs), configs, strict=True)


def expand(request: SweepRequest) -> list[list[str]]:
    """The overrides of each combination of the values; ConfigError if one cannot be read."""
    known = options_of_groups(request.extra)
    forced(request.words, request.extra)  # refuses groups that do not exist
    with readable_errors():
        values = [_each_value(override, known) for override in parse(request.words)]
        return [list(job) for job in itertools.product(*values)]


def _each_value(override: Override, known: Mapping[str, Sequence[str]]) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    value = override.value()
    if isinstance(value, Glob):
        texts: Iterable[str] = value.filter(list(known.get(override.key_or_group, ())))
    else:
        texts = override.sweep_string_iterator()
    return [f"{override.get_key_element()}={text}" for text in texts]


def check_jobs(
    request: SweepRequest, jobs: Sequence[list[str]], *, shared: bool = False
) -> tuple[list[list[str]], list[Config]]:
    """The jobs that can run, and the checked configuration of each.

    A job in which a setting has no effect is left out with a message, as long as others remain.

    Raises:
        ConfigError: all errors in any of them, or two in one directory that is not to be `shared`.
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
    common = [] if shared else list(_shared_directories(configs))
    if problems := [*dict.fromkeys(problems)] or common:
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
) -> list[SweepJob]:
    """The entries of the record of the sweep in `directory`, one for each job and its run."""
    found, digits = [], len(str(len(jobs)))
    for number, (words, label, run) in enumerate(zip(jobs, labels(jobs), runs, strict=True), 1):
        log, place = f"logs/{number:0{digits}}-{label}.log", os.path.relpath(run, directory)
        found.append(SweepJob(number, label, [*request.command, *words], place, log))
    return found


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
    pairs = []
    for key, value in settings.items():
        name = _safe(key) if ends.count(_last(key)) > 1 else _last(key)
        pairs.append(f"{name}={_safe(f'{value:.4g}' if isinstance(value, float) else str(value))}")
    return _cut(",".join(pairs)) or "job"


def _last(key: str) -> str:
    return re.split("[./@]", key)[-1]


def _safe(text: str) -> str:
    return _cut(re.sub(r"[^\w.,+-]+", "_", text).strip("_"))


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:NAME_BYTES].decode(errors="ignore")


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
        if self.stage in ("run", "evaluate") and not (config["run"]["dir"] / SEEDS).is_file():
            return False
        return _saved(config) and all(self._one(each) for _, each in compose.seed_runs(config))

    def _one(self, config: Config) -> bool:
        directory = config["run"]["dir"]
        if self.stage == "verify" or not _saved(config) or _depends_on_other_runs(config):
            return False
        try:
            status, origin, record = (
                json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
                for name in ("status", "provenance", "record")
            )
        except (FileNotFoundError, ValueError):
            return False
        from glassrec.pipeline import STAGES  # after a first look, as PyTorch comes with it

        return (
            status.get("state") == "finished"
            and status["stage"] == (STAGES[-1] if self.stage == "run" else self.stage)
            and origin.get("glassrec") == __version__
            and bool(record)
            and all((directory / name).is_file() for name in record)
            and origin["data"] == self._fingerprint(config["data"])
        )

    def _fingerprint(self, data: dict[str, Any]) -> Mapping[str, str] | None:
        key = key_of(data)
        if key not in self._fingerprints:
            try:
                self._fingerprints[key] = build_node(data).fingerprint()
            except (ValueError, OSError):  # a file is missing: the job reports it
                self._fingerprints[key] = None
        return self._fingerprints[key]


def _saved(config: Config) -> bool:
    file = config["run"]["dir"] / CONFIG
    asked = {name: node for name, node in compose.written(config).items() if name != "run"}
    return file.is_file() and current(yaml.load(file.read_bytes(), _LOADER) or {})[0] == asked


def _depends_on_other_runs(config: Config) -> bool:
    """Whether a run depends on files of another one, which may have changed."""
    settings = flat(compose.plain(config["model"])).values()
    return config["start"] is not None or any(map(is_path, settings))


def dry_run(stage: str, overrides: Sequence[str], extra: Path | None, *, multirun: bool) -> int:
    """Check all that can be checked without reading the data, and print the plan."""
    is_complete = CompletedJobs(stage)
    if multirun:
        jobs = list(planned_jobs(stage, overrides, extra))
    else:
        jobs = [("", compose.prepare(stage, overrides, extra))]
    for label, config in jobs:
        for seed, of_seed in compose.seed_runs(config):
            parts = build(of_seed)
            if stage != "verify":
                check_devices(of_seed, parts)
            name = ", ".join(filter(None, (label, "" if seed is None else f"seed {seed}")))
            for line in _plan_lines(stage, name, of_seed, is_complete(of_seed)):
                print(line)
    print("nothing was run; --cfg job prints the configuration")
    return 0


def _plan_lines(stage: str, label: str, config: Any, done: bool) -> Iterator[str]:
    directory = config["run"]["dir"]
    names = [name for name in read_record(directory) if (directory / name).is_file()]
    action = "train, explain, prune, evaluate" if stage == "run" else stage
    parts = [f"{key} {config[key]['_target_'].rpartition('.')[2]}" for key in ("data", "model")]
    yield f"would     {action}: {', '.join(parts)}{f' ({label})' if label else ''}"
    state = "is empty" if directory.is_dir() else "would be made"
    if names:
        shown = ", ".join([*names[:6], *["..."] * (len(names) > 6)])
        state = f"holds {counted(len(names), 'artifact')} ({shown})"
        made = "finished, nothing" if done else "what is stale or missing"
        state += "" if stage == "verify" else f": {made} would be made"
    yield f"run.dir   {directory} {state}"
