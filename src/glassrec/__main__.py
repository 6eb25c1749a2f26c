"""The command line: the first word is the stage or what to do with a run, the rest Hydra's grammar.

Help needs the standard library alone, a wrong command Hydra and pydantic, and only a right one
imports PyTorch: hence the imports inside functions.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassrec import __version__
from glassrec.config import slots
from glassrec.ending import Terminated, exit_code, orderly
from glassrec.spelling import did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from glassrec.run import Run

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
  -m, --multirun     run once for each combination of the values a,b,c
  --info, --hydra-help, --cfg hydra, --cfg all   what Hydra tells of itself
  --help, --version

Results go to run.dir, by default runs/<data>-<model>-<hash of the experiment> in this folder, so
the same command goes on where it stopped. All but run and train work on the run in run.dir.

Exit codes: 0 done; 1 a failure on the way, or a run that is not as verified; 2 the command is wrong
and nothing was run; 130 Ctrl-C; 143 SIGTERM.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of those that the help tells."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ACROSS:
        return _across(words[0], words[1:])
    if not words or {"-h", "--help"} & set(words):
        print(_help(), end="")
        return 0
    if words == ["--version"]:
        print(f"glassrec {__version__}")
        return 0
    stage = words.pop(0)
    if stage not in WORDS:
        return _complain(f"{stage!r} is no stage{did_you_mean(stage, WORDS)}; {_FIRST}", code=2)
    # The console script does not look in the user's folder, where a model of their own may be.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    options = _options(stage, words)
    try:
        return _guarded(lambda: _dispatch(stage, options))
    except KeyboardInterrupt as stop:
        how = str(stop) if isinstance(stop, Terminated) else "interrupted"
        return _complain(f"{how}; the same command goes on from here", code=exit_code(stop))


def _across(word: str, words: Sequence[str]) -> int:
    """A command with a grammar of its own, whose module is imported when it is asked for."""
    if word == "compare":
        from glassrec.compare.command import main as command
    elif word == "search":
        from glassrec.sweep.search import main as command
    else:
        from glassrec.tracking.report import main as command
    try:
        return _guarded(lambda: command(words))
    except KeyboardInterrupt:
        return _complain("interrupted", code=130)


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
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    parser.add_argument("-i", "--info", nargs="?", const="all")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("-cd", "--config-dir", type=Path)
    return parser.parse_intermixed_args(words)


def _complain(message: object, code: int) -> int:
    for line in str(message).splitlines():
        print(f"glassrec: error: {line}", file=sys.stderr)
    return code


def _guarded(action: Callable[[], int]) -> int:
    """The exit code of an action. What is not a user's mistake keeps its traceback."""
    from glassrec.config.compose import ConfigError

    try:
        return action()
    except ConfigError as error:
        return _complain(error, code=2)
    except (ValueError, OSError) as error:
        return _complain(error, code=1)


def _dispatch(stage: str, options: argparse.Namespace) -> int:
    import yaml

    from glassrec.config import compose

    words, extra = options.overrides, options.config_dir
    if extra is not None and not extra.is_dir():
        raise compose.ConfigError(f"--config-dir: {extra} is not a directory that exists")
    if options.multirun or options.info or options.hydra_help or options.cfg in ("hydra", "all"):
        return _through_hydra(stage, options)
    if options.cfg == "job":
        print(yaml.safe_dump(compose.compose(stage, words, extra), sort_keys=False), end="")
        return 0
    return _job(stage, words, extra)


def _job(
    stage: str, words: Sequence[str], extra: Path | None, sweep: set[Path] | None = None
) -> int:
    """One job, of a sweep whose earlier jobs have written to some directories, or alone."""
    from glassrec.config import compose

    checked = compose.prepare(stage, words, extra, sweep=sweep is not None)
    directory = checked["run"]["dir"]
    if sweep is not None and directory in sweep:
        raise compose.ConfigError(
            f"run.dir: {directory} holds what another job of this sweep has made; each needs its "
            "own (leave run.dir out, or let it hold a setting: 'run.dir=runs/${seed}')"
        )
    if sweep is not None:
        sweep.add(directory)
    command = ["glassrec", stage, *(["--config-dir", str(extra)] if extra else []), *words]
    if stage == "verify":
        return _verify(checked)
    if checked["seeds"] is None:
        return _execute(stage, checked, command)
    return _each_seed(stage, checked, command)


