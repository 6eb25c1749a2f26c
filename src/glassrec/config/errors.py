"""Errors in a command, in lines for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from glassrec.config import groups
from glassrec.config.guesses import no_option
from glassrec.process_exit import UsageError


class ConfigError(UsageError):
    """The configuration is wrong, and nothing was run; one line for each problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NoEffectError(ConfigError):
    """A setting that the command names has no effect beside the others."""


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn an error of Hydra, OmegaConf or YAML into a `ConfigError` of one line."""
    try:
        yield
    except ConfigError:
        raise
    except OverrideParseException as error:
        raise ConfigError(_grammar(error)) from None
    except MissingConfigException as error:
        raise ConfigError(_choice(error)) from None
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(_flat(error)) from None


def _grammar(error: OverrideParseException) -> str:
    if "=" not in error.override:
        return f"{error.override!r} is not of the form key=value"
    lines = error.message.splitlines()
    why = next(line for line in lines if not line.startswith("Error parsing"))
    return f"{error.override!r} cannot be read: {why} (quote special characters: key='\"a: b\"')"


def _choice(error: MissingConfigException) -> str:
    if error.options is None:
        return str(error).splitlines()[0]
    file = error.missing_cfg_file or ""
    options = groups.options()
    found = (each for each in options if file.startswith(f"{each}/"))
    group = max(found, key=len, default=file.rpartition("/")[0])
    name = file[len(group) + 1 :]
    return f"{group}={name}: there is no such option{no_option(name, error.options, options)}"


def _flat(error: Exception) -> str:
    text = str(error) or str(error.__cause__)
    if unset := re.search(r"Environment variable '(\w+)' not found", text):
        key = next(iter(re.findall(r"full_key: (\S+)", text)), "")
        return (
            f"{key}: the environment variable {unset[1]} is not set; set it, or give a default: "
            f"${{oc.env:{unset[1]},DEFAULT}}"
        )
    if unused := re.search(r"Could not override '([^'@]+)[^']*'\. No match in the defaults", text):
        root, _, group = unused[1].partition("/")
        return (
            f"{unused[1]}: the chosen {root} has no such group; leave it out, or choose one of "
            f"those that have it: {', '.join(groups.options_with(root, group))}"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    key = next((line.split()[1] for line in lines if line.startswith("full_key:")), None)
    said = "; ".join(line for line in lines if not re.match(r"(full_key|object_type)\b", line))
    return f"{key}: {said}" if key else said
