"""The command `glassrec predict`: new raw rows, scored by a finished run, with reasons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge
from pydantic import Field

from glassrec.inference.command_settings import ModelSettings, RunSettings, run_command
from glassrec.spelling import brief, counted

if TYPE_CHECKING:
    import pandas as pd

    from glassrec.inference.opened_run import ModelName, OpenedRun
    from glassrec.inference.rows import RawRows

SUMMARY = """\
Score new raw rows with a finished run. It needs nothing but the run's directory.

The rows keep all their columns, in their order. Behind them come, for each task, the probability
(of a click), the estimate (of a rating, in its unit) or the score (of a retrieval), the logit, and
in `unseen` the values that training did not know, as `city=Oz; brand=x`. With several tasks, names
begin with the task: click/probability. A line that cannot be read is refused with file, line and
column, and then nothing is written.

A reason, `price = 91.23: −0.77`, is how much a value moved the logit away from that of the run's
baseline (explain.baseline), by the run's own method of attribution. It says nothing about causes.

A counterfactual, `city = Paris and price at its baseline: 0.43`, is a small set of changes after
which the model, run again, gives a probability below the threshold; it may be `no change`.

A sequence model takes the user's earlier items from the interactions that the run has kept, before
the time of the row, or from a column `history` of the row: items as a|b|c, oldest first.
"""

EXAMPLES = """\
glassrec predict run.dir=runs/x rows=new.csv out=scored.csv
glassrec predict run.dir=runs/x rows=new.parquet model=pruned reasons=3 out=scored.parquet
glassrec predict run.dir=runs/x rows=new.csv counterfactual=true changes=2 threshold=0.4
zcat new.jsonl.gz | glassrec predict run.dir=runs/x rows=- > scored.csv
"""


class NewRowsSettings(RunSettings):
    """The settings that all commands on new raw rows have."""

    rows: Path = Field(
        description="CSV, JSON lines or parquet, recognised by content; text may be compressed; - "
        "is standard input"
    )
    separator: str | None = Field(
        None, description="of CSV cells, as data.separator; null is that of the run, or by name"
    )


class RowSettings(NewRowsSettings, ModelSettings):
    """The settings of commands that explain new raw rows."""

    task: str | None = Field(None, description="the explained task; null is that of the run")


class PredictSettings(RowSettings):
    """The settings of `glassrec predict`."""

    command, summary, examples = "predict", SUMMARY, EXAMPLES

    attributions: bool = Field(
        False, description="whether a row gets the attributions of all features"
    )
    counterfactual: bool = Field(
        False,
        description="whether a row gets the changes that take its click below the threshold: past "
        "items left out or, where that is not enough, columns at other values",
    )
    changes: Annotated[int, Ge(1)] = Field(4, description="how many changes, at most")
    threshold: float | None = Field(
        None,
        description="of the probability of a click, or of the estimate of a rating; null is 0.5 or "
        "the mean rating in training",
    )


def predict_file(settings: PredictSettings) -> list[str]:
    """Write the predictions of all rows; the summary lines."""

    def table(run: OpenedRun, rows: RawRows) -> pd.DataFrame:
        import pandas as pd

        found = predictions(
            run, rows, settings.model, settings.reasons, settings.attributions, settings.task,
            settings.changes if settings.counterfactual else 0, settings.threshold,
        )  # fmt: skip
        return pd.concat([rows.frame.reset_index(drop=True), found], axis=1)

    explained = settings.reasons or settings.attributions
    return write_table(settings, table, "reasons are " if explained else None)


main = partial(run_command, PredictSettings, predict_file)


def write_table(
    settings: RowSettings, table: Callable[[OpenedRun, RawRows], pd.DataFrame], note: str | None
) -> list[str]:
    """Write the table of each chunk; the summary lines, with `note` and the basis if not None."""
    from glassrec.config.paths import run_directory

    # Before the imports that take seconds.
    directory = run_directory(settings.run_dir, settings.cut)
    from glassrec.inference.opened_run import OpenedRun
    from glassrec.inference.output import row_output
    from glassrec.inference.reasons import basis
    from glassrec.inference.rows import read_rows
    from glassrec.progress import with_progress

    run = OpenedRun.open(directory, settings.trust)
    run.recommender(settings.model)  # so that no other is loaded for its columns
    chunks = read_rows(run, settings.rows, separator=settings.separator, chunk=settings.chunk)
    total, unseen = 0, 0
    with row_output(settings.out) as write:
        for rows in with_progress(((len(each.frame), each) for each in chunks), None):
            write(table(run, rows))
            total += len(rows.frame)
            unseen += int((rows.unseen != "").sum())
    where, name = settings.out or "standard output", f"{settings.command.split()[0]:<9}"
    lines = [f"{name} {counted(total, 'row')} to {where}, {unseen:,} with unseen values"]
    if side := [n for n in run.columns.item_side if n in rows.values and n not in rows.frame]:
        lines.append(f"{name} {brief(side)} of the items from the run's catalogue")
    if note is not None:
        lines.append(f"{name} {note}{basis(run, settings.task)}")
    return lines


def predictions(
    run: OpenedRun,
    rows: RawRows,
    model: ModelName = "trained",
    reasons: int = 0,
    attributions: bool = False,
    task: str | None = None,
    changes: int = 0,
    threshold: float | None = None,
) -> pd.DataFrame:
    """The new columns of rows: prediction, logit, `unseen`, reasons, attributions, counterfactual.

    Args:
        run: scores them.
        rows: N encoded rows.
        model: which model.
        reasons: how many columns of reasons.
        attributions: whether to add the attributions of all features.
        task: the explained task; the run's if None.
        changes: of how many changes counterfactuals may be; 0 leaves them out.
        threshold: that these go below, see `row_counterfactuals`.

    Returns:
        N rows under the index 0, 1, ...; logits are the model's float32 numbers, as float64.

    Raises:
        ValueError: the rows have a column of one of these names.
    """
    import pandas as pd

    from glassrec.data.schema import OUTPUTS
    from glassrec.inference.counterfactual import row_counterfactuals
    from glassrec.inference.reasons import attributed, attribution_columns, reason_columns
    from glassrec.inference.row_changes import counterfactual_columns

    schema = run.schema
    logits = run.recommender(model).predict(rows.batch).double()
    columns = {}
    for target, values in zip(schema.targets, logits.unbind(1), strict=True):
        shown = values.sigmoid() if target.kind == "click" else values
        columns[schema.metric(target, OUTPUTS[target.kind])] = shown.numpy()
        columns[schema.metric(target, "logit")] = values.numpy()
    frames = [pd.DataFrame(columns | {"unseen": rows.unseen})]
    if reasons or attributions:
        found = attributed(run, rows, model, task)
        frames += [reason_columns(run, rows, found, reasons)] if reasons else []
        frames += [attribution_columns(found)] if attributions else []
    if changes:
        answers = row_counterfactuals(run, rows, threshold, changes, model, task)
        frames.append(counterfactual_columns(answers, changes))
    added = pd.concat(frames, axis=1)
    if taken := [name for name in added if name in rows.frame]:
        raise ValueError(
            f"the rows have a column {taken[0]!r}, and predict adds one of this name; rename it"
        )
    return added
