"""The settings of a finished run that its model and its explanations are built from.

Neither data nor other runs are needed: all numbers come from the files of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from glassrec.artifacts.file_list import CONFIG
from glassrec.config.check import check
from glassrec.config.errors import ConfigError, readable_errors
from glassrec.config.paths import run_directory
from glassrec.config.saved import load, without_runs
from glassrec.config.user_modules import IMPORTED, admit


def finished_config(directory: Path, trusted: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration of a run, of which `model` and `explain` are checked and can be built.

    The other nodes are as they were written: their paths and environment variables need not exist.

    Args:
        directory: of the run.
        trusted: classes in the working directory that may be imported, by their import paths.

    Raises:
        ConfigError: the directory holds no run, its settings were changed, or they name a class
            that is not installed and not trusted.
    """
    config = load(run_directory(directory) / CONFIG)
    if config["model"].get("_target_") == IMPORTED[0]:
        text = "is a run of an imported model, which reads no raw rows; see glassrec.wrap in Python"
        raise ConfigError(f"run.dir: {directory} {text}")
    with readable_errors():
        node = OmegaConf.create({name: config[name] for name in ("model", "explain")})
        built: Any = OmegaConf.to_container(node, resolve=True)
    built["model"] = without_runs(built["model"])
    named = {"trusted": [{"_target_": target} for target in trusted]}
    problems = [*admit({**built, "run": {"dir": directory}}, named)]
    problems = problems or [each for each in check(built) if each.startswith((*built,))]
    if problems:
        raise ConfigError(*problems)
    return config | built
