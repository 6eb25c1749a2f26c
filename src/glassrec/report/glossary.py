"""The glossary of a report: definitions of the terms that occur in its text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

TERMS = {
    "AUROC": "area under the ROC curve: how often a row of label 1 is scored above one of label 0; "
    "50 % is chance",
    "accuracy": "the share of rows whose label is predicted correctly",
    "log loss": "the mean negative log-likelihood of the labels, in nats; lower is better",
    "HR@10": "hit rate: the share of lists whose held-out item is among the first ten",
    "NDCG@10": "like the hit rate, but a lower rank counts less",
    "recall@10": "the share of a user's test items that are among the first ten",
    "RMSE": "root mean square error of the estimates; large errors count more",
    "MAE": "mean absolute error of the estimates",
    "logit": "the output of the model: for a click, the log of its odds (0 is even); for a rating, "
    "the estimate itself",
    "baseline": "the reference input; attributions explain the difference of the logit from there",
    "completeness error": "how far the attributions of a row are from adding up to the difference "
    "of its logit from the baseline's",
    "conductance": "the part of a prediction that flows through a neuron: the change of the logit "
    "along its activation, on the path from the baseline to the row",
    "zero attribution": "no effect on any of the explained rows",
    "guarantee domain": "only neurons with a constant or unused output for every input are pruned",
    "guarantee data": "only neurons with a constant output on every row of every split are pruned",
    "guarantee sample": "neurons without effect on the explained rows are pruned; other rows may "
    "change",
    "guarantee budget": "neurons are pruned in the order of their importance until the budget is "
    "met; rows change",
    "FLOPs": "multiplications and additions per row",
    "interval": "95 % of such intervals hold the true value; by DeLong's method, or a bootstrap",
    "sha256": "the fingerprint of a file; another content has another one",
}
"""In the order in which they are listed."""

ANY_TERM = re.compile(
    rf"(?<![\w/@])({'|'.join(map(re.escape, sorted(TERMS, key=len, reverse=True)))})(?!\w)",
    re.IGNORECASE,
)


def used_terms(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The terms that occur in any of the texts."""
    found = {term for text in texts for _, term in linked(text)}
    return ((term, meaning) for term, meaning in TERMS.items() if term.lower() in found)


def linked(text: str) -> Iterator[tuple[str, str]]:
    """The pieces of a text, each with its term, or with nothing."""
    last = 0
    for match in ANY_TERM.finditer(text):
        yield text[last : match.start()], ""
        yield match[0], match[0].lower()
        last = match.end()
    yield text[last:], ""
