"""The command `glassrec recommend`: the best items for users, by a finished run, with reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge
from pydantic import Field

from glassrec.inference.command_settings import ModelSettings, run_command
from glassrec.process_exit import UsageError
from glassrec.spelling import brief, counted, one_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from glassrec.inference.list_inputs import UserRows
    from glassrec.inference.opened_run import OpenedRun
    from glassrec.inference.ranking import Ranker

ALL = "all"
CONTEXT = "context"
"""The column of the context in words, and the start of the settings that give it."""

SUMMARY = """\
Rank items for users with a finished run. It needs nothing but the run's directory.

Candidates are the items that training knew, or those of a file. The items of the user's rows in the
log are left out (seen=drop). The columns that follow from neither the user nor the item, such as a
city or a device, are given as context.city=Paris, stand in the file of users, or are those of the
user's last row; the output shows them. A sequence model reads all earlier items of the user.

A counterfactual, `without Heat (1995): rank 14`, is a small set of changes after which the model,
run again on all candidates, no longer puts the item among the first k.

A row of the output is an item: user, rank, item, name, then probability, logit and reasons as in
glassrec predict, then the context.
"""

EXAMPLES = """\
glassrec recommend run.dir=runs/x user=u_00123 k=10 reasons=3
glassrec recommend run.dir=runs/x user=u_00123 context.city=Paris candidates=offers.csv seen=keep
glassrec recommend run.dir=runs/x users=all k=10 out=lists.parquet
glassrec recommend run.dir=runs/x user=u_00123 counterfactual=true changes=3
"""


class RecommendSettings(ModelSettings):
    """The settings of `glassrec recommend`, without those of the context."""

    command, summary, examples = "recommend", SUMMARY, EXAMPLES

    user: str | None = Field(None, description="the user")
    users: str | None = Field(
        None,
        description="instead of user: all (those of the log), or a file with the column of the "
        "user and, where you like, context columns, in a format of predict; - is standard input",
    )
    k: Annotated[int, Ge(1)] = Field(10, description="the length of a list")
    candidates: Path | None = Field(
        None,
        description="a file with the column of the item and, where you like, those that follow "
        "from it; null: the items that training knew",
    )
    seen: Literal["drop", "drop_taken", "keep"] = Field(
        "drop",
        description="the items of the user's rows in the log: all are left out, those with label 1 "
        "(all where there is no label), or none",
    )
    task: str | None = Field(
        None,
        description="ranks the items, and is explained; null: the retrieval, or else the first",
    )
    counterfactual: bool = Field(
        False,
        description="whether an item gets the changes that take it out of the first k: past items "
        "left out or, where that is not enough, columns at other values",
    )
    changes: Annotated[int, Ge(1)] = Field(4, description="how many changes, at most")


def main(words: Sequence[str]) -> int:
    """Recommend, and return the exit code.

    Raises:
        UsageError: the command is wrong.
        ValueError: the run, the users or the candidates cannot be read; nothing was written.
    """
    start = f"{CONTEXT}."
    own = [word for word in words if word.startswith(start) and "=" in word]
    given = dict(word.removeprefix(start).split("=", 1) for word in own)
    others = [word for word in words if word not in own]
    return run_command(RecommendSettings, lambda each: recommend_file(each, given), others)


def recommend_file(settings: RecommendSettings, given: Mapping[str, str]) -> list[str]:
    """Write the lists of all users; the summary lines."""
    if (settings.user is None) == (settings.users is None):
        raise UsageError("name one of user=VALUE, users=FILE and users=all")
    from glassrec.config.paths import run_directory

    # Before the imports that take seconds.
    directory = run_directory(settings.run_dir, settings.cut)
    from glassrec.inference.list_inputs import CandidateItems, context_columns, rankable
    from glassrec.inference.opened_run import OpenedRun
    from glassrec.inference.output import row_output
    from glassrec.inference.ranking import Ranker
    from glassrec.progress import with_progress

    run = OpenedRun.open(directory, settings.trust)
    rankable(run)
    check_context(given, context_columns(run))
    candidates = (
        CandidateItems.of_catalogue(run)
        if settings.candidates is None
        else CandidateItems.of_file(run, settings.candidates)
    )
    ranker = Ranker(run, candidates, settings.task, settings.model, settings.seen, settings.chunk)
    total, lists, full = 0, 0, 0
    with row_output(settings.out) as write:
        found = recommendations(ranker, _users(run, settings, ranker.users_at_once), settings.k,
                                given, settings.reasons,
                                settings.changes if settings.counterfactual else 0)  # fmt: skip
        users = None if settings.users != ALL else len(run.interactions.users)
        for count, frame in with_progress(
            ((count, (count, frame)) for count, frame in found), users, unit="users"
        ):
            if len(frame):
                write(frame)
            total, lists = total + len(frame), lists + count
            full += int(frame["rank"].eq(settings.k).sum())
        if not total:
            write(frame)
    return [*_summary(settings, ranker, given, total, lists, lists - full)]


def recommendations(
    ranker: Ranker,
    users: Iterator[UserRows],
    k: int,
    given: Mapping[str, str],
    reasons: int = 0,
    changes: int = 0,
) -> Iterator[tuple[int, pd.DataFrame]]:
    """The lists of some users after the other: how many users, and a row for each of their items.

    Args:
        ranker: scores the candidates.
        users: as many at a time as there is memory for, see `Ranker.users_at_once`.
        k: the length of a list; it is shorter where fewer candidates are left.
        given: context columns, as text.
        reasons: how many columns of reasons.
        changes: of how many changes counterfactuals may be; 0 leaves them out.

    Yields:
        the number of users, and the columns user, rank, item, name, those of `predictions`, and
        `context` where there is any.
    """
    import pandas as pd
    import torch

    from glassrec.inference.counterfactual import list_counterfactuals
    from glassrec.inference.list_inputs import rankable, typed_rows, with_context
    from glassrec.inference.predict import predictions
    from glassrec.inference.ranking import best
    from glassrec.inference.row_changes import counterfactual_columns

    run, start = ranker.run, 0
    user, item = rankable(run)
    fixed = pd.DataFrame()
    if given:
        fixed = typed_rows(run, {k: [v] for k, v in given.items()}, "the command").frame
    _ = ranker.items  # the candidates are checked first
    for some in users:
        context = with_context(run, some, fixed)
        scores = ranker.scores(ranker.users(context, some.place))
        scores = scores.masked_fill(~ranker.allowed(context[user]), -torch.inf)
        ranking = best(scores, k)
        if not len(ranking.places):
            empty = pd.DataFrame(columns=["user", "rank", "item", "name"])
            yield len(context), empty
            continue
        rows = ranker.rows_of(context, ranking, start)
        task = run.schema.targets[ranker.target].name
        scored = predictions(run, rows, ranker.model, reasons, task=task)
        items = rows.frame[item]
        listed = pd.DataFrame(
            {
                "user": rows.frame[user],
                "rank": ranking.ranks,
                "item": items,
                "name": run.items.names_of(items),
            }
        )
        if changes:
            answers = list_counterfactuals(ranker, rows, ranking, scores, k, changes)
            scored = scored.join(counterfactual_columns(answers, changes))
        if len(context.columns) > 1:
            scored[CONTEXT] = _in_words(context.drop(columns=user))[ranking.users]
        start += len(listed)
        yield len(context), pd.concat([listed, scored], axis=1)


def _in_words(context: pd.DataFrame) -> np.ndarray:
    """(U,) `city = Paris; age = 31`."""
    import numpy as np

    from glassrec.inference.reasons import cell_text

    texts = [
        "; ".join(f"{name} = {cell_text(cell)}" for name, cell in zip(context, cells, strict=True))
        for cells in context.itertuples(index=False)
    ]
    return np.array([*texts, None], object)[:-1]


def _users(run: OpenedRun, settings: RecommendSettings, size: int) -> Iterator[UserRows]:
    from glassrec.inference.list_inputs import rankable, typed_rows, users_of_file, users_of_log

    if settings.user is not None:
        yield typed_rows(run, {rankable(run)[0]: [settings.user]}, "the command")
    elif settings.users == ALL:
        yield from users_of_log(run, size)
    else:
        yield from users_of_file(run, Path(str(settings.users)), size)


def check_context(given: Mapping[str, str], known: Sequence[str]) -> None:
    """UsageError if a context column is none of those that are known."""
    wrong = [name for name in given if name not in known]
    if wrong:
        raise UsageError(
            "\n".join(
                f"context.{name}: the model reads no column {name!r} that follows from neither the "
                f"user nor the item{one_of(name, known)}"
                for name in wrong
            )
        )


def _summary(
    settings: RecommendSettings,
    ranker: Ranker,
    given: Mapping[str, str],
    total: int,
    lists: int,
    short: int,
) -> Iterator[str]:
    from glassrec.inference.list_inputs import context_columns
    from glassrec.inference.reasons import basis

    run = ranker.run
    where = settings.out or "standard output"
    yield (
        f"recommend {counted(total, 'item')} for {counted(lists, 'user')} to {where}, of "
        f"{counted(len(ranker.candidates.frame), 'candidate')}"
    )
    if short:
        advice = {"keep": "name more candidates", "drop_taken": "seen=keep offers more"}.get(
            settings.seen, "seen=drop_taken or seen=keep offers more"
        )
        yield f"recommend {counted(short, 'list')} shorter than k={settings.k}; {advice}"
    if names := context_columns(run):
        own = "the file of users or " if settings.users not in (None, ALL) else ""
        rest = [name for name in names if name not in given]
        parts = [f"{brief(given)} as given"] if given else []
        parts += [f"{brief(rest)} from {own}each user's last row"] if rest else []
        yield f"recommend context: {'; '.join(parts)}"
    if settings.reasons:
        yield f"recommend reasons are {basis(run, run.schema.targets[ranker.target].name)}"
