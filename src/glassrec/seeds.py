"""One setting with many seeds: a run for each, then the mean and the spread of every metric."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from glassrec.artifacts import Metrics, StoredTable
from glassrec.artifacts.file_list import METRICS
from glassrec.metrics.metadata import format_metric, primary_metrics
from glassrec.metrics.paired import holm, paired_t
from glassrec.run import SEEDS, replacing
from glassrec.spelling import counted


def each(seeds: Collection[int], directory: Path, job: Callable[[int], bool]) -> str:
    """Run the job of each seed, then write and print the table of those that succeeded.

    Args:
        seeds: each has its run in `directory/seed_K`.
        directory: gets the table.
        job: runs a seed, reports its errors, and returns whether it succeeded.

    Returns:
        A message about the seeds that failed; empty if none did.
    """
    failed = []
    for place, seed in enumerate(seeds, start=1):
        print(f"seed      {seed}, {place} of {len(seeds)}", flush=True)
        if not job(seed):
            failed.append(seed)
    frame = table(directory, [seed for seed in seeds if seed not in failed])
    _report(frame, directory / SEEDS)
    if not failed:
        return ""
    covered = f"; {SEEDS} covers the other {len(seeds) - len(failed)}" if len(frame) else ""
    return f"failed: {', '.join(f'seed {seed}' for seed in failed)}{covered}"


def _report(frame: pd.DataFrame, path: Path) -> None:
    if frame.empty:
        path.unlink(missing_ok=True)  # an older one is stale
        return
    with replacing(path) as part:
        StoredTable(frame).save(part)
    for line in summary(frame):
        print(f"seeds     {line}")
    print(f"results   {path}", flush=True)


def table(directory: Path, seeds: Iterable[int]) -> pd.DataFrame:
    """A row a metric: its mean, its standard deviation (of a sample), n, and a column a seed.

    Beside them are the 95 % interval of the mean, `low` to `high`, and for a pruned model the
    paired `change` from the trained one, with its interval; that of a primary metric also has a p
    value, corrected for all of these by Holm's method. A metric that is not a number, or not there,
    in some of the runs has a smaller n. The table is empty where no run was evaluated.
    """
    found = {f"seed_{seed}": directory / f"seed_{seed}" / METRICS.name for seed in seeds}
    values = pd.DataFrame(
        {name: Metrics.load(path).values for name, path in found.items() if path.is_file()}
    ).sort_index()
    moments = {"mean": values.mean(axis=1), "std": values.std(axis=1), "n": values.count(axis=1)}
    parts = [pd.DataFrame(moments), _tested(values)[["low", "high"]], _changes(values), values]
    return pd.concat(parts, axis=1).rename_axis("metric").reset_index()


def _tested(values: pd.DataFrame) -> pd.DataFrame:
    return paired_t(values.to_numpy(float)).set_index(values.index)


def _changes(values: pd.DataFrame) -> pd.DataFrame:
    """The paired changes of metrics by pruning, in the rows of the pruned model."""
    before = [name for name in values.index if f"pruned/{name}" in values.index]
    after = [f"pruned/{name}" for name in before]
    found = _tested(values.loc[after] - values.loc[before].to_numpy())
    tests = [name.removeprefix("test/") for name in before if name.startswith("test/")]
    primary = [f"pruned/test/{name}" for name in primary_metrics(tests)]
    found["p_holm"] = pd.Series(holm(found.loc[primary, "p"].to_numpy()), primary)
    found = found[["difference", "low", "high", "p_holm"]].add_prefix("change_")
    return found.rename(columns={"change_difference": "change"})


def summary(frame: pd.DataFrame) -> list[str]:
    """`test/rmse 0.9331 ± 0.0017 as trained, 0.9331 ± 0.0017 pruned (5 seeds)`, for some rows."""
    rows = {str(row["metric"]): row for row in frame.to_dict("records")}
    tests = [name.removeprefix("test/") for name in rows if name.startswith("test/")]
    return [
        f"{name} {_spread(name, rows)} as trained, {_spread(f'pruned/{name}', rows)} pruned "
        f"({counted(int(rows[name]['n']), 'seed')})"
        for name in [*(f"test/{metric}" for metric in primary_metrics(tests)), "parameters"]
    ]


def _spread(name: str, rows: Mapping[str, Mapping[Any, float]]) -> str:
    row = rows[name]
    ends = [row["mean"], *([row["std"]] if row["n"] > 1 else [])]
    if name.endswith("parameters"):
        return " ± ".join(f"{value:,.0f}" for value in ends)
    return " ± ".join(format_metric(name, value, row["mean"]) for value in ends)
