"""The configurations of runs that are there: that a command works on, or starts from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from glassrec.aliases import current
from glassrec.artifacts.file_list import CONFIG, FINISHED
from glassrec.config.errors import ConfigError, readable_errors
from glassrec.config.overrides import warn
from glassrec.config.paths import usable
from glassrec.run import (
    EPOCHS,
    differing,
    experiment,
    flat,
    holds_results,
    is_path,
    may_continue,
    refuse_changed_config,
)


def load(file: Path) -> dict[str, Any]:
    """The settings in a file of a run; ValueError if they are not those that made its results."""
    refuse_changed_config(file.parent)
    with readable_errors():
        config = OmegaConf.to_container(OmegaConf.load(file))
    if not isinstance(config, dict) or not config:
        raise ConfigError(f"{file} holds no configuration; delete it to start the run anew")
    config, notes = current({str(key): value for key, value in config.items()})
    warn(notes)
    return config


def kept_settings(directory: Path, written: Mapping[str, Any]) -> Iterator[str]:
    """A problem for each setting of an experiment that is another than that of its directory."""
    file = directory / CONFIG
    if not file.is_file() or not holds_results(directory):
        return
    here, there = flat(experiment(written)), flat(experiment(load(file)))
    names = [] if may_continue(directory, here, there) else differing(here, there)
    grows = names == [EPOCHS] and here[EPOCHS] > there[EPOCHS]
    more = f"; it was left without {FINISHED.name}, which more epochs need" if grows else ""
    for name in names:
        target = f"{name.split('.')[0]}._target_"
        if name == target or target not in names:  # another class has other keys, of course
            yield (
                f"{name}: {here.get(name)!r} is not allowed; the run in {directory} keeps its "
                f"{there.get(name)!r}{more}; name another run.dir"
            )


def repeats(saved: dict[str, Any], override: Override) -> bool:
    """Whether an override names code that the saved settings have, so that it is imported."""
    key, code = override.key_or_group, ("._target_", ".factory")
    here = OmegaConf.select(OmegaConf.create(saved), key) if key.endswith(code) else None
    return here is not None and here == override.value()


def of_start(overrides: Sequence[Override]) -> dict[str, Any]:
    """Data, model and seed of the run that a new one starts from, where no override chooses them.

    An experiment chooses all of them. A directory of the runs of many seeds gives data and model of
    any of them, and a file of weights those of its run; alone it gives model and seed.
    """
    given = [override.value() for override in overrides if override.key_or_group == "start"]
    chosen = {override.key_or_group for override in overrides}
    if not given or given[-1] is None or "experiment" in chosen:
        return {}
    path = usable("start", str(given[-1]))
    folder = path.parent if path.is_file() else path
    files = (folder / CONFIG, *sorted(folder.glob(f"seed_*/{CONFIG}")))
    file = next((file for file in files if file.is_file()), None)
    config = _in_weights(path) if file is None else load(file)
    if chosen & {"seed", "seeds"}:
        config.pop("seed", None)
    found = {name: config[name] for name in ("data", "model", "seed") if name in config}
    if "model" in found:
        found["model"] = without_runs(found["model"])
    return {name: node for name, node in found.items() if name not in chosen}


def _in_weights(file: Path) -> dict[str, Any]:
    """Model and seed that a file of weights was trained with; nothing where it does not say so."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return {}
    try:
        with safe_open(file, framework="np") as opened:
            origin = json.loads((opened.metadata() or {}).get("glassrec", "{}"))  # see `Weights`
    except (SafetensorError, ValueError):
        return {}  # the stage that loads it reports the damage
    found = {name: origin[name] for name in ("model", "seed") if name in origin}
    return current(found)[0]


def without_runs(node: Any) -> Any:
    """The settings of a model but for the runs that it started from: it starts from another now."""
    if isinstance(node, dict):
        return {key: without_runs(value) for key, value in node.items()}
    return None if is_path(node) and not Path(node).is_file() else node
