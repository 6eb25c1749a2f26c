"""The comparison as CSV and parquet: a row per run, a row per setting, and tables of all runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glassrec.artifacts.formats import write_csv
from glassrec.compare.run_comparison import MAX_DETAILED, ComparisonGroup, RunComparison, Setting
from glassrec.compare.setting_names import setting_labels, value_text
from glassrec.compare.verdict import paired_differences
from glassrec.metrics.paired import statement
from glassrec.report.run_record import RunRecord
from glassrec.run import replacing


def write_tables(comparison: RunComparison, directory: Path) -> None:
    """Write `runs`, `settings` and `differences` as CSV and parquet; whole or not at all."""
    tables = {"runs": run_rows, "settings": setting_rows, "differences": difference_rows}
    for name, rows in tables.items():
        frame = rows(comparison)
        with replacing(directory / f"{name}.csv") as part:
            write_csv(frame, part)
        with replacing(directory / f"{name}.parquet") as part:
            frame.to_parquet(part, index=False)


def write_joined(name: str, runs: Iterable[RunRecord], directory: Path) -> None:
    """Write a table that runs hold as one CSV, with the name and the seed of the run in each row.

    Raises:
        ValueError: none of the runs has it.
    """
    parts = [
        frame.assign(run=run.name, seed=run.seed)
        for run in runs
        if (frame := run.named_table(name)) is not None
    ]
    if not parts:
        raise ValueError(f"--table: no run has a {name}.parquet or a {name}.json")
    joined = pd.concat(parts)
    joined = joined[list(dict.fromkeys(["run", "seed", *joined]))]
    with replacing(directory / f"{name}.csv") as part:
        write_csv(joined, part)


def run_rows(comparison: RunComparison) -> pd.DataFrame:
    """A row per run, the best setting of each group first: path, what varies, all metrics."""
    rows = [
        ({"task": group.name, "rank": rank}, run)
        for group, rank, setting in _ranked(comparison)
        for run in setting.runs
    ] + [({"task": "", "rank": None}, run) for run in comparison.ungrouped]
    about = [
        {"run": run.name, "path": str(run.path), "sweep": run.sweep.name if run.sweep else "",
         "state": run.state, "stage": run.stage, "problem": run.problem, "seed": run.seed,
         "epochs": run.epochs, "best_epoch": run.best_epoch} | place
        for place, run in rows
    ]  # fmt: skip
    settings = [run.settings for _, run in rows]
    return _joined(about, comparison.labels, settings, [run.metrics for _, run in rows])


def setting_rows(comparison: RunComparison) -> pd.DataFrame:
    """A row per setting, the best of each group first: `X`, `X_std` and `X_n` of each metric X."""
    found = [*_ranked(comparison)]
    about = [
        {"task": group.name, "rank": rank, "ranked_by": group.by, "runs": len(setting.runs),
         "notes": ", ".join(setting.notes)}
        for group, rank, setting in found
    ]  # fmt: skip
    moments = [
        setting.mean
        | {f"{name}_std": value for name, value in setting.std.items()}
        | {f"{name}_n": value for name, value in setting.n.items()}
        for _, _, setting in found
    ]
    first = [setting.runs[0].settings for _, _, setting in found]
    return _joined(about, comparison.labels, first, moments)


def difference_rows(comparison: RunComparison) -> pd.DataFrame:
    """A row per metric and pair of the best settings of a group, with its test paired by seed.

    `first` and `other` are the settings and their ranks; `difference` is how much better the first
    one is. `p_holm` is corrected for all pairs of settings of the group by that metric.
    """
    found = []
    for group in comparison.groups:
        ranked = [each for each in group.settings if group.is_ranked(each)]
        labels = np.array(setting_labels([each.differs for each in ranked], group.labels), object)
        for metric in dict.fromkeys([group.by, *group.shown]) if len(ranked) > 1 else ():
            tests = paired_differences(ranked, metric)
            tests = tests[(tests["other"] < MAX_DETAILED) & (tests["n"] > 0)]
            places = {end: tests.pop(end) for end in ("first", "other")}
            about: dict[str, Any] = {"task": group.name, "metric": metric}
            about |= {end: labels[place] for end, place in places.items()}
            about |= {f"{end}_rank": place + 1 for end, place in places.items()}
            shown = [statement(test) for test in tests.to_dict("records")]
            found.append(pd.DataFrame(about, tests.index).join(tests).assign(shown=shown))
    return pd.concat([*found, pd.DataFrame(columns=["task", "metric"])], ignore_index=True)


def _ranked(comparison: RunComparison) -> Iterator[tuple[ComparisonGroup, int | None, Setting]]:
    for group in comparison.groups:
        for place, setting in enumerate(group.settings, start=1):
            yield group, place if group.is_ranked(setting) else None, setting


def _joined(
    about: Sequence[dict[str, Any]], labels: Mapping[str, str],
    settings: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, float]],
) -> pd.DataFrame:  # fmt: skip
    """All columns; a setting with the name of one of the others is `setting NAME`."""
    first, last = pd.DataFrame(about), pd.DataFrame(metrics).sort_index(axis=1)
    taken = {*first, *last}
    varies = {
        f"setting {label}" if label in taken else label: _column(
            [row.get(name, "") for row in settings]
        )
        for name, label in labels.items()
    }
    columns = pd.concat([first, pd.DataFrame(varies, index=first.index), last], axis=1)
    whole = [name for name in ("seed", "rank", "epochs", "best_epoch") if name in first]
    return columns.astype(dict.fromkeys(whole, "Int64"))


def _column(values: Sequence[Any]) -> pd.Series[Any]:
    """A setting, empty where there is none: numbers where all are, text otherwise."""
    there = [value for value in values if value != ""]
    if all(type(value) in (int, float) for value in there):
        return pd.Series([None if value == "" else value for value in values]).convert_dtypes()
    return pd.Series([value_text(value) for value in values], dtype="string")
