"""The command `glassrec explain rows=FILE`: attributions of new raw rows, by a finished run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge
from pydantic import Field

from glassrec.inference.command_settings import run_command
from glassrec.inference.predict import RowSettings, write_table

if TYPE_CHECKING:
    import pandas as pd

    from glassrec.inference.opened_run import OpenedRun
    from glassrec.inference.rows import RawRows

SUMMARY = """\
Explain new raw rows with a finished run. It needs nothing but the run's directory, and writes
nothing there.

The output has a row for each feature of a row of the file, the strongest first: line (of parquet,
the number of the row), user, item, feature, value, attribution, logit, baseline_logit and
completeness_error. An attribution is how much the value moved the logit away from that of the run's
baseline (explain.baseline), by the run's own method. It says nothing about causes. The completeness
error is the sum of the attributions of all features of the row - (logit - baseline_logit).
Rows are read as by glassrec predict. Without rows=, explain is a stage: glassrec help explain.
"""

EXAMPLES = """\
glassrec explain run.dir=runs/x rows=new.csv out=reasons.parquet
glassrec explain run.dir=runs/x rows=new.jsonl model=pruned reasons=3
zcat new.csv.gz | glassrec explain run.dir=runs/x rows=- > reasons.csv
"""


class ExplainRowsSettings(RowSettings):
    """The settings of `glassrec explain rows=FILE`."""

    command, summary, examples = "explain rows=FILE", SUMMARY, EXAMPLES

    reasons: Annotated[int, Ge(0)] = Field(
        0, description="how many features of a row, strongest first; 0 is all"
    )


def explain_file(settings: ExplainRowsSettings) -> list[str]:
    """Write the attributions of all rows; the summary lines."""
    return write_table(settings, partial(attribution_table, settings), "")


main = partial(run_command, ExplainRowsSettings, explain_file)


def attribution_table(settings: ExplainRowsSettings, run: OpenedRun, rows: RawRows) -> pd.DataFrame:
    """The output for encoded rows, see `SUMMARY`; without user or item where they have none."""
    import numpy as np
    import pandas as pd

    from glassrec.inference.explained_rows import ExplainedRows
    from glassrec.inference.plain_cells import plain_text
    from glassrec.inference.reasons import attributed

    found = attributed(run, rows, settings.model, settings.task)
    table = ExplainedRows(run, rows, found, pd.Index(rows.lines)).frame
    row, rank = np.divmod(np.arange(len(table)), len(found.features))
    for name, column in (("item", run.schema.item), ("user", run.schema.user)):
        cells = rows.values if column in rows.values else rows.frame
        if [*cells].count(column) == 1:
            table.insert(1, name, cells[column].to_numpy(object)[row])
    table["value"] = [plain_text(cell) for cell in table["value"]]
    table["logit"] = found.logits.double().numpy()[row]
    table["baseline_logit"] = found.baseline_logits.double().numpy()[row]
    table["completeness_error"] = found.delta.double().numpy()[row]
    return table[rank < (settings.reasons or len(found.features))].rename(columns={"row": "line"})
