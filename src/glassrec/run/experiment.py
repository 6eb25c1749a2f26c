"""The part of a configuration that makes a trained model what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

EXPERIMENT = (
    "seed", "start", "data", "model", "objective", "optimizer", "table_optimizer", "trainer",
    "scheduler", "callbacks", "metrics",
)  # fmt: skip
"""What makes a trained model what it is; a directory holds one experiment."""

_OPTIONAL = ("scheduler", "callbacks", "metrics")
"""Left out where they are not set, so that they change no key of a run without them."""

RUNTIME_KEYS = (
    "accelerator", "strategy", "compile", "logger", "log_every_n_steps", "profiler",
    "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "default_root_dir",
    "num_sanity_val_steps", "limit_test_batches", "limit_predict_batches", "detect_anomaly",
    "benchmark", "inference_mode", "model_registry", "enable_autolog_hparams", "keep_checkpoint",
    "shard_table",
)  # fmt: skip
"""Trainer settings that say where to compute or what to show, and not what is computed. The number
of devices is none of them: each takes a batch of its own."""

EPOCHS = "trainer.max_epochs"
"""The one setting of an experiment that may grow: a finished run goes on with more epochs."""

_OBSERVERS = (
    "DeviceStatsMonitor", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary", "ProgressBar",
    "RichModelSummary", "RichProgressBar", "ThroughputMonitor", "TQDMProgressBar",
)  # fmt: skip
"""Lightning's callbacks that change no weight."""


def experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that makes the trained model what it is.

    Where a path leads is left out: data, and models to start from, are known by the hashes of
    their files. Whether there is a start is not.
    """
    config = {name: _without_observers(node) for name, node in config.items()}
    part = {name: _without_paths(config[name]) for name in EXPERIMENT if name in config}
    if part.get("start") is not None:
        part["start"] = "a trained model"
    trainer = part.get("trainer", {})
    part["trainer"] = {k: v for k, v in trainer.items() if k not in RUNTIME_KEYS}
    return {k: v for k, v in part.items() if v or k not in _OPTIONAL}


def _without_observers(node: Any) -> Any:
    """Callbacks, or the trainer's settings, but for callbacks that change no weight."""
    if isinstance(node, Mapping):
        if _is_observer(node):
            return None
        return {k: _without_observers(v) for k, v in node.items() if not _is_observer(v)}
    if isinstance(node, list | tuple):
        return [_without_observers(each) for each in node if not _is_observer(each)]
    return node


def _is_observer(node: Any) -> bool:
    target = str(node.get("_target_")) if isinstance(node, Mapping) else ""
    package, _, name = target.rpartition(".")
    return package.startswith("lightning.pytorch.callbacks") and name in _OBSERVERS


def _without_paths(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _without_paths(v) for k, v in node.items() if not is_path(v)}
    return node


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names of flat settings whose values differ, as far as they are written down.

    The value of an environment variable is written as `${oc.env:KEY}`, and so left out.
    """
    pairs = {name: (one.get(name), other.get(name)) for name in {**one, **other}}
    return [
        name
        for name, (here, there) in pairs.items()
        if here != there and not from_environment(here) and not from_environment(there)
    ]


def is_path(value: Any) -> bool:
    """Whether a setting is a path: the check of a configuration makes every path absolute."""
    return isinstance(value, str) and Path(value).is_absolute()


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    pairs = [flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items()]
    return {name: value for part in pairs for name, value in part.items()}


# --- environment variables, whose values appear in no file and no message -------------------------


def is_text(value: Any) -> bool:
    """Whether a written value stands for an environment variable, as in `${oc.env:KEY}`."""
    return isinstance(value, str) and "${" in value


def from_environment(value: Any) -> bool:
    """Whether a written value, or an item of it, stands for an environment variable."""
    return any(map(from_environment, value)) if isinstance(value, list) else is_text(value)


def mask_values(message: str, values: Any, written: Any) -> str:
    """A message with the texts in the place of the values that environment variables give."""
    for value, text in _differing(values, written):
        if len(value) > 3:  # a shorter one is no secret, and would be found in any word
            message = message.replace(value, text)
    return message


def _differing(values: Any, written: Any) -> Iterator[tuple[str, str]]:
    if is_text(written) and written != values:
        yield str(values), written
    elif isinstance(written, dict) and isinstance(values, dict):
        for key, inner in written.items():
            yield from _differing(values.get(key), inner)
    elif isinstance(written, list) and isinstance(values, list | tuple):
        for value, inner in zip(values, written, strict=False):
            yield from _differing(value, inner)


def mask_config(values: Any, written: Any) -> Any:
    """Plain values, with the texts in the place of those that environment variables give."""
    if isinstance(values, dict) and isinstance(written, dict):
        return {key: mask_config(value, written.get(key)) for key, value in values.items()}
    return written if is_text(written) else values