def _execute(stage: str, checked: dict[str, Any], command: Sequence[str]) -> int:
    from glassrec.config import compose

    parts = compose.build(checked)
    from glassrec.pipeline import Pipeline
    from glassrec.seeds import TABLE

    with closing(_open(checked, command)) as run, orderly():
        Pipeline(run=run, **parts).execute(stage)
        if run.made and run.dir.name == f"seed_{checked['seed']}":
            (run.dir.parent / TABLE).unlink(missing_ok=True)  # it told of what was before
    return 0


def _each_seed(stage: str, checked: dict[str, Any], command: Sequence[str]) -> int:
    from glassrec.config import compose

    jobs = {seed: compose.of_seed(checked, seed) for seed in checked["seeds"]}
    compose.build(next(iter(jobs.values())))  # what does not go together is told before any starts
    from glassrec import seeds

    with closing(_open(checked, command)) as run:
        failed = seeds.each(
            jobs, run.dir, lambda seed: _succeeds(lambda: _execute(stage, jobs[seed], command))
        )
    return _complain(failed, code=1) if failed else 0


def _verify(checked: dict[str, Any]) -> int:
    """Verify a run, or the run of each seed, and list all that differs."""
    from glassrec.config import compose

    seeds = checked["seeds"]
    jobs = [checked] if seeds is None else [compose.of_seed(checked, seed) for seed in seeds]
    return max(_guarded(partial(_verify_one, job)) for job in jobs)


def _verify_one(checked: dict[str, Any]) -> int:
    from glassrec.config import compose

    parts = compose.build(checked)
    from glassrec.pipeline import Pipeline
    from glassrec.stages.sealed import Sealed

    with closing(Sealed(checked["run"]["dir"], compose.plain(checked))) as run:
        problems = Pipeline(run=run, **parts).verify()
    return _complain("\n".join(problems), code=1) if problems else 0


def _open(checked: dict[str, Any], command: Sequence[str]) -> Run:
    from glassrec.config import compose
    from glassrec.run import Run

    place = {key: value for key, value in checked["run"].items() if key != "_target_"}
    return Run(**place, config=compose.plain(checked), command=command)


def _through_hydra(stage: str, options: argparse.Namespace) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from glassrec.config import compose

    failed: list[str] = []
    directories: set[Path] = set()

    def job(_: DictConfig) -> None:
        words = [word.removeprefix("++") for word in HydraConfig.get().overrides.task]
        print(f"job       {' '.join(words)}", flush=True)
        if not _succeeds(lambda: _job(stage, words, options.config_dir, directories)):
            failed.append(" ".join(words))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # its exceptions come to us, not to the screen
    given, sys.argv = sys.argv, ["glassrec", *_hydra_words(options)]
    try:
        with compose.reworded():
            hydra.main(version_base="1.3", config_path=str(slots.find()), config_name="run")(job)()
    finally:
        sys.argv = given
    return _complain("\n".join(f"failed: {words}" for words in failed), code=1) if failed else 0


def _succeeds(action: Callable[[], int]) -> bool:
    """Whether one job of many went well; the next one starts in any case."""
    try:
        return _guarded(action) == 0
    except (Exception, SystemExit):
        traceback.print_exc()
        return False


def _hydra_words(options: argparse.Namespace) -> list[str]:
    from glassrec.config import compose

    flags = {"--multirun": options.multirun, "--hydra-help": options.hydra_help}
    valued = {"--cfg": options.cfg, "--info": options.info, "--config-dir": options.config_dir}
    return [
        *(flag for flag, on in flags.items() if on),
        *(part for flag, value in valued.items() if value for part in (flag, str(value))),
        *compose.forced(options.overrides, options.config_dir),
    ]


if __name__ == "__main__":
    sys.exit(main())
