"""The command line: the first word is the stage or what to do with a run, the rest Hydra's grammar.

Help needs the standard library alone, a wrong command Hydra and pydantic, and only a right one
imports PyTorch: hence the imports inside functions.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper

from glassrec import __version__
from glassrec.arguments import no_command, options
from glassrec.config.manual import ACROSS, COMMANDS, manual, manual_of
from glassrec.config.user_modules import leave_working_directory
from glassrec.ending import (
    OUTPUT_CLOSED,
    Interrupted,
    Terminated,
    exit_code,
    graceful_shutdown,
)
from glassrec.execute import complain, guarded, job

_MODULES = {
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
    return _ended(lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(words: list[str]) -> int:
    if not words or words[0] in _HELP:
        words = [*words[1:2], "--help"]
    if words[0] in ACROSS:
        return import_module(_MODULES[words[0]]).main(words[1:])
    if _HELP & set(words):
        print(manual_of(words[0]) if words[0] in COMMANDS else manual(), end="")
        return 0
    if words[0] in _VERSION or "--version" in words:
        print(f"glassrec {__version__}")
        return 0
    stage = words.pop(0)
    if stage not in COMMANDS:
        return complain(no_command(stage), code=2)
    return _dispatch(stage, options(stage, words))


def _ended(action: Callable[[], int]) -> int:
    """The exit code of a command, whatever ends it; an error in the code keeps its traceback."""
    try:
        with graceful_shutdown():
            code = guarded(action)
            if sys.stdout is not None:  # it was closed before the start
                sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        how = str(stop) if isinstance(stop, Interrupted | Terminated) else "interrupted"
        return complain(f"{how}; the same command goes on from here", code=exit_code(stop))
    except BrokenPipeError:
        _print_no_more()
        return OUTPUT_CLOSED
    except OSError as error:
        _print_no_more()
        return complain(f"standard output cannot be written: {error.strerror}", code=1)


def _print_no_more() -> None:
    """Point the output elsewhere: Python flushes it at its end, and would complain again."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _dispatch(stage: str, options: argparse.Namespace) -> int:
    from glassrec.config import compose
    from glassrec.config.paths import usable

    words, extra = options.overrides, options.config_dir
    if extra is not None and not usable("--config-dir", str(extra)).is_dir():
        raise compose.ConfigError(f"--config-dir: {extra} is not a directory that exists")
    swept = options.multirun and options.cfg
    if options.info or options.hydra_help or options.cfg in ("hydra", "all") or swept:
        from glassrec.config.about import about

        return about(options)
    if options.cfg == "job":
        print(compose.shown(stage, words, extra), end="")
        return 0
    if options.jobs is not None and not options.multirun:
        raise compose.ConfigError("--jobs: it is for a sweep, add -m")
    if options.dry_run:
        from glassrec.dry_run import dry_run

        return dry_run(stage, words, extra, multirun=options.multirun)
    if options.multirun:
        from glassrec.sweep.launch import sweep
        from glassrec.sweep.launchers import side_by_side

        return sweep(stage, [*side_by_side(options.jobs or 1), *words], extra)
    return job(stage, words, extra)


if __name__ == "__main__":
    leave_working_directory()
    sys.exit(main())
