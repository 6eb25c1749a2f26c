"""What the page tells of one task: its table, its charts, and what they show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from typing import Any

import pandas as pd
from markupsafe import Markup

from glassrec.compare import charts, findings, heat
from glassrec.compare.columns import columns
from glassrec.compare.comparison import Comparison, Setting, Task
from glassrec.compare.explanations import agreements
from glassrec.compare.found import Found
from glassrec.compare.shown import Shown, carried, coloured, curves, cut, hand, learned
from glassrec.report.page import counted
from glassrec.report.style import APART
from glassrec.spelling import listed

MOST = 30
"""Settings of which curves and explanations are read and drawn: the best of a task."""

SIZES = {
    "parameters": "Which model is good for its size?",
    "flops": "Which model is good for what a prediction costs?",
}

LEARNING = "Would longer training help?"
CUTTING = "How much can be cut before quality falls?"
CARRYING = "How few units carry the prediction?"
INPUTS = "Do the models rely on the same inputs?"

WHY = {
    LEARNING: "learning curves (no run has two epochs of the metric that ranks)",
    CUTTING: "pruning curves (no run has drawn them)",
    CARRYING: "neurons (no run has explained them)",
    INPUTS: "importance of inputs (no run has explained its predictions)",
}
"""Why a question is not answered."""

BASIS = {
    "learning": "On the validation split, after each epoch.",
    "cutting": "On the test split; units of least conductance go first, their means folded in.",
    "carrying": "Units of each layer ranked by mean |conductance|, mean over layers; dashed: 90 %.",
}


@dataclass(frozen=True)
class Picture:
    """A chart, the question above it, what it rests on, and its colours."""

    heading: str
    picture: Markup
    rests: str
    legend: Sequence[Shown]


@dataclass(frozen=True)
class Chapter:
    """A task of the page."""

    title: str
    lead: str
    colours: str
    shown: list[Shown]
    best: list[Shown]
    """those of which curves and explanations are read"""
    labels: dict[str, str]
    usual: dict[str, str]
    """what most settings have, by the name of what varies"""
    differing: str
    columns: list[Any]
    charts: list[Picture]
    heats: list[heat.Heat]
    certified: list[tuple[Shown, Found, dict[str, Any]]]
    proof: str
    missing: str


def chapter(comparison: Comparison, task: Task, first: int) -> Chapter:
    """What the page tells of a task.

    Args:
        comparison: of all runs.
        task: one of its tasks.
        first: the number of its first setting among all of the page.
    """
    shown = coloured(task, comparison.labels, first)
    best, prefix = shown[:MOST], f"t{first}"
    heats = list(_heats(task, best))
    drawn = [
        *_sizes(prefix, task, shown),
        *_searches(prefix, comparison, shown),
        *_curves(prefix, task, best),
    ]
    certified = list(_certified(best))
    return Chapter(
        title=task.name,
        lead=_lead(task),
        colours=_colours(shown),
        shown=shown,
        best=best,
        labels=task.labels,
        usual={name: _usual(shown, name) for name in task.labels},
        differing=_differing(task),
        columns=columns(task, shown),
        charts=drawn,
        heats=heats,
        certified=certified,
        proof=findings.of_proof([told for _, _, told in certified]) if certified else "",
        missing=_missing({each.heading for each in drawn} | {each.heading for each in heats}),
    )


def spread(setting: Setting, metric: str) -> str:
    """`0.6812 ± 0.0021 over 3 seeds`."""
    mean, std, n = (told.get(metric, nan) for told in (setting.mean, setting.std, setting.n))
    written = hand(metric)
    return (
        f"{written(mean)} ± {written(std)} over {n} seeds" if n > 1 else f"{written(mean)}, one run"
    )


def _lead(task: Task) -> str:
    what = f"{counted(len(task.runs), 'run')} of {counted(len(task.settings), 'setting')}"
    if not task.by:
        return f"{what}; none has been evaluated yet."
    better = "more" if task.sign > 0 else "less"
    return (
        f"{what}, the best by {task.by} first ({better} is better). Means over seeds "
        "± one standard deviation."
    )


def _differing(task: Task) -> str:
    """What the table of differences says; nothing without any."""
    if not task.labels:
        return ""
    limited = f" The best {MOST} of them are shown." if len(task.settings) > MOST else ""
    return (
        f"Only what varies: {counted(len(task.labels), 'setting')} of each configuration. Pale: "
        f"what most have; a dash: a setting that this model does not have.{limited}"
    )


def _usual(shown: Sequence[Shown], name: str) -> str:
    """What more than half of the settings have; nothing if there is no such value."""
    value, count = Counter(each.value(name) for each in shown).most_common(1)[0]
    return value if 2 * count > len(shown) else ""


def _missing(there: set[str]) -> str:
    """What could not be shown, and why."""
    found = [why for asked, why in WHY.items() if asked not in there]
    return f"Not shown: {'; '.join(found)}." if found else ""


def _colours(shown: Sequence[Shown]) -> str:
    first = (
        f"The best {len(APART)} settings have colours of their own, the others are grey. "
        if len(shown) > len(APART)
        else "Colours are those of the table. "
    )
    return f"{first}Bands are one standard deviation over seeds."


def _sizes(prefix: str, task: Task, shown: Sequence[Shown]) -> Iterator[Picture]:
    """Quality against each cost that is known."""
    if not task.shown:
        return
    metric = task.shown[0]
    there = [each for each in shown if each.setting.evaluated]
    for size, asked in SIZES.items():
        picture = charts.against_size(f"{prefix}-{size}", asked, there, metric, size)
        if picture is not None:
            rests = (
                f"{metric} on the test split, mean over seeds. ● as trained, ◇ after the cut; "
                "dashed: no other is better and smaller."
            )
            yield Picture(asked, picture, rests, _legend(there))


def _searches(prefix: str, comparison: Comparison, shown: Sequence[Shown]) -> Iterator[Picture]:
    """The searches of two objectives that this task has trials of."""
    keys = {run.name: each.key for each in shown for run in each.runs}
    for number, search in enumerate(comparison.searches):
        if len(search.objectives) != 2 or not any(run.name in keys for run in search.trials):
            continue
        asked = f"What did the search “{search.name}” find?"
        goals = listed(f"{direction} {metric}" for metric, direction in search.objectives)
        front = counted(sum(search.front), "trial")
        rests = (
            f"{len(search.trials)} trials that ended, to {goals}; {front} on the front (dashed)."
        )
        picture = charts.trials(f"{prefix}-search{number}", asked, search, keys)
        yield Picture(asked, picture, rests, ())


def _curves(prefix: str, task: Task, best: Sequence[Shown]) -> Iterator[Picture]:
    """Learning, cutting, and what the strongest units carry."""
    told = f" The best {len(best)} settings." if len(best) == MOST else ""
    by = task.by if task.by.startswith("val/") else ""
    metric = next(iter(task.shown), "")
    for name, asked, of, across, upwards, say in (
        ("learning", LEARNING, partial(learned, metric=by),
         charts.EPOCHS, by, partial(findings.of_learning, metric=by)),
        ("cutting", CUTTING, partial(cut, metric=metric),
         charts.CUT, metric, partial(findings.of_cutting, metric=metric)),
        ("carrying", CARRYING, carried,
         charts.UNITS, charts.CARRIED, findings.of_carrying),
    ):  # fmt: skip
        found = [each for each in curves(best, of) if len(each[1]) > 1]
        if found:
            picture = charts.lines(f"{prefix}-{name}", asked, found, across, upwards)
            yield Picture(
                asked,
                picture,
                f"{say(found)} {BASIS[name]}{told}",
                _legend([each for each, _ in found]),
            )


def _legend(shown: Sequence[Shown]) -> Sequence[Shown]:
    return shown[: len(APART)]


def _heats(task: Task, best: Sequence[Shown]) -> Iterator[heat.Heat]:
    """What explanations say, setting by setting."""
    keys = {place: each.key for place, each in enumerate(best)}
    found = agreements(replace(task, settings=[each.setting for each in best]))
    if found:
        shares = found[0].by_setting.T.rename(index=keys)
        yield heat.table(
            INPUTS, findings.of_importance(shares),
            "In %: mean |attribution| of each input as a share of the sum over inputs, mean over "
            "seeds. "
            + _method(found[0].runs),
            best, heat.main_features(shares),
        )  # fmt: skip
        together = heat.agreement(found[0], best)
        if together.notna().to_numpy().any():
            yield heat.table(
                "Do the explanations agree?",
                findings.of_agreement(found[0].between_seeds, found[0].between_settings),
                "Spearman’s rank correlation of the importance of "
                f"{counted(shares.shape[1], 'input')}, mean over pairs of runs. "
                f"On the diagonal: two seeds of one setting.{_first(together)}",
                best, together, heat.correlation, (0.0, 1.0),
            )  # fmt: skip
    silence = heat.silent(best)
    if not silence.empty:
        yield heat.table(
            "Where are units silent?", findings.of_silence(silence),
            "In %: units of each layer that moved no explained prediction: candidates, of which "
            "the certificate then tells what is proven on all rows.",
            best, silence,
        )  # fmt: skip


def _first(together: pd.DataFrame) -> str:
    return f" The best {heat.TOGETHER} settings." if len(together) == heat.TOGETHER else ""


def _method(runs: Sequence[Found]) -> str:
    """How the first run was explained, and whether others were explained otherwise."""
    methods = [run.explanation["method"] for run in runs if run.explanation]
    return f"By {listed(dict.fromkeys(methods))}." if methods else ""


def _certified(best: Sequence[Shown]) -> Iterator[tuple[Shown, Found, dict[str, Any]]]:
    for each in best:
        for run in each.runs:
            if run.certificate is not None:
                yield each, run, _told(run.certificate)


def _told(certificate: dict[str, Any]) -> dict[str, Any]:
    """What a certificate comes to."""
    layers = certificate["layers"].values()
    units = sum(layer["before"] for layer in layers)
    gone = sum(each["count"] for layer in layers for each in layer["gone"])
    return {
        "level": certificate["level"],
        "exact": certificate["exact"],
        "units": units,
        "gone": gone,
        "share": gone / units if units else 0.0,
        "largest": certificate["max_abs_logit_difference"],
        "changed": certificate["rows_changed"],
        "rows": sum(certificate["rows"].values()),
        "hash": certificate["pruned"],
    }
