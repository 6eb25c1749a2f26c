"""The cuts that a command asks for: their names, their settings and their run.

`cut=NAME` is taken out of the words of a command before Hydra reads them: it names a directory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassrec.artifacts.file_list import CERTIFICATE, CONFIG, METRICS, STAGES
from glassrec.artifacts.pruning import levels_of
from glassrec.config import compose
from glassrec.config.build import build, build_node
from glassrec.config.environment import Config
from glassrec.config.errors import ConfigError
from glassrec.config.overrides import group_of, parse
from glassrec.config.saved import load
from glassrec.run import ReadOnlyRun, cut_directory, cuts_of, differing, flat, run_of_cut
from glassrec.run.cut_directory import CUTS
from glassrec.sweep.planning import SweepRequest, check_jobs, expand, label

if TYPE_CHECKING:
    from glassrec.pipeline import Pipeline
    from glassrec.tracking import Log

Planned = list[tuple[Config, dict[str, Config]]]  # of each run, with its cuts by their names

ON_CUTS = ("prune", "evaluate", "export")
"""The commands that work on cuts; `verify` reads one."""


def without_cut(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words of a command without `cut=NAME`, and the name; of a cut's `run.dir`, likewise."""
    names = [word.removeprefix("cut=") for word in words if word.startswith("cut=")]
    others = [word for word in words if not word.startswith("cut=")]
    run = _run_dir(others)
    if run is not None and not names and (parent := run_of_cut(run)) is not None:
        return _in_directory(others, parent), run.name
    return others, names[-1] if names else None


def of_cut(words: Sequence[str], name: str) -> list[list[str]]:
    """The words of a command in the directory of a cut; of many seeds, once for each."""
    if (run := _run_dir(words)) is None:
        raise ConfigError(f"cut={name}: name its run, as in run.dir=PATH")
    runs = sorted(run.glob("seed_*")) or [run]
    return [_in_directory(words, cut_directory(each, name)) for each in runs]


def _run_dir(words: Sequence[str]) -> Path | None:
    given = [each for each in parse(words) if each.key_or_group == "run.dir"]
    one = given and not given[-1].is_sweep_override()
    return Path(str(given[-1].value())).expanduser().absolute() if one else None


def _in_directory(words: Sequence[str], directory: Path) -> list[str]:
    quoted = str(directory).replace("\\", "\\\\").replace("'", "\\'")
    return [*(word for word in words if not word.startswith("run.dir=")), f"run.dir='{quoted}'"]


def make_cuts(
    stage: str, planned: Planned, command: Sequence[str], attempt: Callable[..., bool]
) -> list[str]:
    """Make or export cuts, one after another in this process; the names of those that failed.

    `attempt` calls a function, reports its error, and returns whether there was none.
    """
    from glassrec.pipeline import Pipeline

    failed = []
    for config, cuts in planned:
        parts = build(config)
        with closing(compose.open_run(config, command)) as run:
            pipeline = Pipeline(run=run, **parts)
            with pipeline.tracker.open(run.dir, run.shown, stage) as log:
                failed += _of_run(pipeline, stage, cuts, log, command, attempt)
        print(f"results   {run.dir}")
    return failed


def _of_run(
    pipeline: Pipeline, stage: str, cuts: Mapping[str, Config], log: Log, command: Sequence[str],
    attempt: Callable[..., bool],
) -> list[str]:  # fmt: skip
    """Make cuts with the data and the model of their run, which are loaded once; compare all."""
    from glassrec.pipeline import RunOutput
    from glassrec.stages.context import Context
    from glassrec.stages.cuts import compare_cuts
    from glassrec.tracking import Log

    run, context = pipeline.run, Context(pipeline, pipeline.external_hashes(stage))
    output = RunOutput(context, log)
    explained = pipeline.make(context, "explain", output)

    def make(config: Config) -> None:
        pruner = build_node(config["prune"])
        with closing(compose.open_run(config, command)) as own:
            cut = Context(replace(pipeline, run=own, prune=pruner), context.external, context)
            last = stage if stage == "export" else STAGES[-1]
            pipeline.make(cut, last, RunOutput(cut, Log()), explained=explained)
            own.save_config()

    failed = []
    for place, (name, config) in enumerate(cuts.items(), start=1):
        print(f"cut       {name}, {place} of {len(cuts)}", flush=True)
        failed += [] if attempt(partial(make, config)) else [name]
    if stage != "export":
        with context.writable.working_on("evaluate" if run.has(METRICS) else "explain"):
            output.print("cuts", compare_cuts(context, log, output.draw))
    return failed


