"""Arguments as plain values, so that a checkpoint holds them without any code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from glassrec.models.base import Recommender

Recipe = Mapping[str, Any]
"""What makes an object: its class as `_target_`, and arguments; `_partial_` where some are left."""

_CLASSES = (Recommender, Optimizer, LRScheduler, Metric)


def recipes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that plain values can describe, as such values."""
    found = {}
    for name, value in arguments.items():
        try:
            found[name] = _describe(value)
        except TypeError:
            continue
    return found


def _describe(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [_describe(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _describe(each) for name, each in value.items()}
    if isinstance(value, type):
        return {"_target_": _path(value), "_partial_": True}
    if isinstance(value, partial) and isinstance(value.func, type) and not value.args:
        return {"_target_": _path(value.func), "_partial_": True, **_describe(value.keywords)}
    if is_dataclass(value):
        arguments = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        return {"_target_": _path(type(value)), **_describe(arguments)}
    raise TypeError(f"{value!r} is no plain value")


def _path(kind: type) -> str:
    if "<" in kind.__qualname__:
        raise TypeError(f"{kind.__qualname__} cannot be imported")
    return f"{kind.__module__}.{kind.__qualname__}"


def rebuild(value: Any) -> Any:
    """The object that a recipe describes, or a value as it is; ValueError for other classes."""
    if isinstance(value, list):
        return tuple(rebuild(each) for each in value)
    if not isinstance(value, Mapping):
        return value
    arguments = {name: rebuild(each) for name, each in value.items() if name[0] != "_"}
    if "_target_" not in value:
        return arguments
    module, _, name = value["_target_"].rpartition(".")
    kind = getattr(import_module(module), name)
    ours = is_dataclass(kind) and module.startswith("glassrec.")
    if not (isinstance(kind, type) and (ours or issubclass(kind, _CLASSES))):
        raise ValueError(f"{value['_target_']} is no model, optimiser, scheduler or metric")
    return partial(kind, **arguments) if value.get("_partial_") else kind(**arguments)
