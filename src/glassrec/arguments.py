"""The arguments of a command: its options, and what unknown commands and options stand for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from glassrec.config.manual import COMMANDS
from glassrec.ending import UsageError
from glassrec.spelling import did_you_mean, either
from glassrec.sweep.search.command import count

_COMMANDS = {
    "demo quickstart example start init": "glassrec run, which needs no file",
    "fit training": "glassrec train",
    "test eval": "glassrec evaluate",
    "interpret attribute explanation": "glassrec explain",
    "sweep multirun grid": "glassrec run -m",
    "tune hpo optuna optimize hparams": "glassrec search",
    "list ls show results table": "glassrec compare runs",
    "report wandb": "glassrec wandb-report",
    "check validate": "glassrec verify",
    "onnx deploy": "glassrec export",
    "resume continue": "the command that was stopped, once more",
    "config cfg settings": "glassrec run --cfg job",
    "models datasets data choices": "glassrec help, which lists them",
}
"""Commands of other programs, and ours that do the same."""

_OPTIONS = {
    "config-name cn": "choose experiment=NAME, or --config-dir DIR with YAML files of your own",
    "config-path cp": "use --config-dir DIR for YAML files of your own",
    "resume continue": "the same command goes on where it stopped",
    "resolve": "--cfg job prints values resolved",
    "sweep grid": "use -m",
    "verbose v debug quiet q": "there is one amount of output",
}


def no_command(word: str) -> str:
    """The message about an unknown command, with the command that is probably meant."""
    meant = _meant(word, _COMMANDS)
    if "=" in word and not word.startswith("-"):
        meant = f"glassrec run {word}"
    if meant:
        return f"{word!r} is no command; did you mean {meant}?"
    near = did_you_mean(word, COMMANDS)
    return f"{word!r} is no command{near}; the first word is one of {', '.join(COMMANDS)}"


def options(stage: str, words: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments of a stage.

    Raises:
        UsageError: an option does not exist.
    """
    parser = argparse.ArgumentParser(
        prog=f"glassrec {stage}", usage="%(prog)s [key=value ...] [options]", add_help=False,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("overrides", nargs="*")
    actions = [
        parser.add_argument("-m", "--multirun", action="store_true"),
        parser.add_argument("-j", "--jobs", type=count),
        parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all")),
        parser.add_argument("-i", "--info", nargs="?", const="all"),
        parser.add_argument("-n", "--dry-run", action="store_true"),
        parser.add_argument("--hydra-help", action="store_true"),
        parser.add_argument("-cd", "--config-dir", type=Path),
    ]
    found, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        known = ["--help", "--version", *(name for each in actions for name in each.option_strings)]
        raise UsageError(_no_option(unknown[0], found.overrides, known))
    return found


def _no_option(word: str, overrides: Sequence[str], known: Sequence[str]) -> str:
    """The message about an unknown option, which mostly is a setting written like one."""
    name, _, value = word.lstrip("-").partition("=")
    start = f"{word.partition('=')[0]}: there is no such option"
    if hint := _meant(name, _OPTIONS):
        return f"{start}; {hint}"
    names = {each.lstrip("-"): each for each in known}  # dashes make nothing alike
    if near := get_close_matches(name, names, n=1, cutoff=0.75):
        return f"{start}; did you mean {names[near[0]]!r}?"
    value = value or next((each for each in overrides if "=" not in each), "")
    words = _settings(name.replace("-", "_"), value)
    return f"{start}; settings have no dashes{words}"


def _settings(name: str, value: str) -> str:
    from glassrec.config import compose, guesses
    from glassrec.config.overrides import choices
    from glassrec.run import flat

    config, groups = compose.compose("run", []), choices(None)
    if name in groups or name in flat(config):
        return f": {name}={value or 'VALUE'}"
    words = guesses.meant(name, value or "VALUE", config, groups)
    words = words or guesses.nearby(name, value or "VALUE", config)
    return f"; did you mean {either(words)}?" if words else ", as in seed=1"


def _meant(word: str, table: dict[str, str]) -> str:
    name = word.casefold().lstrip("-").partition("=")[0].replace("_", "-")
    return next((text for names, text in table.items() if name in names.split()), "")
