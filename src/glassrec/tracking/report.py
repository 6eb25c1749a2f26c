"""`glassrec wandb-report`: a W&B report of a group of runs, made from what W&B knows of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from glassrec.metrics.metadata import primary_metrics, sign

MOST_SETTINGS = 8
"""Axes of the parallel coordinates besides quality; more cannot be read."""

SIZE = "pruned/parameters"

WIDE, LEFT, RIGHT = (
    {"x": 0, "w": 24, "h": 9}, {"x": 0, "w": 12, "h": 9}, {"x": 12, "w": 12, "h": 9}
)  # fmt: skip
"""Places in W&B's 24 columns."""


class Known(NamedTuple):
    """A run, as W&B knows it."""

    config: Mapping[str, Any]
    summary: Mapping[str, Any]


def main(words: Sequence[str]) -> int:
    """Write the report and print its address.

    Raises:
        ValueError: a package or a key is missing, or there is nothing to report about.
    """
    asked = _parser().parse_args(words)
    try:
        import wandb
        import wandb_workspaces.reports.v2  # noqa: F401  asked for before the network is
    except ImportError:
        raise ValueError(
            'wandb-report needs wandb-workspaces: pip install "glassrec[reports]"'
        ) from None
    if not wandb.login(prompt=False):
        raise ValueError(
            "wandb-report works online, and there is no key: set WANDB_API_KEY, or `wandb login`"
        )
    api = wandb.Api()
    entity = str(asked.entity or api.default_entity)
    found = api.runs(f"{entity}/{asked.project}", filters={"group": asked.group})
    runs = [Known(run.config, dict(run.summary_metrics or {})) for run in found]
    made = report(asked.group, runs, asked.project, entity, asked.title)
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
    parser.add_argument("--entity", help="the user or team; default: the key's own")
    parser.add_argument("--title", help="default: the group")
    return parser


def report(
    group: str, runs: Sequence[Known], project: str, entity: str, title: str | None = None
) -> Any:
    """The report, not saved yet.

    Raises:
        ValueError: there are no runs, or none of them was evaluated.
    """
    from wandb_workspaces.reports import v2 as wr

    quality, differ = _quality(group, runs), differing(runs)
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
    story = f"{len(runs)} runs, of which {evaluated} were evaluated. " + (
        f"They differ in {', '.join(differ)}." if differ else "Their settings are the same."
    )
    return wr.Report(
        project=project,
        entity=entity,
        title=title or group,
        description="Written by glassrec wandb-report",
        width="fluid",
        blocks=[wr.P(story), wr.PanelGrid(runsets=[runset], panels=_panels(quality, differ))],
    )


def _quality(group: str, runs: Sequence[Known]) -> str:
    """The test metric that tells most."""
    if not runs:
        raise ValueError(f"W&B has no runs of the group {group!r}; send offline ones: wandb sync")
    test = "test/"
    names = {n.removeprefix(test) for run in runs for n in run.summary if n.startswith(test)}
    telling = primary_metrics(sorted(names))
    if not telling:
        raise ValueError(f"no run of the group {group!r} was evaluated: none has a test metric")
    return test + telling[0]


def differing(runs: Sequence[Known]) -> list[str]:
    """The settings that differ, those of the model first.

    A name with a dot is an agent's, of a setting that the run tells itself under another name.
    """
    names = dict.fromkeys(name for run in runs for name in run.config if "." not in name)
    differ = [n for n in names if len({repr(run.config.get(n)) for run in runs}) > 1]
    order = ("model", "seed", "data", "optimizer", "objective", "trainer", "explain", "prune")
    slots = {slot: place for place, slot in enumerate(order)}
    found = sorted(differ, key=lambda name: slots.get(name.split("/")[0], len(slots)))
    return found[:MOST_SETTINGS]


def _panels(quality: str, differ: Sequence[str]) -> list[Any]:
    """Quality over settings and size, then curves."""
    return [_settings(quality, differ), *_sizes(quality), *_curves(quality)]


def _settings(quality: str, differ: Sequence[str]) -> Any:
    """What the settings do to quality, a line a run."""
    from wandb_workspaces.reports import v2 as wr

    axis = wr.ParallelCoordinatesPlotColumn
    return wr.ParallelCoordinatesPlot(
        title="What the settings do to quality",
        columns=[
            *(axis(wr.Config(name)) for name in differ),
            axis(wr.SummaryMetric(SIZE), log=True),
            axis(wr.SummaryMetric(quality), inverted=sign(quality) < 0),
        ],
        layout=wr.Layout(y=0, **WIDE),
    )


def _sizes(quality: str) -> list[Any]:
    """Quality against size, before and after the cut."""
    from wandb_workspaces.reports import v2 as wr

    return [
        wr.ScatterPlot(
            title=f"Quality against size, {words}",
            x=wr.SummaryMetric(f"{prefix}parameters"),
            y=wr.SummaryMetric(f"{prefix}{quality}"),
            log_x=True,
            layout=wr.Layout(y=9, **place),
        )
        for words, prefix, place in (("as trained", "", LEFT), ("pruned", "pruned/", RIGHT))
    ]


def _curves(quality: str) -> list[Any]:
    """Curves of learning, and of pruning by each score."""
    from wandb_workspaces.reports import v2 as wr

    validated = f"val/{quality.removeprefix('test/')}"
    learning = ("train/loss", LEFT), (validated, RIGHT)
    return [
        *(
            wr.LinePlot(
                title=name, x="epoch", y=[name], title_x="epoch", layout=wr.Layout(y=18, **place)
            )
            for name, place in learning
        ),
        wr.LinePlot(
            title=f"{validated} over the share of the units that is cut",
            x="prune/share",
            metric_regex=f"prune/.*/{validated}",
            title_x="share",
            layout=wr.Layout(y=27, **WIDE),
        ),
    ]
