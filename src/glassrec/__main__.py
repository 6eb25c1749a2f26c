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
from pathlib import Path

from glassrec import __version__
from glassrec.config import slots
from glassrec.ending import OUTPUT_CLOSED, exit_code, graceful_shutdown
from glassrec.execute import complain, guarded, job
from glassrec.spelling import did_you_mean
from glassrec.sweep.search.command import count

STAGES = {
    "run": "all four stages, one after the other",
    "train": "train the model, and keep the epoch that was best on validation",
    "explain": "attribute the predictions to the inputs, and score every neuron",
    "prune": "cut the neurons that do nothing, with a certificate",
    "evaluate": "compare quality and size before and after the cut",
}
AFTERWARDS = {
    "verify": "compute the certificate anew, from the files alone, and say what differs",
    "export": "write the pruned model for who has PyTorch alone, and as ONNX",
}
ACROSS = {
    "compare": "show finished runs and sweeps side by side",
    "search": "let Optuna look for the best settings",
    "wandb-report": "write a W&B report of a group of runs",
}
WORDS = STAGES | AFTERWARDS | ACROSS

_MODULES = {
    "compare": "glassrec.compare.command",
    "search": "glassrec.sweep.search.command",
    "wandb-report": "glassrec.tracking.report",
}

HELP = """\
Usage: glassrec STAGE [key=value ...] [options]

Stages
{stages}

With a finished run
{afterwards}

With many runs (glassrec WORD --help)
{across}

Examples
  glassrec run
  glassrec run model=neumf data=ncf data.root=PATH trainer.max_epochs=20 seed=1
  glassrec prune run.dir=runs/planted-dlrm-1a2b3c4d prune.level=sample
  glassrec verify run.dir=runs/planted-dlrm-1a2b3c4d
  glassrec run -m model=gmf,mlp trainer.batch_size=256,512
  glassrec run model=gmf seeds=[0,1,2]          mean and standard deviation of every metric

Slots and their choices (slot=choice; a file of configs/ lists all the keys of a choice)
{slots}

Options
  --config-dir DIR   also choose from your own YAML files: DIR/model/mine.yaml is model=mine
  --cfg job          print the configuration and stop
  -m, --multirun     run once for each combination of the values a,b,c, but for what is done
  -j, --jobs N       N of them at a time; elsewhere: hydra/launcher=submitit_slurm, or ray
  --info, --hydra-help, --cfg hydra, --cfg all   what Hydra tells of itself
  --help, --version

Results go to run.dir, by default runs/<data>-<model>-<hash of the experiment> in this folder, so
the same command goes on where it stopped. All but run and train work on the run in run.dir.

Exit codes: 0 done; 1 a failure on the way, or a run that is not as verified; 2 the command is wrong
and nothing was run; 3 a trial that its search stopped early; 130 Ctrl-C; 141 nobody reads the
output any more (`| head`); 143 SIGTERM. After 130, 141, 143 and a kill the same command goes on.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of those that the help tells."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that is not UTF-8 gets `?`
            stream.reconfigure(errors="replace")
    return _ended(lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(words: list[str]) -> int:
    # The console script does not look in the user's folder, where a model of their own may be.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    if words and words[0] in ACROSS:
        return import_module(_MODULES[words[0]]).main(words[1:])
    if not words or {"-h", "--help"} & set(words):
        print(_help(), end="")
        return 0
    if words == ["--version"]:
        print(f"glassrec {__version__}")
        return 0
    stage = words.pop(0)
    if stage not in WORDS:
        return complain(f"{stage!r} is no stage{did_you_mean(stage, WORDS)}; {_FIRST}", code=2)
    return _dispatch(stage, _options(stage, words))


def _ended(action: Callable[[], int]) -> int:
    """The exit code of a command, whatever ends it; an error in the code keeps its traceback."""
    try:
        with graceful_shutdown():
            code = guarded(action)
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        how = str(stop) or "interrupted"
        return complain(f"{how}; the same command goes on from here", code=exit_code(stop))
    except BrokenPipeError:
        _print_no_more()
        return OUTPUT_CLOSED
    except OSError as error:
        _print_no_more()
        return complain(f"standard output cannot be written: {error.strerror}", code=1)


def _print_no_more() -> None:
    """Point the output elsewhere: Python flushes it at its end, and would complain again."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


_FIRST = f"the first word is one of {', '.join(WORDS)}"


def _help() -> str:
    stages, afterwards, across = (
        "\n".join(f"  {name:<13} {story}" for name, story in words.items())
        for words in (STAGES, AFTERWARDS, ACROSS)
    )
    choices = slots.choices(slots.find())
    width = max(map(len, choices))
    listed = "\n".join(f"  {slot:<{width}}  {', '.join(each)}" for slot, each in choices.items())
    return HELP.format(stages=stages, afterwards=afterwards, across=across, slots=listed)


def _options(stage: str, words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"glassrec {stage}", usage="%(prog)s [key=value ...] [options]", add_help=False,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-j", "--jobs", type=count)
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    parser.add_argument("-i", "--info", nargs="?", const="all")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("-cd", "--config-dir", type=Path)
    return parser.parse_intermixed_args(words)


def _dispatch(stage: str, options: argparse.Namespace) -> int:
    from glassrec.config import compose

    words, extra = options.overrides, options.config_dir
    if extra is not None and not extra.is_dir():
        raise compose.ConfigError(f"--config-dir: {extra} is not a directory that exists")
    swept = options.multirun and options.cfg
    if options.info or options.hydra_help or options.cfg in ("hydra", "all") or swept:
        from glassrec.config.about import about

        return about(options)
    if options.cfg == "job":
        print(compose.shown(stage, words, extra), end="")
        return 0
    if options.multirun:
        from glassrec.sweep.launch import sweep
        from glassrec.sweep.launchers import side_by_side

        return sweep(stage, [*side_by_side(options.jobs or 1), *words], extra)
    if options.jobs is not None:
        raise compose.ConfigError("--jobs: it is for a sweep, add -m")
    return job(stage, words, extra)


if __name__ == "__main__":
    sys.exit(main())
