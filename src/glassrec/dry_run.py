"""`--dry-run`: a command is checked, and what it would do is printed in place of being done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glassrec.config import compose
from glassrec.config.build import check_devices
from glassrec.config.environment import Config
from glassrec.run.record import read_record
from glassrec.spelling import counted
from glassrec.sweep.done import Done
from glassrec.sweep.launchers import divided
from glassrec.sweep.plan import Asked, check, expand, labels


def dry_run(stage: str, words: Sequence[str], extra: Path | None, *, multirun: bool) -> int:
    """Check all that can be checked without a look at the rows, print the plan, and return 0.

    Raises:
        ConfigError: the command is wrong.
    """
    done = Done(stage)
    for label, config in _jobs(stage, words, extra, multirun):
        for name, checked in _runs(config):
            parts = compose.build(checked)
            if stage != "verify":
                check_devices(checked, parts)
            for line in _plan(
                stage, ", ".join(filter(None, (label, name))), checked, done(checked)
            ):
                print(line)
    print("nothing was run; --cfg job prints the configuration")
    return 0


def _jobs(
    stage: str, words: Sequence[str], extra: Path | None, multirun: bool
) -> Iterator[tuple[str, Config]]:
    """The name and the checked configuration of each job."""
    if not multirun:
        yield "", compose.prepare(stage, words, extra)
        return
    asked = Asked(stage, divided(words)[0], extra)
    jobs = expand(asked)
    yield from zip(labels(jobs), check(asked, jobs), strict=True)


def _runs(config: Config) -> Iterator[tuple[str, Config]]:
    """The runs of a job, one for each of its seeds."""
    if config["seeds"] is None:
        yield "", config
    for seed in config["seeds"] or ():
        yield f"seed {seed}", compose.of_seed(config, seed)


def _plan(stage: str, label: str, config: dict[str, Any], done: bool) -> Iterator[str]:
    directory = config["run"]["dir"]
    names = [name for name in read_record(directory) if (directory / name).is_file()]
    what = "train, explain, prune, evaluate" if stage == "run" else stage
    parts = [f"{key} {config[key]['_target_'].rpartition('.')[2]}" for key in ("data", "model")]
    yield f"would     {what}: {', '.join(parts)}{f' ({label})' if label else ''}"
    if not names:
        state = "is empty" if directory.is_dir() else "would be made"
    else:
        state = f"holds {counted(len(names), 'artifact')} ({', '.join(names[:6])}"
        state += ", ...)" if len(names) > 6 else ")"
        made = "nothing would be made" if done else "what is stale or missing would be made"
        if stage != "verify":
            state += f": {'finished, ' * done}{made}"
    yield f"run.dir   {directory} {state}"
