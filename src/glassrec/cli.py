"""The command line: verbs, their execution and exit codes.

Help needs the standard library alone, a wrong command Hydra and pydantic, and only a right one
imports PyTorch: hence the imports inside functions.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from glassrec import __version__, processes
from glassrec.arguments import complete, completion, parse_options, unknown_command
from glassrec.config.manual import COMMANDS, CUT, OWN_PARSERS, manual, manual_of
from glassrec.config.user_modules import trusting
from glassrec.failures import describe, is_of_output, is_out_of_memory
from glassrec.process_exit import (
    OUTPUT_CLOSED,
    Interrupted,
    StoppedEarly,
    Terminated,
    UsageError,
    exit_code,
    graceful_shutdown,
)
from glassrec.training.threads import wait_passively

_MODULES = {
    "predict": "glassrec.inference.predict",
    "verify": "glassrec.inference.verify_rows",
    "recommend": "glassrec.inference.recommend",
    "explain": "glassrec.inference.explain_command",
    "compare": "glassrec.compare.compare_command",
    "search": "glassrec.sweep.search.command",
    "wandb-report": "glassrec.tracking.wandb_report",
}

_HELP = {"-h", "--help", "help"}
_VERSION = {"-v", "-V", "--version", "version"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of those in the help."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that is not UTF-8 gets `?`
            stream.reconfigure(errors="replace")
    if not processes.is_first():  # the first one prints
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    arguments = list(sys.argv[1:] if argv is None else argv)
    wait_passively()
    return _exit_code_of(lambda: _run_command(arguments))


def _run_command(arguments: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        return complete()
    if not arguments or arguments[0] in _HELP:
        return _help(arguments[1:])
    verb, *rest = arguments
    of_rows = verb in ("explain", "verify") and any(word.startswith("rows=") for word in rest)
    if (verb in (*OWN_PARSERS, "verify") or of_rows) and not processes.is_first():
        return 0  # the first one does it alone
    if verb in OWN_PARSERS or of_rows:
        return import_module(_MODULES[verb]).main(rest)
    if verb == "completion":
        print(completion(rest), end="")
        return 0
    if _HELP & set(rest):
        return _help([verb])
    if verb in _VERSION or "--version" in rest:
        print(f"glassrec {__version__}")
        return 0
    if verb not in COMMANDS:
        return report_error(unknown_command(verb), code=2)
    options = parse_options(verb, rest)
    with trusting(options.trust):
        return _run_stage(verb, options)


def _help(arguments: Sequence[str]) -> int:
    """Help on everything, a command, a setting or a config group."""
    options = parse_options("help", arguments)
    topic = options.overrides
    if not topic:
        print(manual(), end="")
    elif topic[0] in OWN_PARSERS:
        return import_module(_MODULES[topic[0]]).main(["--help"])
    elif topic[0] in COMMANDS:
        print(manual_of(topic[0]), end="")
    else:
        from glassrec.config.reference import explain_setting

        try:
            print(explain_setting(topic[0], options.config_dir), end="")
        except LookupError as error:
            if not (of_rows := _help_of_row_setting(topic[0])):
                return report_error(error.args[0], code=2)
            print(of_rows, end="")
    return 0


def _help_of_row_setting(key: str) -> str:
    """The help of a setting in the commands on new rows that have it; '' if none has."""
    if "." in key:  # it is of a stage
        return ""
    from glassrec.inference.command_settings import help_of_field
    from glassrec.inference.explain_command import ExplainRowsSettings
    from glassrec.inference.predict import PredictSettings
    from glassrec.inference.recommend import RecommendSettings
    from glassrec.inference.verify_rows import VerifyRowsSettings

    return (CUT if key == "cut" else "") + "".join(
        f"glassrec {each.command}\n{help_of_field(key, each.model_fields[key])}"
        for each in (PredictSettings, RecommendSettings, ExplainRowsSettings, VerifyRowsSettings)
        if key in each.model_fields
    )


def _run_stage(stage: str, options: argparse.Namespace) -> int:
    from glassrec.config import compose
    from glassrec.config.paths import usable

    overrides, extra = options.overrides, options.config_dir
    if extra is not None and not usable("--config-dir", str(extra)).is_dir():
        raise UsageError(f"--config-dir: {extra} is not an existing directory; name one")
    of_sweep = options.multirun and options.cfg
    if options.info or options.hydra_help or options.cfg in ("hydra", "all") or of_sweep:
        from glassrec.config.overrides import about

        return about(options)
    if options.cfg == "job":
        print(compose.shown(stage, overrides, extra), end="")
        return 0
    if options.jobs is not None and not options.multirun:
        raise UsageError("--jobs: it is for a sweep, add -m")
    from glassrec.sweep import cut_jobs

    overrides, cut = cut_jobs.without_cut(overrides)
    if options.multirun or cut is not None:
        _refuse_several("-m and cut")
    if cut is not None and stage not in (*cut_jobs.ON_CUTS, "verify"):
        raise UsageError(f"cut={cut}: {stage} works on a whole run; leave it out")
    if cut is not None and stage == "verify":
        return max(_run_job(stage, each, extra) for each in cut_jobs.of_cut(overrides, cut))
    if stage in cut_jobs.ON_CUTS:
        cuts = cut_jobs.planned_cuts(stage, overrides, cut, extra, multirun=options.multirun)
        if cuts and options.jobs is not None:
            raise UsageError("--jobs: cuts of one run are made one after another; leave it out")
        if cuts:
            _refuse_several("torchrun to make cuts")
        if cuts and options.dry_run:
            places = (each["run"]["dir"] for _, some in cuts for each in some.values())
            print(*(f"would     {stage} {place}" for place in places), sep="\n")
            return 0
        if cuts:
            if not (cut or options.multirun):
                print(
                    "cut       the run keeps its certificate; other settings make a cut beside it"
                )
            failed = cut_jobs.make_cuts(stage, cuts, [stage, *options.overrides], _succeeds)
            return report_error(f"failed: cut {', cut '.join(failed)}", 1) if failed else 0
    if options.dry_run:
        from glassrec.sweep.planning import dry_run

        return dry_run(stage, overrides, extra, multirun=options.multirun)
    if options.multirun and options.trust:
        raise UsageError("--trust: not with -m; name model.factory and data.factory")
    if options.multirun:
        from glassrec.sweep.launch import sweep

        return sweep(stage, overrides, extra, options.jobs)
    return _run_job(stage, overrides, extra)


# --- exit codes ------------------------------------------------------------------------------


def report_error(message: object, code: int) -> int:
    """Print an error message on standard error, and return the exit code of the command."""
    who = "" if processes.is_first() else f"process {os.environ['RANK']}: "
    for line in str(message).splitlines() if code != 2 or not who else ():  # all say the same
        print(f"glassrec: error: {who}{line}", file=sys.stderr)
    return code


def _exit_code_of(action: Callable[[], int]) -> int:
    """The exit code of a command, whatever ends it; an error in the code keeps its traceback."""
    try:
        with graceful_shutdown():
            code = run_guarded(action)
            if sys.stdout is not None:  # it was closed before the start
                sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        reason = str(stop) if isinstance(stop, Interrupted | Terminated) else "interrupted"
        return report_error(f"{reason}; the same command goes on from here", exit_code(stop))
    except BrokenPipeError:
        _discard_output()
        return OUTPUT_CLOSED
    except OSError as error:
        _discard_output()
        return report_error(f"standard output cannot be written: {error.strerror}", code=1)


def _discard_output() -> None:
    """Redirect standard output: Python flushes it at exit, and would report the error again."""
    with suppress(OSError, ValueError, AttributeError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


def run_guarded(action: Callable[[], int]) -> int:
    """The exit code of an action. An error that is not a user's mistake keeps its traceback.

    Raises:
        OSError: standard output cannot be written.
    """
    try:
        return action()
    except StoppedEarly as stop:
        print(stop)
        return exit_code(stop)
    except ValueError as error:
        return report_error(error, code=2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        if is_of_output(error):
            raise
        return report_error(error, code=1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return report_error(describe(error), code=1)


# --- one job ---------------------------------------------------------------------------------


def _run_job(stage: str, overrides: Sequence[str], extra: Path | None) -> int:
    from glassrec.config import compose
    from glassrec.tracking.tracker import SWEEP

    config = compose.prepare(stage, overrides, extra, sweep=SWEEP in os.environ)
    command = ["glassrec", stage, *(["--config-dir", str(extra)] if extra else []), *overrides]
    if stage == "verify":
        return max(run_guarded(partial(_verify, each)) for _, each in compose.seed_runs(config))
    if config["seeds"] is None:
        return _execute(stage, config, command)
    _refuse_several("seeds, and set seed")
    return _execute_each_seed(stage, config, command)


def _refuse_several(what: str) -> None:
    if processes.launched() > 1:
        raise UsageError(f"torchrun: its processes share one run; leave out {what}")


def _execute(stage: str, config: Any, command: Sequence[str]) -> int:
    from glassrec.config.build import build, check_devices

    parts = build(config)
    check_devices(config, parts)
    from glassrec.config.compose import open_run
    from glassrec.pipeline import Pipeline
    from glassrec.run import SEEDS
    from glassrec.sweep.search.watcher import watcher

    cuda = processes.launched() > 1 and parts["trainer"].device.type == "cuda"
    with processes.joined(cuda), closing(open_run(config, command)) as run:
        Pipeline(run=run, **parts).execute(stage, watcher())
        if run.new_files and run.dir.name == f"seed_{config['seed']}":
            (run.dir.parent / SEEDS).unlink(missing_ok=True)  # it has the earlier results
    return 0


def _execute_each_seed(stage: str, config: Any, command: Sequence[str]) -> int:
    from glassrec.config.build import build, check_devices
    from glassrec.config.compose import open_run, seed_runs

    jobs = {seed: each for seed, each in seed_runs(config) if seed is not None}
    first = next(iter(jobs.values()))
    check_devices(first, build(first))  # values that do not go together end all seeds at once
    from glassrec import seeds

    with closing(open_run(config, command)) as run:
        failed = seeds.each(
            jobs, run.dir, lambda seed: _succeeds(lambda: _execute(stage, jobs[seed], command))
        )
    return report_error(failed, code=1) if failed else 0


def _succeeds(action: Callable[[], int | None]) -> bool:
    """Whether one job of several ended well; the next one starts in any case."""
    try:
        return run_guarded(lambda: action() or 0) == 0
    except OSError:
        raise
    except (Exception, SystemExit):
        traceback.print_exc()
        return False


def _verify(config: Any) -> int:
    from glassrec.config.build import build
    from glassrec.config.compose import plain, written

    parts = build(config)
    from glassrec.pipeline import Pipeline
    from glassrec.run import ReadOnlyRun

    run = ReadOnlyRun(config["run"]["dir"], plain(config), written(config))
    problems = Pipeline(run=run, **parts).verify()
    return report_error("\n".join(problems), code=1) if problems else 0
