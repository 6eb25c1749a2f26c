"""All runs below some directories, and the jobs of sweeps that made no directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

from glassrec.compare.setting_names import shortest_ends
from glassrec.report.run_record import RunRecord, read_object
from glassrec.run import cuts_of

SWEEP = "sweep.json"

UNEXPLAINED_STATES = ("crashed", "damaged", "failed")
"""States of a run whose sweep may have the reason: it saw the process end."""

ENDED_STATES = ("failed", "killed", "interrupted", "stopped")
"""States of a job that ended without finishing."""


def scan(directories: Sequence[Path]) -> list[RunRecord]:
    """All runs in some directories, each once, in the order of their paths.

    A directory is a run, a sweep, or a folder with any of those in it, at any depth. The jobs of a
    sweep that made no directory count, too.

    Raises:
        ValueError: a directory does not exist, or there is no run in it.
    """
    found: dict[tuple[Path, str], RunRecord] = {}
    for directory in directories:
        if not directory.is_dir():
            raise ValueError(f"{directory} is not a directory that exists")
        there = list(_within(directory.resolve(), set()))
        if not there:
            raise ValueError(
                f"{directory} holds no run and no sweep: neither it nor a directory in it, at any "
                f"depth, has a status.json, a record.json, a config.yaml with a .lock, or a {SWEEP}"
            )
        for run in there:
            # The entry of the sweep is kept, whichever way the run is found first.
            if run.sweep or (run.path, run.name) not in found:
                found[run.path, run.name] = run
    return _with_names([found[key] for key in sorted(found)])


def _within(directory: Path, seen: set[Path]) -> Iterator[RunRecord]:
    """The runs in a directory. A link may lead in a circle: no directory is entered twice."""
    if directory in seen:
        return
    seen.add(directory)
    try:
        str(directory).encode()  # as every file that names it will be
        sweep = (directory / SWEEP).is_file()
        run = None if sweep else RunRecord.open(directory)
        inside = [] if run else sorted(each for each in directory.iterdir() if each.is_dir())
    except OSError as error:
        yield RunRecord(directory, "", "damaged", problem=f"it cannot be read: {error.strerror}")
        return
    except UnicodeEncodeError:
        name = directory.name.encode(errors="replace").decode()
        yield RunRecord(
            directory.parent, name, "damaged", problem="its name is not UTF-8: rename it"
        )
        return
    if sweep:
        yield from _of_sweep(directory)
    if run is not None:
        yield run
        yield from _cuts(directory)
    for each in inside:
        if not each.name.startswith("."):
            yield from _within(each.resolve(), seen)


def _cuts(run: Path) -> Iterator[RunRecord]:
    return filter(None, map(RunRecord.open, cuts_of(run)))


def _of_sweep(directory: Path) -> Iterator[RunRecord]:
    try:
        sweep = read_object(directory / SWEEP)
        for job in sweep["jobs"]:
            yield from _of_job(directory, sweep, job)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{SWEEP}: {error!r}"
        yield RunRecord(directory, directory.name, "damaged", problem=problem, sweep=directory)


def _of_job(directory: Path, sweep: dict[str, Any], job: dict[str, Any]) -> Iterator[RunRecord]:
    # A job without a run is listed all the same.
    path = (directory / job["run"]).resolve() if job.get("run") else directory
    places = [path, *sorted(path.glob("seed_*"))] if path != directory else []
    runs = [run for place in places if (run := RunRecord.open(place)) is not None]
    name = f"{directory.name} {job['number']} {job['label']}".strip()
    objectives = tuple((o["metric"], o["direction"]) for o in sweep.get("objectives", ()))
    values = tuple(nan if value is None else float(value) for value in job.get("values") or ())
    # Trials of a search may end after training, without other metrics.
    trial_metrics = {metric: value for (metric, _), value in zip(objectives, values, strict=False)}
    for each in places:
        yield from _cuts(each)
    for place, run in enumerate(runs or [_without_directory(path, name, job["state"])]):
        # The run's own state counts, unless its process had no time to write it.
        unwritten = run.state in UNEXPLAINED_STATES and job["state"] in ENDED_STATES
        own, seen = run.problem, job.get("problem") or ""
        yield replace(
            run,
            metrics={**trial_metrics, **run.metrics},
            sweep=directory,
            state=job["state"] if unwritten else run.state,
            problem=(seen or own) if unwritten else (own or seen),
            log=directory / job["log"] if job.get("log") else None,
            objectives=objectives,
            values=values if place == 0 else (),  # a trial of many seeds counts once
        )


def _without_directory(path: Path, name: str, state: str) -> RunRecord:
    """A job without a run directory; that of a finished job was moved or deleted."""
    problem = f"no run in {path} any more: moved or deleted" if state == "finished" else ""
    return RunRecord(path, name, "missing" if problem else state, problem=problem)


def _with_names(runs: list[RunRecord]) -> list[RunRecord]:
    """The runs, each with the end of its path that no other has."""
    unnamed = [run for run in runs if not run.name]
    ends = shortest_ends([run.path.parts for run in unnamed])
    names = {run.path: "/".join(end) for run, end in zip(unnamed, ends, strict=True)}
    return [replace(run, name=run.name or names[run.path]) for run in runs]
