"""A model that was built and trained elsewhere, and that a callable of the user's own returns."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import FilePath
from torch import nn

from glassrec.artifacts import Tensors
from glassrec.data.schema import Schema, TaskKind
from glassrec.data.torch_file import load_state_dict
from glassrec.imported.imported_model import ImportedModel
from glassrec.process_exit import UsageError
from glassrec.spelling import brief, did_you_mean, one_of

_PREFIXES = ("module.", "model.", "_orig_mod.")  # of DistributedDataParallel, Lightning, compile

_LIBRARIES = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<frozen")


@dataclass(frozen=True)
class ImportedSchema(Schema):
    """The columns of an imported model, which the data opened with its first batch."""

    opened: ImportedModel | None = field(default=None, repr=False, compare=False)


def imported(
    data: Schema,
    factory: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    weights: FilePath | None = None,
    kind: TaskKind = "click",
) -> ImportedModel:
    """The graph of its operations is split at the embedding look-ups, and a sigmoid at its end is
    left out, so that explanations are of the logit.

    `factory` is `my.module:build`, a callable that returns an `nn.Module`, and `weights` a state
    dict. Without a factory `weights` is a whole pickled module. Of `kind` click, the score is a
    logit or a probability; of rating, a number.
    """
    assert isinstance(data, ImportedSchema), "the configuration has data=batches"
    return deepcopy(data.opened)  # type: ignore[return-value]


def build_module(settings: Mapping[str, Any]) -> nn.Module:
    """The module that the settings of `imported` describe, with its weights."""
    factory, weights = settings["factory"], settings["weights"]
    what = f"model.factory: {factory}" if factory else f"model.weights: {weights}"
    make = partial(torch.load, str(weights), map_location="cpu", weights_only=False)
    if factory is not None:
        make = partial(locate(factory, "model.factory"), **settings["arguments"])
    module = guarded(make, f"{what} fails")
    if not isinstance(module, nn.Module):
        raise ValueError(f"{what} gives a {type(module).__name__}; it must be a torch.nn.Module")
    if factory is not None and weights is not None:
        load_weights(module, Path(weights))
    return module


def locate(name: str, setting: str) -> Callable[..., Any]:
    """The callable that `my.module:build` names; its module is imported.

    Raises:
        UsageError: there is no such module or callable.
        ValueError: the import of its module fails; the message names the line.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"{setting}: {name!r} is not of the form my.module:build")
    if find_spec(top := module.partition(".")[0]) is None:
        near = did_you_mean(top, [path.stem for path in Path.cwd().glob("*.py")])
        raise UsageError(f"{setting}: no module {top!r} in {Path.cwd()}, nor installed{near}")
    found = guarded(partial(import_module, module), f"{setting}: the import of {module} fails")
    if not callable(made := getattr(found, attribute, None)):
        own = [n for n, each in vars(found).items() if callable(each)]
        raise UsageError(
            f"{setting}: {module} has no callable {attribute!r}{one_of(attribute, own)}"
        )
    return made


def guarded(action: Callable[[], Any], message: str) -> Any:
    """The result of code of the user's; ValueError, with the line of that code, if it raises."""
    try:
        return action()
    except Exception as error:
        lines = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
        lines += [f"{error.filename}:{error.lineno}"] if isinstance(error, SyntaxError) else []
        own = [n for n in lines if not n.startswith(_LIBRARIES) and "site-packages" not in n][-1:]
        at = "".join(f" at {line}" for line in own)
        raise ValueError(f"{message}{at}: {type(error).__name__}: {error}") from error


def source_file(name: str, setting: str) -> Path:
    """The file of the module of a callable, which is imported."""
    locate(name, setting)
    return Path(sys.modules[name.partition(":")[0]].__file__ or "")


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a state dict, also of a checkpoint, where all names may have a prefix.

    Raises:
        ValueError: names are missing, unexpected or of another shape; the first ones are named.
    """
    own, safe = module.state_dict(), path.suffix == ".safetensors"
    content = Tensors.load(path).tensors if safe else load_state_dict(path)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in content) and not content.keys() & own.keys():
            content = {name.removeprefix(prefix): value for name, value in content.items()}
    try:
        module.load_state_dict(content)
    except RuntimeError as error:
        problems = [line.strip().rstrip(".")[:200] for line in str(error).splitlines()[1:]]
        near = [did_you_mean(name, content) for name in own if name not in content][:1]
        text = f"{path} does not fit {type(module).__name__}: {brief(problems)}{''.join(near)}"
        raise ValueError(text) from None
