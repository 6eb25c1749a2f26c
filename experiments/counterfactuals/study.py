"""How many changes take a user's first item out of the first ten: study.py RUN_DIR OUT.csv."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pandas as pd
import torch

from glassrec.inference.counterfactual import list_counterfactuals
from glassrec.inference.list_inputs import (
    CandidateItems,
    rankable,
    users_of_log,
    with_context,
)
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.ranking import Ranker, best
from glassrec.progress import with_progress

AT_ONCE = 100


def first_items(run: OpenedRun, k: int = 10) -> Iterator[tuple[int, pd.DataFrame]]:
    """For some users at a time, how many, and the counterfactual of the first item of each."""
    user, _ = rankable(run)
    ranker = Ranker(run, CandidateItems.of_catalogue(run))
    start = 0
    for rows in users_of_log(run, AT_ONCE):
        context = with_context(run, rows, pd.DataFrame())
        scores = ranker.scores(ranker.users(context, rows.place))
        scores = scores.masked_fill(~ranker.allowed(context[user]), -torch.inf)
        ranking = best(scores, 1)
        listed = ranker.rows_of(context, ranking, start)
        found = list_counterfactuals(ranker, listed, ranking, scores, k)
        start += len(found)
        yield len(found), pd.DataFrame({
            "changes": [0 if each is None else len(each.changes) for each in found],
            "kind": [_kind(None if each is None else each.changes) for each in found],
        })  # fmt: skip


def _kind(changes: tuple[str, ...] | None) -> str:
    if changes is None:
        return "none"
    return "past items" if changes[0].startswith("without ") else "columns"


def main(directory: str, out: str) -> None:
    """Count the sizes."""
    run = OpenedRun.open(directory)
    frame = pd.concat(with_progress(first_items(run), len(run.interactions.users), unit="users"))
    counts = frame.value_counts(["kind", "changes"]).rename("users").reset_index()
    counts.insert(0, "model", type(run.model).__name__)
    counts["seed"] = run.run.config["seed"]
    counts.sort_values(["kind", "changes"]).to_csv(out, index=False)
    print(counts.to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
