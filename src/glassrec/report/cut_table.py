"""All cuts of a run side by side: the table, its rows as text, and its section of a report."""

from __future__ import annotations

from math import isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd

from glassrec.artifacts.file_list import CUTS_TABLE, WEIGHTS
from glassrec.artifacts.pruning import levels_of
from glassrec.metrics.metadata import GROUPS, best_index, format_metric
from glassrec.report.blocks import Block, FigurePart, Section, TableBlock
from glassrec.report.formatting import COSTS, fixed, metric_name, sentence
from glassrec.report.run_record import RunRecord, pruned_share
from glassrec.run import ReadOnlyRun, cuts_of
from glassrec.spelling import counted

OWN, SHOWN = "(the run)", ("parameters", "flops")
"""The name of the cut that the run itself holds, and the costs in the table as text."""

TIME = [f"pruned/latency_ratio{end}_4096" for end in ("", "_low", "_high")]
"""Of both models in turns: the times of two cuts, taken at other moments, do not compare."""


def cut_table(run: Path, monitor: str, mode: str | None = None) -> pd.DataFrame:
    """A row for each evaluated cut of the present weights, that of the run itself among them.

    Columns: `cut`, its name; `best`, whether its metric `monitor` (`val/auroc`) is the best, the
    smaller cut among equals; `level`, `score`, `share`, and settings of pruning that differ;
    `neurons`, the share of all neurons that is pruned; then the metrics under their own names. It
    has no rows where there is no cut beside that of the run.
    """
    weights, rows = ReadOnlyRun(run, {}).recorded.get(WEIGHTS.name), []
    for record in filter(None, map(RunRecord.open, (run, *cuts_of(run)))):
        certificate = record.certificate if record.evaluated else None
        if certificate is not None and certificate.files[WEIGHTS.name] == weights:
            about = {"cut": OWN if record.path == run else record.path.name, "best": False}
            metrics = {n: v for n, v in record.metrics.items() if not {*GROUPS} & {*n.split("/")}}
            neurons = {"neurons": pruned_share(certificate)}
            rows.append(about | _settings(record) | neurons | metrics)
    frame = pd.DataFrame(rows)
    if not len(frame) or not len(cuts_of(run)):
        return frame.iloc[:0]
    settings = [name for name in map(str, frame) if name.startswith("prune.")]
    same = [name for name in settings if frame[name].dropna().nunique() < 2]
    frame = frame.drop(columns=same).sort_values("pruned/flops", kind="stable")
    best = best_index(monitor, frame[f"pruned/{monitor}"], mode)
    frame["best"] = frame.index == frame.index[best]
    return frame.sort_values(["score", "share", "cut"], ignore_index=True)


def _settings(record: RunRecord) -> dict[str, Any]:
    level = record.config["prune"]["level"]
    found: dict[str, Any] = {"level": level, "score": "", "share": nan}
    for name, value in record.settings.items():
        if name.startswith("prune.") and level in (levels_of(name) or [level]):
            plain = isinstance(value, int | float)
            short = name.removeprefix("prune.")
            found[short if short in found else name] = value if plain else str(value)
    found["score"] = found["score"].removesuffix("score")
    return {n: v for n, v in found.items() if not n.startswith(("prune.curves", "prune.chunk"))}


def text_table(frame: pd.DataFrame, monitor: str) -> pd.DataFrame:
    """The table as text, in the order of its rows; the model as trained comes first."""
    metric = monitor.removeprefix("val/")
    plain = [n for n in map(str, frame) if f"pruned/{n}" in frame]
    trained = frame.iloc[:1][plain].add_prefix("pruned/").assign(cut="as trained", best=False)
    rows = pd.concat([trained, frame], ignore_index=True)
    found = {"cut": [f"{cut} *" if best else cut for cut, best in rows[["cut", "best"]].to_numpy()]}
    for split, word in (("val", "validation"), ("test", "test")):
        values, change = rows[f"pruned/{split}/{metric}"], f"pruned/{split}/{metric}_change"
        found[f"{metric_name(metric)}, {word}"] = [format_metric(metric, each) for each in values]
        ends = rows.reindex(columns=[change, f"{change}_low", f"{change}_high"]).to_numpy(float)
        found[f"change, {word} (95 %)"] = [
            "" if isnan(low) else f"{fixed(point)} ({fixed(low)} to {fixed(high)})"
            for point, low, high in ends
        ]
    found |= {COSTS[n][0]: [COSTS[n][1](each) for each in rows[f"pruned/{n}"]] for n in SHOWN}
    times = rows.reindex(columns=TIME).to_numpy(float)
    found["time of 4,096 rows / as trained (95 %)"] = [
        "" if isnan(low) else f"{ratio:.2f} ({low:.2f} to {high:.2f})" for ratio, low, high in times
    ]
    return pd.DataFrame(found)


def best_line(frame: pd.DataFrame, monitor: str) -> str:
    """The cut with the best metric on validation, in a sentence without a full stop."""
    best, name = frame[frame["best"]].iloc[0], metric_name(monitor)
    value = format_metric(monitor, best[f"pruned/{monitor}"])
    less = 1 - best["pruned/flops"] / max(best["flops"], 1)
    start = f"of {counted(len(frame), 'cut')}, {best['cut']} has the best {name} on validation"
    return f"{start}, {value}, with {less:.1%} fewer FLOPs"


def cuts_section(run: RunRecord) -> Section | None:
    """Figure and table of all cuts; None of a run that has no others than its own."""
    frame = run.rows(CUTS_TABLE)
    if not len(frame) or run.data is None:
        return None
    rows = text_table(frame, run.data["monitor"])
    blocks: list[Block] = [
        FigurePart(
            run.figures["cuts"],
            "a metric on validation and test against the share of pruned neurons, for each score",
            "Each point is a cut of the same trained model; bars are 95 % intervals of its change. "
            "Choose by validation: the best of several values on test looks better than it is.",
        )
    ] if "cuts" in run.figures else []  # fmt: skip
    title = "All cuts (* best on validation; change: pruned minus as trained)"
    blocks.append(TableBlock(title, [*rows], rows.to_numpy().tolist()))
    finding = sentence(best_line(frame, run.data["monitor"]))
    return Section("cuts", "Several cuts of this run", finding, blocks)
