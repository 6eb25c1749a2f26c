"""The objects that a checked configuration describes. Only here their classes are imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from enum import Enum
from functools import partial
from typing import Any, get_args, get_type_hints

from hydra.utils import get_object
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from glassrec.artifacts.file_list import WEIGHTS
from glassrec.config.environment import Config, with_texts
from glassrec.config.errors import ConfigError


def build(config: dict[str, Any]) -> dict[str, Any]:
    """The objects that a checked configuration describes, but for `run`, which is the caller's.

    Labels that a tracker's service shows have no values of environment variables in them.

    Raises:
        ConfigError: values that are right one by one do not go together.
    """
    from torch import nn, zeros

    from glassrec.metrics.user_metrics import check_metrics

    parts: dict[str, Any] = {}
    for name, node in config.items():
        if name != "run":
            with _config_errors(f"{name}: "):
                parts[name] = build_node(node)
    parts["data"] = parts["data"].of_model(parts["model"])
    parts["tracker"] = _labelled(parts["tracker"], config)
    for name in ("optimizer", "table_optimizer"):
        if parts[name] is not None:
            with _config_errors(f"{name}: "):  # PyTorch checks these settings only when it is made
                parts[name]([nn.Parameter(zeros(1, 1))])
    with _config_errors():
        check_metrics(parts["metrics"], parts["trainer"].monitor)
        _ = parts["trainer"].device  # a GPU that is not there, before the data is read
    return parts


def check_devices(config: Config, parts: dict[str, Any]) -> None:
    """ConfigError if a model is to be trained on more devices than there are.

    A trained one may be explained on another machine.
    """
    if not (config["run"]["dir"] / WEIGHTS.name).is_file():
        with _config_errors():
            parts["trainer"].check_devices()


@contextmanager
def _config_errors(start: str = "") -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{start}{error}") from error


def build_node(node: Any) -> Any:
    """The object of a node with a `_target_`, or the node itself with its inner objects."""
    if isinstance(node, list | tuple):
        return [build_node(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    inner = {key: build_node(value) for key, value in node.items()}
    if "_target_" not in inner:
        return inner
    target: Callable[..., Any] = get_object(inner.pop("_target_"))
    is_partial = inner.pop("_partial_", False)
    arguments = inner | _converted(target, inner)
    return partial(target, **arguments) if is_partial else target(**arguments)


def _converted(target: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a class of the user's own takes as enumerations, dataclasses or models."""
    if target.__module__.partition(".")[0] in ("glassrec", "torch", "lightning", "torchmetrics"):
        return {}
    function = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):  # names for type checkers alone
        return {}
    return {
        name: _convert(name, hints[name], value)
        for name, value in arguments.items()
        if name in hints and _is_converted(hints[name])
    }


def _is_converted(hint: Any) -> bool:
    if isinstance(hint, type) and (issubclass(hint, Enum | BaseModel) or is_dataclass(hint)):
        return True
    return any(map(_is_converted, get_args(hint)))


def _convert(name: str, hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum) and value in hint.__members__:
        return hint[value]
    try:
        config = ConfigDict(arbitrary_types_allowed=True)
        own = isinstance(hint, type) and (issubclass(hint, BaseModel) or is_dataclass(hint))
        return TypeAdapter(hint, config=None if own else config).validate_python(value)
    except ValidationError as error:
        lines = (f"{name}: {each['msg']}" for each in error.errors())
        raise ValueError("; ".join(lines)) from error


_LABELS = ("name", "group", "tags")
"""Settings of a tracker that its service shows, and that do not say where to report to."""


def _labelled(tracker: Any, config: dict[str, Any]) -> Any:
    """The tracker, with labels as the user wrote them where environment variables are in them."""
    texts = getattr(config, "texts", {})
    shown = with_texts(config["tracker"], texts, "tracker")
    from_environment = {path.split(".")[1] for path in texts if path.startswith("tracker.")}
    labels = {key: shown[key] for key in _LABELS if key in from_environment}
    made = is_dataclass(tracker) and not isinstance(tracker, type)
    return replace(tracker, **labels) if labels and made else tracker
