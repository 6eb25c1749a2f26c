"""The comparison as CSV and parquet: a row a run, a row a setting, and tables of all runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from glassrec.compare.comparison import Comparison, Setting, Task
from glassrec.compare.differences import said
from glassrec.compare.found import Found
from glassrec.run import replacing


def write(comparison: Comparison, directory: Path) -> None:
    """Write `runs` and `settings`, each as CSV and as parquet; whole or not at all."""
    for name, frame in (("runs", runs(comparison)), ("settings", settings(comparison))):
        with replacing(directory / f"{name}.csv") as part:
            frame.to_csv(part, index=False)
        with replacing(directory / f"{name}.parquet") as part:
            frame.to_parquet(part, index=False)


def write_joined(name: str, found: Iterable[Found], directory: Path) -> None:
    """Write a table that runs hold as one CSV, with the name and the seed of the run in each row.

    Raises:
        ValueError: none of the runs has it.
    """
    parts = [
        frame.assign(run=run.name, seed=run.seed)
        for run in found
        if (frame := run.table(name)) is not None
    ]
    if not parts:
        raise ValueError(f"--table: no run has a {name}.parquet or a {name}.json")
    whole = pd.concat(parts)
    whole = whole[list(dict.fromkeys(["run", "seed", *whole]))]
    with replacing(directory / f"{name}.csv") as part:
        whole.to_csv(part, index=False)


def runs(comparison: Comparison) -> pd.DataFrame:
    """A row a run, the best setting of each task first: where it is, what varies, all metrics."""
    rows = [
        _run(run) | {"task": task.name, "rank": _rank(task, place)}
        for task in comparison.tasks
        for place, setting in enumerate(task.settings)
        for run in setting.runs
    ]
    rows += [_run(run) | {"task": "", "rank": None} for run in comparison.strays]
    found = [*(run for task in comparison.tasks for run in task.runs), *comparison.strays]
    varies = _settings(comparison.labels, [run.settings for run in found])
    metrics = pd.DataFrame([run.metrics for run in found])
    return _beside(pd.DataFrame(rows), varies, metrics.sort_index(axis=1))


def settings(comparison: Comparison) -> pd.DataFrame:
    """A row a setting, the best of each task first: `X`, `X_std` and `X_n` of each metric X."""
    found = [
        (task, place, setting)
        for task in comparison.tasks
        for place, setting in enumerate(task.settings)
    ]
    rows = [
        {"task": task.name, "rank": _rank(task, place), "ranked_by": task.by,
         "runs": len(setting.runs), "notes": ", ".join(setting.notes)}
        for task, place, setting in found
    ]  # fmt: skip
    first = [setting.runs[0].settings for _, _, setting in found]
    metrics = pd.DataFrame([_moments(setting) for _, _, setting in found])
    return _beside(
        pd.DataFrame(rows), _settings(comparison.labels, first), metrics.sort_index(axis=1)
    )


def _run(run: Found) -> dict[str, Any]:
    return {
        "run": run.name, "path": str(run.path), "sweep": run.sweep, "state": run.state,
        "stage": run.stage, "problem": run.problem, "seed": run.seed,
        "epochs": None if run.history is None else len(run.history), "best_epoch": run.best_epoch,
    }  # fmt: skip


def _rank(task: Task, place: int) -> int | None:
    return place + 1 if task.ranked(task.settings[place]) else None


def _moments(setting: Setting) -> dict[str, float]:
    return {
        **setting.mean,
        **{f"{name}_std": value for name, value in setting.std.items()},
        **{f"{name}_n": value for name, value in setting.n.items()},
    }


def _settings(labels: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A column a setting, empty where there is none; numbers where all are, text otherwise."""
    return pd.DataFrame(
        {label: _column([row.get(name, "") for row in rows]) for name, label in labels.items()},
        index=range(len(rows)),
    )


def _column(values: Sequence[Any]) -> pd.Series[Any]:
    there = [value for value in values if value != ""]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in there):
        return pd.Series([said(value) for value in values], dtype="string")
    kind = "Int64" if all(isinstance(value, int) for value in there) else "Float64"
    return pd.Series([None if value == "" else value for value in values], dtype=kind)


def _beside(about: pd.DataFrame, varies: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """All columns; a setting that is called like one of the others is `setting NAME`."""
    taken = {*about, *metrics}
    renamed = varies.rename(columns=lambda name: f"setting {name}" if name in taken else name)
    columns = pd.concat([about, renamed, metrics], axis=1)
    return columns.astype(
        {name: "Int64" for name in ("seed", "rank", "epochs", "best_epoch") if name in columns}
    )
