"""From the overrides of a command to a checked configuration, before anything heavy is imported."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hydra
import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from glassrec.aliases import original
from glassrec.artifacts.file_list import CERTIFICATE, CONFIG, WEIGHTS
from glassrec.artifacts.pruning import levels_of
from glassrec.config.build import build as build
from glassrec.config.check import check
from glassrec.config.environment import Config, texts, with_texts
from glassrec.config.errors import ConfigError, NoEffectError, readable_errors
from glassrec.config.groups import configs_folder
from glassrec.config.imported_rules import refused, untrained
from glassrec.config.overrides import (
    forced,
    group_of,
    options_of_groups,
    parse,
    refuse_misplaced,
    searching,
    started,
    with_current_names,
)
from glassrec.config.paths import not_writable, usable
from glassrec.config.saved import kept_settings, load, of_start, repeats
from glassrec.config.user_modules import admit
from glassrec.run import (
    EPOCHS,
    EXPERIMENT,
    RUNTIME_KEYS,
    Run,
    experiment,
    holds_results,
    mask_values,
)
from glassrec.run.following import shared_run
from glassrec.spelling import either


def prepare(
    stage: str, words: Sequence[str], extra: Path | None = None, *, sweep: bool = False
) -> Config:
    """The checked configuration of one job, with paths absolute and `run.dir` known.

    Args:
        stage: the command.
        words: its overrides, in Hydra's grammar.
        extra: a folder of the user's own options.
        sweep: the job is one of several, which must not meet in one directory.

    Raises:
        ConfigError: everything that is wrong.
    """
    if stage == "verify":
        _refuse_other_settings(words)
    config = compose(stage, words, extra)
    given = deepcopy(dict(config))
    problems = check(config, options_of_groups(extra)) or _twice(config["seeds"] or ())
    problems = problems or [*refused(stage, config)]
    if stage == "export":
        problems = [each for each in problems if not _is_elsewhere(each, config["run"].get("dir"))]
    if problems:
        shown = with_texts(given, config.texts)
        raise ConfigError(*(mask_values(problem, given, shown) for problem in problems))
    if problems := list(_without_effect(parse(words), config)):
        raise NoEffectError(*problems)
    if config["run"].get("dir") is None:
        keys = {group_of(override) for override in parse(words)}
        swept = [group for group in ("explain", "prune") if sweep and group in keys]
        config["run"]["dir"] = _directory(config, [*EXPERIMENT, *swept])
    problems = list(_occupied(config))
    if stage != "verify" and (problem := not_writable(config["run"]["dir"])):
        problems = [f"run.dir: {problem}; name another"]
    if problems:
        raise ConfigError(*problems)
    return config


def _is_elsewhere(problem: str, directory: Any) -> bool:
    """Whether a problem is a missing file or folder that a pruned run is exported without."""
    outside = problem.startswith(("data.", "start:", "model.")) and "an existing " in problem
    return outside and directory is not None and (Path(directory) / CERTIFICATE.name).is_file()


def _refuse_other_settings(words: Sequence[str]) -> None:
    """ConfigError for all but places and devices, and classes that are named to be imported."""
    for override in parse(words):
        named = override.key_or_group.endswith(("._target_", ".factory"))
        if group_of(override) not in ("run", "data", "trainer") and not named:
            raise ConfigError(f"{override.input_line}: a run is verified as it is; leave it out")


def _without_effect(overrides: Sequence[Override], config: Mapping[str, Any]) -> Iterator[str]:
    """A problem for each setting that the command itself names and that nothing would read."""
    prune = config["prune"]
    for override in overrides:
        key, line = override.key_or_group.replace("/", "."), override.input_line
        if override.is_delete() or override.value() is None:
            continue  # that is how an effect is switched off
        levels = levels_of(key)
        of_curves = key == "prune.rows" and prune["curves"] is not None  # they score these rows
        if levels is not None and prune["level"] not in levels and not of_curves:
            other = either(f"prune.level={level}" for level in levels)
            yield (
                f"{line}: it has no effect at level {prune['level']}, only with {other}; leave it "
                "out or change the level"
            )
        if key == "seed" and config["seeds"] is not None:
            yield f"{line}: it has no effect beside seeds; leave one of them out"


def of_seed(config: Config, seed: int) -> Config:
    """The checked configuration of one of many seeds: a run of its own, in `run.dir/seed_K`.

    Where the model starts from a directory of many seeds, it starts from the same seed's run.
    """
    folder = f"seed_{seed}"
    run = config["run"] | {"dir": config["run"]["dir"] / folder}
    starts = {name: _start_from(config[name], folder) for name in ("start", "model")}
    texts = {key: text for key, text in config.texts.items() if key.split(".")[0][:4] != "seed"}
    return Config({**config, "run": run, "seed": seed, "seeds": None, **starts}, texts)


def seed_runs(config: Config) -> list[tuple[int | None, Config]]:
    """The runs of a job: one for each of its seeds, or itself."""
    seeds = config["seeds"]
    return [(None, config)] if seeds is None else [(k, of_seed(config, k)) for k in seeds]


def _start_from(node: Any, folder: str) -> Any:
    if isinstance(node, dict):
        return {key: _start_from(value, folder) for key, value in node.items()}
    inside = isinstance(node, Path) and (node / folder / WEIGHTS.name).is_file()
    return node / folder if inside else node


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as YAML and JSON hold it: paths are text, and tuples lists."""
    found: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return found