def planned_cuts(
    stage: str, words: Sequence[str], name: str | None, extra: Path | None, *, multirun: bool
) -> Planned:
    """The cuts that a command asks for, perhaps none; ConfigError if its words are wrong.

    Other settings of pruning than those of a run that has a certificate make a cut beside it.
    """
    groups = {word: group_of(each) for word, each in zip(words, parse(words), strict=True)}
    own = [word for word in words if groups[word] == "prune"]
    swept = {group_of(each) for each in parse(words) if multirun and each.is_sweep_override()}
    if _run_dir(words) is None or swept - {"prune"} or not (name or own):
        return []
    if name is not None and (swept or not re.fullmatch(r"(?!cuts\.csv$)\w[\w.,=+-]{0,99}", name)):
        why = "one name for several cuts" if swept else "must be letters, digits and any of .,=+-"
        raise ConfigError(f"cut: {name!r} is not allowed; {why}")
    of_run = compose.prepare(stage, [word for word in words if word not in own], extra)
    request, found = SweepRequest(stage, words, extra), []
    for seed, run in compose.seed_runs(of_run):
        place: Path = run["run"]["dir"]
        if name is not None and (stage != "prune" or not own or (place / CUTS / name).is_dir()):
            there = _in_directory(words, cut_directory(place, name))
            asked = [compose.prepare(stage, there, extra)]
        else:
            jobs = check_jobs(request, expand(request) if multirun else [[*words]], shared=True)[1]
            asked = [each if seed is None else compose.of_seed(each, seed) for each in jobs]
        other = _effective(asked[0]) != _effective(load(place / CONFIG))
        if multirun or name or (other and ReadOnlyRun(place, {}).has(CERTIFICATE)):
            for word in (word for word in words if groups[word] == "explain"):
                raise ConfigError(f"{word}: cuts share the explanation of their run; leave it out")
            found.append((run, dict(_named(run, asked, name, extra))))
    return found


def _named(
    run: Config, asked: Sequence[Config], name: str | None, extra: Path | None
) -> Iterator[tuple[str, Config]]:
    """Each cut with its name; one of the same settings that is there keeps its name."""
    place: Path = run["run"]["dir"]
    taken = {each.name: _effective(load(each / CONFIG)) for each in cuts_of(place)}
    usual = flat(compose.plain(compose.compose("run", [], extra))["prune"], "prune")
    for config in asked:
        own = _effective(config)
        chosen = name or next((n for n, other in taken.items() if other == own), _name(own, usual))
        for key in differing(own, taken.setdefault(chosen, own))[:1]:
            there = f"{key}={taken[chosen].get(key)}"
            raise ConfigError(f"cut={chosen}: that cut has {there}; give another name")
        # The curves show other shares, and are those of the run.
        values = {"prune": config["prune"] | {"curves": None}}
        values["run"] = run["run"] | {"dir": place / CUTS / chosen}
        texts = {k: v for k, v in config.texts.items() if k.startswith("prune.")}
        yield chosen, Config({**run, **values}, run.texts | texts)


def _name(own: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """`share=0.5,score=magnitude`, then the settings that are not the usual ones."""
    parts = {"prune.level": own["prune.level"]}
    if own["prune.level"] == "budget":
        score = own["prune.score._target_"].rpartition(".")[2].removesuffix("Score").lower()
        parts = {"prune.share": str(own["prune.share"]), "prune.score": score}
    known = (*parts, "prune.level", "prune.score._target_")
    other = {k: str(v) for k, v in own.items() if k not in known and v != usual.get(k)}
    return label({k.removeprefix("prune."): v for k, v in (parts | other).items()})


def _effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of pruning, by dotted name, that have an effect on what is pruned."""
    prune = (compose.written(config) if isinstance(config, Config) else config)["prune"]
    no_cut, values = ("prune.curves", "prune.chunk", "prune._target_"), flat(prune, "prune")
    level = prune["level"]
    kept = {name: v for name, v in values.items() if level in (levels_of(name) or [level])}
    return {name: value for name, value in kept.items() if not name.startswith(no_cut)}
