"""The words of a report: what metrics are called, and what the terms mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from glassrec.metrics.metadata import IN_UNIT, format_metric
from glassrec.report.formatting import fixed, minus, percent

METRICS = {
    "auroc": "AUROC",
    "auroc_low": "AUROC, low end of its interval",
    "auroc_high": "AUROC, high end of its interval",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "normalized_entropy": "normalised entropy",
    "calibration": "calibration",
    "ece": "calibration error",
    "hr@10": "HR@10",
    "hr@100": "HR@100",
    "ndcg@10": "NDCG@10",
    "ndcg@100": "NDCG@100",
    "recall@10": "recall@10",
    "recall@100": "recall@100",
    "rmse": "RMSE",
    "mae": "MAE",
    "bias": "mean error",
}

TERMS = {
    "AUROC": "area under the ROC curve: how often a row of label 1 is scored above one of label 0; "
    "50 % is chance",
    "accuracy": "the share of rows whose label is guessed right",
    "log loss": "how surprised the model is by the labels, in nats; less is better",
    "HR@10": "hit rate: the share of lists whose held-out item is among the first ten",
    "NDCG@10": "as the hit rate, but an item counts the less the further down it stands",
    "recall@10": "the share of what a user is to be shown that is among the first ten",
    "RMSE": "root mean square error: how far estimates are off; large errors count more",
    "MAE": "mean absolute error: how far estimates are off on average",
    "logit": "the number that the model computes: of a click, the log of its odds (0 is even); of "
    "a rating, the estimate itself",
    "baseline": "the input that stands for knowing nothing; an explanation says what moved the "
    "logit away from there",
    "conductance": "how much of a prediction flows through a neuron: the change of the logit "
    "along its activation, on the way from the baseline to the row",
    "silent": "without any effect on any of the explained rows",
    "level domain": "a neuron goes only if it is constant whatever may come in",
    "level data": "a neuron goes only if it is constant on every row of every split",
    "level sample": "a neuron goes if it had no effect on the explained rows; others may change",
    "level budget": "neurons go in the order of their worth until the budget is met; rows change",
    "FLOPs": "multiplications and additions that a row takes",
    "interval": "95 % of such intervals hold the true value; by DeLong's method, or a bootstrap",
    "sha256": "the fingerprint of a file: another file has another one",
}
"""What terms mean, in the order in which they are listed."""

ANY_TERM = re.compile(
    rf"(?<![\w/@])({'|'.join(map(re.escape, sorted(TERMS, key=len, reverse=True)))})(?!\w)",
    re.IGNORECASE,
)


def metric(name: str) -> str:
    """How a metric is called, without its split: `rating: RMSE`."""
    task, _, last = name.removeprefix("test/").removeprefix("val/").rpartition("/")
    called = METRICS.get(last, last)
    return f"{task}: {called}" if task else called


def written(name: str, value: float) -> str:
    """The value of a metric."""
    last = name.rpartition("/")[2]
    if last in IN_UNIT:
        return minus(format_metric(last, value))
    return percent(value, 2) if last in ("accuracy", "hr@10", "recall@10") else fixed(value)


def used(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The terms that occur in any of the texts."""
    found = {term for text in texts for _, term in linked(text)}
    return ((term, meaning) for term, meaning in TERMS.items() if term.lower() in found)


def linked(text: str) -> Iterator[tuple[str, str]]:
    """The pieces of a text, each with the term that it is, or with nothing."""
    last = 0
    for found in ANY_TERM.finditer(text):
        yield text[last : found.start()], ""
        yield found[0], found[0].lower()
        last = found.end()
    yield text[last:], ""
