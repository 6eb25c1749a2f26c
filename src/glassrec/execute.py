"""One command without `-m`: a job, or one for each of its seeds, and the exit code that it gives.

PyTorch is imported when a command is found right, hence the imports inside functions.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from glassrec.ending import StoppedEarly, UsageError, exit_code
from glassrec.failures import describe, is_of_output, is_out_of_memory

if TYPE_CHECKING:
    from glassrec.config.environment import Config
    from glassrec.run import Run


def complain(message: object, code: int) -> int:
    """Tell what is wrong on standard error, and return the exit code that says so."""
    for line in str(message).splitlines():
        print(f"glassrec: error: {line}", file=sys.stderr)
    return code


def guarded(action: Callable[[], int]) -> int:
    """The exit code of an action. What is not a user's mistake keeps its traceback.

    Raises:
        OSError: standard output cannot be written.
    """
    try:
        return action()
    except StoppedEarly as stop:
        print(stop)
        return exit_code(stop)
    except ValueError as error:
        from glassrec.config.complaints import ConfigError  # Hydra comes with it

        return complain(error, code=2 if isinstance(error, ConfigError | UsageError) else 1)
    except OSError as error:
        if is_of_output(error):
            raise
        return complain(error, code=1)
    except MemoryError as error:
        return complain(describe(error), code=1)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return complain(describe(error), code=1)


def job(stage: str, words: Sequence[str], extra: Path | None) -> int:
    """Do what the words ask for, in a process of its own if it is one of a sweep's.

    Raises:
        ConfigError: the words are wrong, and nothing was run.
        ValueError: what went wrong on the way.
    """
    from glassrec.config import compose
    from glassrec.tracking.run_naming import SWEEP

    checked = compose.prepare(stage, words, extra, sweep=SWEEP in os.environ)
    command = ["glassrec", stage, *(["--config-dir", str(extra)] if extra else []), *words]
    if stage == "verify":
        return _verify(checked)
    if checked["seeds"] is None:
        return _execute(stage, checked, command)
    return _each_seed(stage, checked, command)


def _execute(stage: str, checked: Config, command: Sequence[str]) -> int:
    from glassrec.config import compose
    from glassrec.config.build import check_devices

    parts = compose.build(checked)
    check_devices(checked, parts)
    from glassrec.pipeline import Pipeline
    from glassrec.run import SEEDS
    from glassrec.sweep.search.watcher import watcher

    with closing(_open(checked, command)) as run:
        Pipeline(run=run, **parts).execute(stage, watcher())
        if run.made and run.dir.name == f"seed_{checked['seed']}":
            (run.dir.parent / SEEDS).unlink(missing_ok=True)  # it told of what was before
    return 0


def _each_seed(stage: str, checked: Config, command: Sequence[str]) -> int:
    from glassrec.config import compose

    jobs = {seed: compose.of_seed(checked, seed) for seed in checked["seeds"]}
    first = next(iter(jobs.values()))
    from glassrec.config.build import check_devices

    check_devices(first, compose.build(first))  # what does not go together ends all at once
    from glassrec import seeds

    with closing(_open(checked, command)) as run:
        failed = seeds.each(
            jobs, run.dir, lambda seed: _succeeds(lambda: _execute(stage, jobs[seed], command))
        )
    return complain(failed, code=1) if failed else 0


def _verify(checked: Config) -> int:
    """Verify a run, or the run of each seed, and list all that differs."""
    from glassrec.config import compose

    seeds = checked["seeds"]
    jobs = [checked] if seeds is None else [compose.of_seed(checked, seed) for seed in seeds]
    return max(guarded(partial(_verify_one, job)) for job in jobs)


def _verify_one(checked: Config) -> int:
    from glassrec.config import compose

    parts = compose.build(checked)
    from glassrec.pipeline import Pipeline
    from glassrec.stages.sealed import Sealed

    with closing(
        Sealed(checked["run"]["dir"], compose.plain(checked), written=compose.written(checked))
    ) as run:
        problems = Pipeline(run=run, **parts).verify()
    return complain("\n".join(problems), code=1) if problems else 0


def _open(checked: Config, command: Sequence[str]) -> Run:
    from glassrec.config import compose
    from glassrec.run import Run

    place = {key: value for key, value in checked["run"].items() if key != "_target_"}
    config, written = compose.plain(checked), compose.written(checked)
    return Run(**place, config=config, command=command, written=written)


def _succeeds(action: Callable[[], int]) -> bool:
    """Whether one job of many went well; the next one starts in any case."""
    try:
        return guarded(action) == 0
    except OSError:
        raise
    except (Exception, SystemExit):
        traceback.print_exc()
        return False
