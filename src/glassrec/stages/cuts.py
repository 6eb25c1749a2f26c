"""The cuts of a run compared: table, lines for the terminal, and the tracker's curve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import pandas as pd

from glassrec.artifacts import StoredTable
from glassrec.artifacts.file_list import CUTS_COMPARED, CUTS_TABLE, DATA, METRICS, REPORT
from glassrec.report.cut_figures import cuts_compared
from glassrec.report.cut_table import best_line, cut_table, text_table
from glassrec.run import key_of
from glassrec.stages.context import Context
from glassrec.stages.outputs import Drawing, report
from glassrec.tracking import Log, TablePreview


def compare_cuts(
    context: Context, log: Log, draw: Callable[[Iterable[Drawing]], None]
) -> list[str]:
    """Compare the cuts that are there now; the table in lines, with the best on validation.

    `draw` draws figures that are missing.
    """
    run, facts = context.run, context.run.load(DATA).values
    run.forget(CUTS_TABLE)  # cuts that are as they were give equal files
    run.forget(REPORT)
    monitor, mode = facts["monitor"], facts.get("monitor_mode")
    frame = cut_table(run.dir, monitor, mode)
    if frame.empty:
        return []
    context.once(CUTS_TABLE, lambda: StoredTable(frame))
    draw([(CUTS_COMPARED, partial(cuts_compared, frame, monitor, mode))])
    if run.has(METRICS):
        report(context, log)
    for row in frame.drop(columns="best").to_dict("records"):
        points = partial(_points, row)
        log.curve("cuts/share", key_of(points.args), points, name=f"cuts/{row['cut']}")
    preview = TablePreview(frame, len(frame), CUTS_TABLE.name)
    log.table("cuts", run.sha256_of(CUTS_TABLE), lambda: preview)
    table = text_table(frame, monitor).rename(columns={"cut": ""})
    table[""] = table[""].str.ljust(table[""].str.len().max())
    best = f"* {best_line(frame, monitor)}; the test split had no part in this choice"
    return [*table.to_string(index=False).splitlines(), best]


def _points(row: Mapping[Any, Any]) -> Iterator[dict[str, float]]:
    """Share, and quality on both splits: under its name, and under the score that ranked."""
    asked, score = row["share"], row["score"]
    found = {name.removeprefix("pruned/"): row[name] for name in row if name.startswith("pruned/")}
    kept = {n: v for n, v in found.items() if n.startswith(("val/", "test/")) and pd.notna(v)}
    point = {"cuts/share": row["neurons"] if pd.isna(asked) else asked}
    point |= {f"cuts/{name}": value for name, value in kept.items()}
    yield point | ({f"cuts/{score}/{n}": v for n, v in kept.items()} if score else {})
