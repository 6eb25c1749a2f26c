"""`glassrec wandb-report`: a W&B report of a group of runs, made from W&B's own data of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from glassrec.metrics.metadata import primary_metrics, sign

MAX_AXES = 8
"""Settings in the parallel coordinates beside quality."""

SIZE = "pruned/parameters"

GROUP_ORDER = ("model", "seed", "data", "optimizer", "objective", "trainer", "explain", "prune")

WIDE, LEFT, RIGHT = (
    {"x": 0, "w": 24, "h": 9}, {"x": 0, "w": 12, "h": 9}, {"x": 12, "w": 12, "h": 9}
)  # fmt: skip
"""Places in W&B's 24 columns."""


class TrackedRun(NamedTuple):
    """A run as W&B has it."""

    config: Mapping[str, Any]
    summary: Mapping[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Write the report and print its address.

    Raises:
        ValueError: a package or a key is missing, or there is nothing to report about.
    """
    options = _parser().parse_args(arguments)
    try:
        import wandb
        import wandb_workspaces.reports.v2  # noqa: F401  checked before the network is used
    except ImportError:
        raise ValueError(
            'wandb-report needs wandb-workspaces: pip install "glassrec[reports]"'
        ) from None
    if not wandb.login(prompt=False):
        raise ValueError(
            "wandb-report works online, and there is no key: set WANDB_API_KEY, or `wandb login`"
        )
    api = wandb.Api()
    entity = str(options.entity or api.default_entity)
    found = api.runs(f"{entity}/{options.project}", filters={"group": options.group})
    runs = [TrackedRun(run.config, dict(run.summary_metrics or {})) for run in found]
    made = group_report(options.group, runs, options.project, entity, options.title)
    made.save()
    print(made.url)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="glassrec wandb-report",
        description="Write a W&B report of a group of runs: the runs side by side, quality against "
        "settings and size, learning and pruning curves. Works online; offline runs are sent with "
        "`wandb sync` first.",
    )
    parser.add_argument("group", metavar="GROUP", help="a sweep's name, or tracker.group")
    parser.add_argument("--project", default="glassrec", help="default: %(default)s")
    parser.add_argument("--entity", help="the user or team; default: that of the key")
    parser.add_argument("--title", help="default: the group")
    return parser


def group_report(
    group: str, runs: Sequence[TrackedRun], project: str, entity: str, title: str | None = None
) -> Any:
    """The report, not saved yet.

    Raises:
        ValueError: there are no runs, or none of them was evaluated.
    """
    from wandb_workspaces.reports import v2 as wr

    quality, differ = _main_metric(group, runs), differing(runs)
    columns = [f"config:{name}.value" for name in differ]
    results = [f"summary:{name}" for name in (quality, f"pruned/{quality}", SIZE)]
    runset = wr.Runset(
        entity=entity,
        project=project,
        name=group,
        filters=f"Metric('Group') == {group!r}",
        pinned_columns=["run:displayName", *columns, *results],
    )
    evaluated = sum(quality in run.summary for run in runs)
    text = f"{len(runs)} runs, of which {evaluated} were evaluated. " + (
        f"They differ in {', '.join(differ)}." if differ else "Their settings are the same."
    )
    return wr.Report(
        project=project,
        entity=entity,
        title=title or group,
        description="Written by glassrec wandb-report",
        width="fluid",
        blocks=[wr.P(text), wr.PanelGrid(runsets=[runset], panels=_panels(wr, quality, differ))],
    )


def _main_metric(group: str, runs: Sequence[TrackedRun]) -> str:
    if not runs:
        raise ValueError(f"W&B has no runs of the group {group!r}; send offline ones: wandb sync")
    names = {name for run in runs for name in run.summary if name.startswith("test/")}
    primary = primary_metrics(sorted(name.removeprefix("test/") for name in names))
    if not primary:
        raise ValueError(f"no run of the group {group!r} was evaluated: none has a test metric")
    return f"test/{primary[0]}"


def differing(runs: Sequence[TrackedRun]) -> list[str]:
    """The settings that differ, those of the model first.

    A name with a dot comes from an agent; the run itself records that setting under another name.
    """
    every = (name for run in runs for name in run.config)
    names = dict.fromkeys(n for n in every if "." not in n and n != "model/_target_")
    differ = [n for n in names if len({repr(run.config.get(n)) for run in runs}) > 1]
    order = {group: place for place, group in enumerate(GROUP_ORDER)}
    found = sorted(differ, key=lambda name: order.get(name.split("/")[0], len(order)))
    return found[:MAX_AXES]


def _panels(wr: Any, quality: str, differ: Sequence[str]) -> list[Any]:
    """Quality against settings and size, then learning and pruning curves."""
    axis = wr.ParallelCoordinatesPlotColumn
    validated = f"val/{quality.removeprefix('test/')}"
    return [
        wr.ParallelCoordinatesPlot(
            title="Quality by setting",
            columns=[
                *(axis(wr.Config(name)) for name in differ),
                axis(wr.SummaryMetric(SIZE), log=True),
                axis(wr.SummaryMetric(quality), inverted=sign(quality) < 0),
            ],
            layout=wr.Layout(y=0, **WIDE),
        ),
        *(
            wr.ScatterPlot(
                title=f"Quality against size, {label}",
                x=wr.SummaryMetric(f"{prefix}parameters"),
                y=wr.SummaryMetric(f"{prefix}{quality}"),
                log_x=True,
                layout=wr.Layout(y=9, **place),
            )
            for label, prefix, place in (("as trained", "", LEFT), ("pruned", "pruned/", RIGHT))
        ),
        *(
            wr.LinePlot(
                title=name, x="epoch", y=[name], title_x="epoch", layout=wr.Layout(y=18, **place)
            )
            for name, place in (("train/loss", LEFT), (validated, RIGHT))
        ),
        wr.LinePlot(
            title=f"{validated} against the pruned share of neurons",
            x="prune/share",
            metric_regex=f"prune/.*/{validated}",
            title_x="share",
            layout=wr.Layout(y=27, **WIDE),
        ),
    ]
