"""A search from its command to its end: what is asked is checked, tried, and told."""

from __future__ import annotations

import hashlib
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glassrec.config import compose
from glassrec.config.compose import ConfigError
from glassrec.sweep import record, standing
from glassrec.sweep.objective import Objective, objective
from glassrec.sweep.record import Record
from glassrec.sweep.space import Space
from glassrec.sweep.stopping import stoppable
from glassrec.sweep.study import JOURNAL, Study
from glassrec.sweep.trials import Trials


def search(options: Namespace) -> int:
    """Search as the options of the command say, or go on; the exit code of the command.

    Raises:
        ConfigError: the words are wrong, and nothing was run.
        ValueError: the directory is in use, or no trial succeeded.
    """
    space = Space.read(options.words, options.config_dir)
    objectives = [objective(text) for text in options.objective]
    _refuse(options, space, objectives)
    space.check(options.stage, options.config_dir)
    objectives = objectives or [_monitored(space, options.config_dir)]
    if options.stage == "train":
        space = _selecting(space, objectives[0])
    command = _command(options, space, objectives)
    directory = (options.dir or _directory(space, command)).absolute()
    with record.held(directory), stoppable(directory) as stopping:
        found = _record(directory, command, objectives)
        study = Study(directory, space, objectives, options.sampler, options.seed)
        stage = [options.stage, *_config_dir(options)]
        trials = Trials(
            directory, found, stage, space, objectives, study,
            stops=options.pruner != "none", at_once=options.jobs,
        )  # fmt: skip
        done = len(standing.done(found))
        print(f"search    {done} of {options.trials} trials are done in {directory}", flush=True)
        trials.until(options.trials, lambda: stopping.code != 0)
        return _tell(directory, found, study, stopping.code)


def _refuse(options: Namespace, space: Space, objectives: Sequence[Objective]) -> None:
    """ConfigError for what does not go together."""
    if len(objectives) > 2 or len(set(objectives)) < len(objectives):
        named = ", ".join(each.metric for each in objectives)
        raise ConfigError(f"--objective: one, or two different ones, not {named}")
    of_one = {
        "--pruner median": options.pruner == "median",
        "--stage train": options.stage == "train",
    }
    single = len(objectives) < 2 and all(each.each_epoch for each in objectives)
    for option in (name for name, asked in of_one.items() if asked and not single):
        raise ConfigError(
            f"{option}: for one objective of the form val/METRIC, which each epoch tells; Optuna "
            "stops no trial early for two"
        )
    if options.pruner == "median" and any(word.startswith("seeds=") for word in space.fixed):
        raise ConfigError("--pruner median: not with seeds=, as a trial is several trainings then")


def _monitored(space: Space, extra: Path | None) -> Objective:
    """The metric that training monitors, which the data tell."""
    checked = compose.prepare("train", space.words(space.first), extra)
    parts = compose.build(checked)
    print("loading the data, to see what to make better ...", flush=True)
    dataset = parts["data"].load(checked["seed"])
    return objective(parts["trainer"].monitors(dataset, parts["objective"]))


def _selecting(space: Space, first: Objective) -> Space:
    """The space, in which the objective selects the best epoch."""
    word = f"trainer.monitor={first.metric}"
    for other in (each for each in space.fixed if each.startswith("trainer.monitor=")):
        if first.metric not in other:
            raise ConfigError(f"{other}: with --stage train, --objective selects; leave it out")
        return space
    return replace(space, fixed=(*space.fixed, word))


def _config_dir(options: Namespace) -> list[str]:
    return ["--config-dir", str(options.config_dir.absolute())] if options.config_dir else []


def _command(options: Namespace, space: Space, objectives: Sequence[Objective]) -> list[str]:
    """What makes the search what it is, in words: not how many trials, nor how they are run."""
    return [
        "glassrec", "search", *options.words, *_config_dir(options), f"--stage={options.stage}",
        *(f"--objective={each.metric}:{each.direction}" for each in objectives),
        f"--sampler={options.sampler}", f"--seed={options.seed}",
    ]  # fmt: skip


def _directory(space: Space, command: Sequence[str]) -> Path:
    """The same for the same search, so that the same command goes on."""
    digest = hashlib.sha256(json.dumps(command).encode()).hexdigest()[:8]
    keys = [key.rpartition(".")[2].replace("/", "_") for key in space.dimensions]
    return Path("runs", "sweeps", "-".join(["search", *keys, digest]))


def _record(directory: Path, command: list[str], objectives: Sequence[Objective]) -> Record:
    """The record of this search, begun or found."""
    found = record.read(directory)
    if found is None and (directory / JOURNAL).is_file():
        raise ValueError(f"{directory} has lost its {record.FILE}; name another --dir")
    if found is None:
        return Record(command, str(Path.cwd()), [], [each._asdict() for each in objectives])
    differing = [word for word in command if word not in found.command]
    missing = [word for word in found.command if word not in command]
    if differing or missing:
        raise ConfigError(
            f"--dir: {directory} holds another search: {' '.join(missing) or 'less'} there and "
            f"{' '.join(differing) or 'less'} here; name another"
        )
    return found


def _tell(directory: Path, found: Record, study: Study, stopped: int) -> int:
    here = Path.cwd()
    shown = directory.relative_to(here) if directory.is_relative_to(here) else directory
    for line in standing.summary(shown, found, study.best(), study.objectives):
        print(line)
    print(f"results   {shown}")
    print(f"to compare them: glassrec compare {shown}", flush=True)
    left = [str(job.number) for job in found.jobs if job.state in ("killed", "interrupted")]
    if stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
    elif left:
        raise ValueError(f"trial {', '.join(left)} did not end; the same command runs it again")
    elif all(job.values is None for job in found.jobs):
        raise ValueError("no trial succeeded; the logs tell why")
    return stopped
