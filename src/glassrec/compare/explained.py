"""What the explanations of a task's settings say beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from glassrec.compare import findings, heat
from glassrec.compare.comparison import Task
from glassrec.compare.explanations import Agreement, agreements
from glassrec.compare.shown import Shown
from glassrec.report.page import counted
from glassrec.spelling import listed

INPUTS = "Do the models rely on the same inputs?"
AGREEMENT = "Do the explanations agree?"
SILENCE = "Where are units silent?"


def explained(task: Task, best: Sequence[Shown]) -> Iterator[heat.Heat]:
    """The tables that there is something to tell in.

    Args:
        task: the task.
        best: those of its settings, from the first, whose explanations are read.
    """
    found = agreements(replace(task, settings=[each.setting for each in best]))
    if found:
        left_out = sum(len(other.runs) for other in found[1:])
        yield _inputs(found[0], best, left_out)
        yield from _agreement(found[0], best)
    silence = heat.silent(best)
    if not silence.empty:
        rests = (
            "In %: units of each layer that moved no explained prediction: candidates, of which "
            "the certificate then tells what is proven on all rows."
        )
        yield heat.table(SILENCE, findings.of_silence(silence), rests, best, silence)


def _inputs(found: Agreement, best: Sequence[Shown], left_out: int) -> heat.Heat:
    shares = found.by_setting.T.rename(index={place: each.key for place, each in enumerate(best)})
    methods = [run.explanation["method"] for run in found.runs if run.explanation]
    rests = [
        "In %: the mean |attribution| of each input as a share of their sum, mean over seeds.",
        *([f"By {listed(dict.fromkeys(methods))}."] if methods else []),
        *([f"{counted(left_out, 'run')} with other inputs left out."] if left_out else []),
    ]
    finding = findings.of_importance(shares)
    return heat.table(INPUTS, finding, " ".join(rests), best, heat.main_features(shares))


def _agreement(found: Agreement, best: Sequence[Shown]) -> Iterator[heat.Heat]:
    """Nothing where no two runs can be held against each other."""
    together = heat.agreement(found, best)
    if together.isna().to_numpy().all():
        return
    limited = len({*found.setting}) > heat.TOGETHER
    inputs = counted(len(found.importance), "input")
    rests = (
        f"Spearman’s rank correlation of the importance of {inputs}, mean over pairs of "
        "runs. On the diagonal: two seeds of one setting."
        + (f" The best {heat.TOGETHER} settings." if limited else "")
    )
    finding = findings.of_agreement(found.between_seeds, found.between_settings)
    yield heat.table(AGREEMENT, finding, rests, best, together, heat.correlation, (0.0, 1.0))
