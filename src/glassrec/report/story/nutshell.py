"""The whole run in a few sentences and numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from glassrec.report.formatting import fixed, format_value, percent, whole
from glassrec.report.story.cut import cheaper, gone, saved, share, telling
from glassrec.report.story.explanation import leading
from glassrec.report.story.found import Found
from glassrec.report.story.words import metric, written
from glassrec.spelling import listed

SAYS: dict[str, Callable[[float], str]] = {
    "auroc": lambda v: (
        "of two test rows, one of label 1 and one of label 0, it scores the first one higher in "
        f"{percent(v)} of cases (AUROC; 50 % is chance)"
    ),
    "hr@10": lambda v: (
        f"in {percent(v)} of the test lists the held-out item is among its first ten (HR@10)"
    ),
    "rmse": lambda v: f"on the test rows its estimates are off by {written('rmse', v)} (RMSE)",
    "recall@10": lambda v: (
        f"of what a test user is to be shown, {percent(v)} is among its first ten of all items "
        "(recall@10)"
    ),
}
"""What the value of a metric means."""


GROUND = {
    "domain": "provably do nothing, whatever comes in",
    "data": "provably do nothing on any of the {rows} rows",
    "sample": "had no effect on the explained rows",
    "budget": "are worth the least",
}
"""Why neurons went, by the level of the cut."""


def nutshell(found: Found) -> Iterator[str]:
    """Four or five sentences, of what there is."""
    yield _trained(found)
    for name in _first_of_each_task(found):
        yield _good(found, name)
    if found.about is not None and len(found.table("importance")):
        yield leading(found)
    yield from _cut(found)


def tiles(found: Found) -> Iterator[tuple[str, str]]:
    """The numbers that one looks for first."""
    numbers = found.numbers
    for name in _first_of_each_task(found):
        yield written(name, numbers[f"test/{name}"]), f"{metric(name)} on the test split"
    if "parameters" in numbers:
        yield whole(numbers["parameters"]), "parameters as trained"
    if found.certificate is not None:
        yield " of ".join(map(whole, gone(found.certificate))), "neurons cut"
        for name, words in {"parameters": "parameters", "flops": "FLOPs"}.items():
            if (change := cheaper(found, name)) and gone(found.certificate)[0]:
                yield change, f"{words} after the cut"
        yield whole(found.certificate.rows_changed), "rows whose prediction changed"


def _first_of_each_task(found: Found) -> list[str]:
    """The metric of each task that tells most."""
    first: dict[str, str] = {}
    for name in telling(found):
        first.setdefault(name.rpartition("/")[0], name)
    return [*first.values()]


def _trained(found: Found) -> str:
    history = found.table("history")
    epochs = (history["epoch"] > 0).sum() if len(history) else 0  # epoch 0 is the start
    times = f"for {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else "for no epoch"
    facts: Mapping[str, Any] | None = found.data
    if facts is None:
        return f"The model, {found.model}, was trained {times} on {found.source}."
    tasks = listed(task["name"] for task in facts["tasks"])
    return (
        f"The model, {found.model}, was trained {times} on {whole(facts['rows']['train'])} rows of "
        f"{found.source} to predict {tasks}."
    )


def _good(found: Found, name: str) -> str:
    """How good it is, with an interval where there is one."""
    task, _, last = name.rpartition("/")
    value = found.numbers[f"test/{name}"]
    said = SAYS.get(last, lambda v: f"its {metric(last)} on the test split is {fixed(v)}")(value)
    ends = [found.numbers.get(f"test/{name}_{end}") for end in ("low", "high")]
    low, high = ends
    if low is not None and high is not None:
        said += f"; the 95 % interval is {percent(low)} to {percent(high)}"
    return f"For {task}, {said}." if task else f"{said[0].upper()}{said[1:]}."


def _cut(found: Found) -> Iterator[str]:
    """How much does nothing, and what taking it away changed."""
    certificate = found.certificate
    if certificate is None:
        return
    went, there = gone(certificate)
    if not went:
        yield "No neuron was cut."
        return
    rows, changed = sum(certificate.rows.values()), certificate.rows_changed
    ground = GROUND[certificate.level].format(rows=whole(rows))
    yield f"{whole(went)} of its {whole(there)} neurons ({share(certificate)}) {ground}."
    said = "Without them every prediction is the same"
    if changed:
        largest = format_value(certificate.max_abs_logit_difference)
        said = (
            f"Without them {percent(changed / rows)} of the predictions change, by at most "
            f"{largest} in the logit"
        )
    less = saved(found)
    yield f"{said}, and the model is smaller: {less}." if less else f"{said}."
