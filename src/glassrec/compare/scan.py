"""All runs below some directories, with those that a sweep lists and that never came to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

from glassrec.compare.differences import shortest
from glassrec.compare.directory import Found, facts, read

SWEEP = "sweep.json"

_SPEECHLESS = ("crashed", "damaged", "failed")
"""States of a run of which its sweep may know more: it was there when the process ended."""

_ENDED = ("failed", "killed", "interrupted", "stopped")
"""States of a job whose sweep saw it end, and not well."""


def scan(directories: Sequence[Path]) -> list[Found]:
    """All runs in some directories, each once, in the order of their paths.

    Args:
        directories: each is a run, the directory of a sweep, or a folder with any of those in it,
            at any depth. A sweep's jobs count that never made a directory, too.

    Raises:
        ValueError: a directory does not exist, or there is no run in it.
    """
    found: dict[tuple[Path, str], Found] = {}
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
            # What a sweep says of its job is kept, whichever way the run is found first.
            if run.sweep or (run.path, run.name) not in found:
                found[run.path, run.name] = run
    return _named([found[key] for key in sorted(found)])


def _within(directory: Path, seen: set[Path]) -> Iterator[Found]:
    """The runs in a directory. A link may lead in a circle: no directory is entered twice."""
    if directory in seen:
        return
    seen.add(directory)
    try:
        str(directory).encode()  # as all that is written of it will be
        sweep = (directory / SWEEP).is_file()
        run = None if sweep else read(directory)
        inside = [] if run else sorted(each for each in directory.iterdir() if each.is_dir())
    except OSError as error:
        yield Found(directory, "", "damaged", problem=f"it cannot be read: {error.strerror}")
        return
    except UnicodeEncodeError:
        name = directory.name.encode(errors="replace").decode()
        yield Found(directory.parent, name, "damaged", problem="its name is not UTF-8: rename it")
        return
    if sweep:
        yield from _of_sweep(directory)
    if run is not None:
        yield run
    for each in inside:
        if not each.name.startswith("."):
            yield from _within(each.resolve(), seen)


def _of_sweep(directory: Path) -> Iterator[Found]:
    """The runs of a sweep's jobs; a job that has none is listed all the same."""
    try:
        sweep = facts(directory / SWEEP)
        for job in sweep["jobs"]:
            yield from _of_job(directory, sweep, job)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{SWEEP}: {error!r}"
        yield Found(directory, directory.name, "damaged", problem=problem, sweep=directory)


def _of_job(directory: Path, sweep: dict[str, Any], job: dict[str, Any]) -> Iterator[Found]:
    path = (directory / job["run"]).resolve() if job.get("run") else directory
    places = [path, *sorted(path.glob("seed_*"))] if path != directory else []
    runs = [run for place in places if (run := read(place)) is not None]
    name = f"{directory.name} {job['number']} {job['label']}".strip()
    objectives = tuple((o["metric"], o["direction"]) for o in sweep.get("objectives", ()))
    values = tuple(nan if value is None else float(value) for value in job.get("values") or ())
    # Trials of a search may end with training, and have no other metrics.
    came_to = {metric: value for (metric, _), value in zip(objectives, values, strict=False)}
    for place, run in enumerate(runs or [_absent(path, name, job["state"])]):
        # A run knows best how it ended, unless it had no time to say so.
        unsaid = run.state in _SPEECHLESS and job["state"] in _ENDED
        told, heard = run.problem, job.get("problem") or ""
        yield replace(
            run,
            metrics=came_to | run.metrics,
            sweep=directory,
            state=job["state"] if unsaid else run.state,
            problem=(heard or told) if unsaid else (told or heard),
            log=directory / job["log"] if job.get("log") else None,
            objectives=objectives,
            values=values if place == 0 else (),  # with many seeds, a trial is one all the same
        )


def _absent(path: Path, name: str, state: str) -> Found:
    """A job without a run directory; one that had finished has lost it."""
    problem = f"no run in {path} any more: moved or deleted" if state == "finished" else ""
    return Found(path, name, "missing" if problem else state, problem=problem)


def _named(runs: list[Found]) -> list[Found]:
    """The runs, each with the end of its path that no other has."""
    nameless = [run for run in runs if not run.name]
    ends = shortest([run.path.parts for run in nameless])
    names = {run.path: "/".join(end) for run, end in zip(nameless, ends, strict=True)}
    return [replace(run, name=run.name or names[run.path]) for run in runs]
