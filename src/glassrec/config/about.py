"""Hydra's reports on itself: `--info`, `--hydra-help`, `--cfg hydra`, `--cfg all`."""

from __future__ import annotations

import argparse
import os
import sys

import hydra
from omegaconf import DictConfig

from glassrec.config import groups
from glassrec.config.errors import readable_errors
from glassrec.config.overrides import forced


def about(options: argparse.Namespace) -> int:
    """Have Hydra report on itself; it parses the command line, and nothing is run."""

    def job(_: DictConfig) -> None: ...

    os.environ["HYDRA_FULL_ERROR"] = "1"  # its exceptions come to us, not to the screen
    given, sys.argv = sys.argv, ["glassrec", *_words(options)]
    try:
        with readable_errors():
            hydra.main(
                version_base="1.3", config_path=str(groups.configs_folder()), config_name="run"
            )(job)()
    finally:
        sys.argv = given
    return 0


def _words(options: argparse.Namespace) -> list[str]:
    flags = {"--multirun": options.multirun, "--hydra-help": options.hydra_help}
    valued = {"--cfg": options.cfg, "--info": options.info, "--config-dir": options.config_dir}
    return [
        *(flag for flag, on in flags.items() if on),
        *(part for flag, value in valued.items() if value for part in (flag, str(value))),
        *forced(options.overrides, options.config_dir),
    ]
