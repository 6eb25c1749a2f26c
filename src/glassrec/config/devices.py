"""Whether the devices that a command asks for are there."""

from __future__ import annotations

from typing import Any

from glassrec.config.complaints import ConfigError
from glassrec.config.environment import Config


def check_devices(checked: Config, parts: dict[str, Any]) -> None:
    """ConfigError if a model is to be trained on more devices than there are.

    A trained one may be explained on another machine.
    """
    if (checked["run"]["dir"] / "weights.safetensors").is_file():
        return
    try:
        parts["trainer"].check_devices()
    except ValueError as error:
        raise ConfigError(str(error)) from error
