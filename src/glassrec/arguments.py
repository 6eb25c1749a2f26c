"""The arguments of a command: its options, suggestions for unknown ones, and shell completion."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from glassrec.config import groups
from glassrec.config.manual import COMMANDS, OWN_PARSERS
from glassrec.process_exit import UsageError
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
    "score infer inference": "glassrec predict",
    "rank top top-k suggest": "glassrec recommend",
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


def unknown_command(word: str) -> str:
    """The message about an unknown command, with the command that is probably meant."""
    is_setting = "=" in word and not word.startswith("-")
    if meant := f"glassrec run {word}" if is_setting else _meant(word, _COMMANDS):
        return f"{word!r} is no command; did you mean {meant}?"
    listed = f"; the first word is one of {', '.join(COMMANDS)}"
    return f"{word!r} is no command{did_you_mean(word, COMMANDS) or listed}"


def parse_options(stage: str, arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments of a stage; UsageError if an option does not exist."""
    parser, names = _parser(stage)
    found, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise UsageError(_unknown_option(unknown[0], found.overrides, names))
    return found


def _parser(stage: str) -> tuple[argparse.ArgumentParser, list[str]]:
    parser = argparse.ArgumentParser(
        prog=f"glassrec {stage}", usage="%(prog)s [key=value ...] [options]", add_help=False,
        allow_abbrev=False,
    )  # fmt: skip
    overrides = parser.add_argument("overrides", nargs="*")
    overrides.completer = _matching_overrides  # type: ignore[attr-defined]  # argcomplete's
    options = [
        parser.add_argument("-m", "--multirun", action="store_true"),
        parser.add_argument("-j", "--jobs", type=count),
        parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all")),
        parser.add_argument("-i", "--info", nargs="?", const="all"),
        parser.add_argument("-n", "--dry-run", action="store_true"),
        parser.add_argument("--hydra-help", action="store_true"),
        parser.add_argument("-cd", "--config-dir", type=Path),
        parser.add_argument("--trust", action="store_true"),
    ]
    names = [name for option in options for name in option.option_strings]
    return parser, ["--help", "--version", *names]


def _unknown_option(word: str, overrides: Sequence[str], known: Sequence[str]) -> str:
    """The message about an unknown option, which mostly is a setting written like one."""
    name, _, value = word.lstrip("-").partition("=")
    start = f"{word.partition('=')[0]}: there is no such option"
    if hint := _meant(name, _OPTIONS):
        return f"{start}; {hint}"
    names = {each.lstrip("-"): each for each in known}  # dashes make nothing alike
    if near := get_close_matches(name, names, n=1, cutoff=0.75):
        return f"{start}; did you mean {names[near[0]]!r}?"
    value = value or next((each for each in overrides if "=" not in each), "")
    hint = _suggested_settings(name.replace("-", "_"), value)
    return f"{start}; settings have no dashes{hint}"


def _suggested_settings(name: str, value: str) -> str:
    from glassrec.config import compose, guesses
    from glassrec.run import flat

    config, known = compose.compose("run", []), groups.options()
    if name in known or name in flat(config):
        return f": {name}={value or 'VALUE'}"
    found = guesses.meant(name, value or "VALUE", config, known)
    found = found or guesses.nearby(name, value or "VALUE", config)
    return f"; did you mean {either(found)}?" if found else ", as in seed=1"


def _meant(word: str, table: dict[str, str]) -> str:
    name = word.casefold().lstrip("-").partition("=")[0].replace("_", "-")
    return next((text for names, text in table.items() if name in names.split()), "")


# --- shell completion ------------------------------------------------------------------------

SHELLS = ("bash", "zsh", "fish")


def completion(arguments: Sequence[str]) -> str:
    """The script by which a shell completes commands, options, settings and their values.

    Raises:
        UsageError: the shell is not known.
        ValueError: argcomplete is not installed.
    """
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        shell = " ".join(arguments) or "nothing"
        raise UsageError(f"completion: {shell} is not a known shell; one of {', '.join(SHELLS)}")
    try:
        from argcomplete import shellcode
    except ImportError:
        raise ValueError("glassrec completion needs: pip install argcomplete") from None
    return shellcode(["glassrec"], shell=arguments[0]) + "\n"


def complete() -> int:
    """Print completions for the shell, whose question is in environment variables."""
    import argcomplete

    parser = argparse.ArgumentParser(prog="glassrec", add_help=False)
    verbs = parser.add_subparsers()
    for name in (*COMMANDS, "help", "completion"):
        parents = [] if name in OWN_PARSERS else [_parser(name)[0]]
        verbs.add_parser(name, parents=parents, add_help=False)
    argcomplete.autocomplete(parser, append_space=False, always_complete_options=False)
    return 0


def _matching_overrides(prefix: str, **_: object) -> list[str]:
    """The overrides that begin so: keys up to the `=`, then values that are known."""
    from glassrec.config.reference import known_values, settings

    key, equals, _value = prefix.partition("=")
    if equals:
        return [f"{key}={value}" for value in known_values(key)]
    names = (*groups.options(), *settings())
    return [f"{name}=" for name in names if name.startswith(prefix)]
