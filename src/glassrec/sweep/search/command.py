"""`glassrec search`: let Optuna choose what to try next, and keep what came of each trial.

Help needs the standard library alone: hence the imports inside functions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

HELP = """\
Usage: glassrec search [key=value ...] [options]

Lets Optuna choose settings, run after run, and learn from what came of them. Each trial is a
`glassrec run` in a process of its own. A trial that fails does not stop the search.

What to search: a setting with several values; all others are the same in every trial
  model=gmf,mlp,neumf                           one of them (choice(...) and glob(...), too)
  model.factors='range(8,65,8)'                 8, 16, ... 64
  trainer.batch_size='int(tag(log,interval(64,4096)))'    any whole number, evenly on a log scale
  optimizer.lr='tag(log,interval(1e-4,1e-2))'   any number, evenly on a log scale
  seeds=[0,1,2]                                 each trial is the mean over three seeds

Options
  --trials N          how many there shall be in all [20]
  --objective METRIC  what to make better, a name in metrics.json or latency.json: val/log_loss,
                      pruned/parameters, ... Which way is better is known of most; otherwise write
                      METRIC:minimize or METRIC:maximize. [the validation metric that training
                      monitors.] Give it twice for the Pareto front of two. A metric of the test
                      split is refused: it is there to judge what the search has found.
  --sampler KIND      how to choose: tpe learns from the trials before (the first ten are random),
                      nsgaii breeds generations of fifty, random does not learn [tpe]
  --seed N            of the sampler; the runs have their own, seed=N [0]
  --pruner KIND       median ends a trial whose best epoch so far is worse than the median of the
                      finished trials at that epoch, once there are five; none [none]
                      For one objective, of the form val/METRIC.
  -j, --jobs N        trials at the same time on this machine; with more than one, what is tried
                      depends on which is done first [1]
  --stage STAGE       train leaves out all that follows training, and lets the objective, which is
                      val/METRIC then, select the epoch [run]
  --dir DIR           where [runs/sweeps/search-<what is searched>-<hash of the command>]
  --config-dir DIR    also choose from your own YAML files, as in glassrec run
  --help

Examples
  glassrec search model=gmf,mlp model.factors=8,16,32 --trials 6
  glassrec search model=mlp optimizer.lr='tag(log,interval(1e-4,1e-1))' --pruner median --jobs 2
  glassrec search model=gmf,mlp,neumf model.factors='range(4,65,4)' --trials 40 \\
      --objective val/auroc --objective pruned/parameters

Stop it with Ctrl-C, or by a power cut: the same command goes on from there, with the trials that
were running first, each from its last epoch. With one job at a time it tries what it would have
tried without a stop. For more trials, give the same command a larger --trials. A trial at the same
point as a finished one takes its values and is not run again.

In DIR lie sweep.json with the state of each trial, trials/N the run directories, logs/ what they
printed, and optuna.journal, which Optuna's dashboard opens. `glassrec compare DIR` shows it all.

Exit codes: 0 done, if one trial or more succeeded; 1 none did, or some were killed and the same
command runs them again; 2 the command is wrong and nothing was run; 130 Ctrl-C; 143 SIGTERM.
"""


def main(words: Sequence[str]) -> int:
    """Search, or continue the search of the same arguments; the exit code is as in the help.

    Raises:
        ConfigError: the arguments are wrong, and nothing was run.
        ValueError: Optuna is not installed, or the directory is another search's or in use.
    """
    options = _options(words)
    if options.help:
        print(HELP, end="")
        return 0
    if find_spec("optuna") is None:
        raise ValueError('glassrec search needs Optuna: pip install "glassrec[search]"')
    from glassrec.config.paths import usable
    from glassrec.sweep.search.searching import search

    if options.dir is not None:
        usable("--dir", str(options.dir))
    return search(options)


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="glassrec search", usage="%(prog)s [key=value ...] [options]", add_help=False,
        allow_abbrev=False, epilog="glassrec search --help explains them",
    )  # fmt: skip
    parser.add_argument("words", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--trials", type=count, default=20)
    parser.add_argument("--objective", action="append", default=[])
    parser.add_argument("--sampler", choices=("tpe", "random", "nsgaii"), default="tpe")
    parser.add_argument("--seed", type=partial(count, least=0), default=0)
    parser.add_argument("--pruner", choices=("median", "none"), default="none")
    parser.add_argument("-j", "--jobs", type=count, default=1)
    parser.add_argument("--stage", choices=("run", "train"), default="run")
    parser.add_argument("--dir", type=Path)
    parser.add_argument("-cd", "--config-dir", type=Path)
    return parser.parse_intermixed_args(words)


def count(text: str, least: int = 1, most: int = 2**32 - 1) -> int:
    """The value of an option; argparse's own error where it is no number from `least` to `most`.

    A larger seed is refused by the samplers of Optuna.
    """
    if not (text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not allowed; must be a number from {least} to {most}"
        )
    return int(text)