def written(config: Config) -> dict[str, Any]:
    """The configuration as it is written down: environment variables by their names."""
    found: dict[str, Any] = with_texts(plain(config), config.texts)
    return found


def open_run(config: Config, command: Sequence[str]) -> Run:
    """The directory of a configuration, locked for this process until it is closed."""
    place = {key: value for key, value in config["run"].items() if key != "_target_"}
    return shared_run(**place, config=plain(config), command=command, written=written(config))


def _directory(config: dict[str, Any], parts: Sequence[str]) -> Path:
    """The same for the same experiment, whichever its seeds: one more finds the others done."""
    many = config["seeds"] is not None
    own = experiment(config)
    known = [part for part in parts if part in own or part not in EXPERIMENT]
    content = original({part: config[part] for part in known if not (many and part == "seed")})
    content["trainer"] = {k: v for k, v in content["trainer"].items() if k not in RUNTIME_KEYS}
    text = json.dumps(content, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    names = [config[group]["_target_"].rpartition(".")[2].lower() for group in ("data", "model")]
    return Path("runs", "-".join([*names, digest])).absolute()


def _twice(seeds: Sequence[int]) -> list[str]:
    double = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    return [f"seeds: {list(seeds)} is not allowed; {seed} is there twice" for seed in double]


def _occupied(config: Config) -> Iterator[str]:
    """Where the directory of the run, or those of its seeds, hold something else."""
    directory, seeds = config["run"]["dir"], config["seeds"]
    inside = [path.name for path in sorted(directory.glob("seed_*")) if holds_results(path)]
    if seeds is None and inside:
        yield f"run.dir: {directory} holds {inside[0]} and others; name one of them, or another"
    elif seeds is not None and holds_results(directory):
        yield f"run.dir: {directory} holds a run, and no runs of many seeds; name another"
    else:
        for _, each in seed_runs(config):
            yield from kept_settings(each["run"]["dir"], written(each))


# --- composing -------------------------------------------------------------------------------


def compose(stage: str, words: Sequence[str], extra: Path | None = None) -> Config:
    """The configuration that a command asks for, interpolations resolved, not yet checked.

    It comes from `configs/`; or, where `run.dir` holds a configuration whose experiment no override
    touches, from there, with the overrides laid over it. A new run that starts from another has its
    data, model and seed, where no override chooses others.

    Raises:
        ConfigError: the overrides cannot be composed, or the run names a class that is
            not installed and that the overrides do not name.
    """
    overrides = parse(words)
    for override in overrides:
        refuse_misplaced(override, options_of_groups(extra))
        if override.is_sweep_override():
            line = override.input_line
            raise ConfigError(f"{line}: several values are a sweep, add -m; a list is key=[a,b]")
    saved = _saved(stage, overrides)
    base = of_start(overrides) if saved is None else {}
    with readable_errors():
        config = _fresh(words, extra, base) if saved is None else _lay(overrides, saved, extra)
        resolved = OmegaConf.to_container(config, resolve=True)
        from_environment = dict(texts(config))
    assert isinstance(resolved, dict)
    values = {str(key): value for key, value in resolved.items()}
    of_command = saved is None and not base
    named = values if of_command else _named(overrides, extra, base)
    called = [str(each.value()) for each in overrides if each.key_or_group.endswith(".factory")]
    if problems := list(admit(values, named, called)):
        again = f": {shlex.join(['glassrec', stage, *words])} --trust"
        raise ConfigError(*(f"{each}{again if '--trust' in each else ''}" for each in problems))
    if resolved.get("seeds") is not None and "${seed}" in str(OmegaConf.to_container(config)):
        raise ConfigError("seeds: a setting is ${seed}, which is not used with many seeds; use -m")
    return Config(values, from_environment)


def _named(
    overrides: Sequence[Override], extra: Path | None, base: Mapping[str, Any]
) -> dict[str, Any]:
    """The nodes and classes that the overrides of a command give, where `base` may give others."""
    known, node = options_of_groups(extra), OmegaConf.create()
    chosen = [override for override in overrides if override.key_or_group in known]
    if chosen:
        _set_options(node, chosen, _fresh([str(each.input_line) for each in chosen], extra, base))
    for override in overrides:
        plain = override not in chosen and not override.is_hydra_override()
        if plain and not override.is_delete() and group_of(override) != "run":
            _set(node, override)
    found: dict[str, Any] = OmegaConf.to_container(node)  # type: ignore[assignment]
    return found


def shown(stage: str, words: Sequence[str], extra: Path | None = None) -> str:
    """That configuration as YAML."""
    config = compose(stage, words, extra)
    return yaml.safe_dump(with_texts(dict(config), config.texts), sort_keys=False)


def _fresh(
    words: Iterable[str], extra: Path | None, inherited: Mapping[str, Any] = MappingProxyType({})
) -> DictConfig:
    """A new configuration; `inherited` nodes take the place of what `configs/` has."""
    overrides = parse(forced(words, extra))
    values = [each for each in overrides if _is_plain(each)]
    inside = [each for each in overrides if group_of(each) in inherited and each not in values]
    # Hydra adds an option of an inner group whatever the outer one is, given a plus.
    added = [f"+{str(each.input_line).lstrip('+')}" for each in inside]
    chosen = [str(each.input_line) for each in overrides if each not in (*values, *inside)]
    config = deepcopy(_chosen(str(configs_folder()), *searching(extra), *chosen, *added))
    keys = [each.key_or_group.replace("/", ".") for each in inside]
    nodes = dict(inherited) | {key: OmegaConf.select(config, key) for key in keys}
    for key, node in nodes.items():
        OmegaConf.update(config, key, node, merge=False, force_add=True)
    untrained(config)
    for override in values:
        _set(config, override)
    return with_current_names(config)


def _is_plain(override: Override) -> bool:
    """Whether an override only sets a value, which can be done after all options are chosen."""
    elsewhere = override.package is not None or override.is_hydra_override()
    return override.is_force_add() and not elsewhere


@cache
def _chosen(_: str, *overrides: str) -> DictConfig:
    """The composition of some options, once a process: it is nine tenths of the work."""
    with started():
        return with_current_names(hydra.compose("run", overrides=list(overrides)))


def _set_options(config: DictConfig, chosen: Sequence[Override], fresh: DictConfig) -> None:
    for override in chosen:
        key = override.key_or_group.replace("/", ".")
        OmegaConf.update(config, key, OmegaConf.select(fresh, key), merge=False, force_add=True)


def _set(config: DictConfig, override: Override) -> None:
    """Lay a value over a configuration, just as Hydra does for `++key=value`."""
    OmegaConf.update(config, override.key_or_group, override.value(), merge=True, force_add=True)


# --- an existing run -------------------------------------------------------------------------


def _saved(stage: str, overrides: list[Override]) -> dict[str, Any] | None:
    given = [override.value() for override in overrides if override.key_or_group == "run.dir"]
    file = usable("run.dir", str(given[-1])) / CONFIG if given else None
    if stage in ("run", "train"):
        saved = load(file) if file and file.is_file() else None
        repeated = partial(repeats, saved or {})
        others = (override for override in overrides if not repeated(override))
        return None if any(map(_touches_experiment, others)) else saved
    if file is None:
        raise ConfigError(f"run.dir: a value is needed, e.g. run.dir=PATH; {stage} works on a run")
    if not file.is_file():
        raise ConfigError(f"run.dir: {file.parent} is no run directory, it holds no {CONFIG}")
    return load(file)


def _touches_experiment(override: Override) -> bool:
    where = [EPOCHS, *(f"trainer.{name}" for name in RUNTIME_KEYS)]
    groups = (*EXPERIMENT, "experiment", "debug")
    return group_of(override) in groups and override.key_or_group not in where


def _lay(overrides: list[Override], saved: dict[str, Any], extra: Path | None) -> DictConfig:
    """The saved configuration with chosen nodes from a fresh composition, then with values set."""
    config = OmegaConf.create({"run": {"_target_": "glassrec.run.Run"}} | saved)
    known = options_of_groups(extra)
    chosen = [override for override in overrides if override.key_or_group in known]
    for override in chosen:
        if (name := override.key_or_group) in ("experiment", "debug"):
            raise ConfigError(f"{name}: a run keeps the one it has; name another run.dir")
    if chosen:
        _set_options(config, chosen, _fresh([str(each.input_line) for each in chosen], extra))
    for override in overrides:
        if override.is_delete():
            raise ConfigError(f"{override.input_line}: a run keeps its keys; set another value")
        if override not in chosen and not override.is_hydra_override():
            _set(config, override)
    return with_current_names(config)
