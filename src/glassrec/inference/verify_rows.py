"""The command `glassrec verify rows=FILE`: whether the certificate holds on new raw rows."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from glassrec.inference.command_settings import run_command
from glassrec.inference.predict import NewRowsSettings
from glassrec.spelling import counted

if TYPE_CHECKING:
    import pandas as pd

    from glassrec.inference.opened_run import OpenedRun
    from glassrec.inference.rows import RawRows
    from glassrec.prune.new_rows import ComparedRows, NewRowsCheck

SUMMARY = """\
Check whether the certificate of a pruning holds on new raw rows. It needs nothing but the run's
directory, and writes nothing there.

Where pruning was exact (levels domain and data), it holds if each pruned neuron is at the constant
that replaces it, and no logit moved by more than rounding. At the other levels it holds if no logit
moved by more than on all certified rows. If it does not hold, the exit code is 1, out= is written
all the same, and the errors name neurons, lines of rows, and how far the predictions moved.

The file out= has for each row: line, the logits of both models (logit, pruned_logit), moved, and
active_neurons, the pruned ones that are not at their constants.
Without rows=, verify checks the files of the run: glassrec help verify.
"""

EXAMPLES = """\
glassrec verify run.dir=runs/x rows=today.parquet out=changes.csv || notify "the cut has drifted"
"""

SHOWN = 5
"""How many neurons, and how many lines of the rows of each, a message names."""


class VerifyRowsSettings(NewRowsSettings):
    """The settings of `glassrec verify rows=FILE`."""

    command, summary, examples = "verify rows=FILE", SUMMARY, EXAMPLES
    rows_to_stdout = False

    out: Path | None = Field(
        None, description="a file of all rows, .csv, .jsonl or .parquet; null writes none"
    )


def verify_file(settings: VerifyRowsSettings) -> list[str]:
    """The summary lines of all rows; ValueError with the reasons if it does not hold."""
    from glassrec.config.paths import run_directory

    # Before the imports that take seconds.
    directory = run_directory(settings.run_dir, settings.cut)
    from glassrec.artifacts.file_list import CERTIFICATE, PLAN, PRUNED
    from glassrec.inference.opened_run import OpenedRun
    from glassrec.inference.output import row_output
    from glassrec.inference.rows import read_rows
    from glassrec.progress import with_progress
    from glassrec.prune.new_rows import NewRowsCheck, float64_pair

    run = OpenedRun.open(directory, settings.trust)
    both = float64_pair(run.model, run.run.read(PRUNED))
    check = NewRowsCheck(*both, run.run.read(PLAN), run.run.read(CERTIFICATE))
    chunks = read_rows(run, settings.rows, separator=settings.separator, chunk=settings.chunk)
    found = _Findings(check.names)
    with nullcontext() if settings.out is None else row_output(settings.out) as write:
        for rows in with_progress(((len(each.frame), each) for each in chunks), None):
            compared = check.compare(rows.batch)
            found.add(run, rows, compared)
            if write is not None:
                write(comparison_table(run, rows, check, compared))
    return found.report(check)


main = partial(run_command, VerifyRowsSettings, verify_file)


def comparison_table(
    run: OpenedRun, rows: RawRows, check: NewRowsCheck, compared: ComparedRows
) -> pd.DataFrame:
    """The output for encoded rows, see `SUMMARY`; with several tasks, names begin with the task."""
    import pandas as pd

    from glassrec.prune.certificate_text import in_short

    columns: dict[str, object] = {"line": rows.lines}
    for target, before, after in zip(
        run.schema.targets, compared.before.unbind(1), compared.after.unbind(1), strict=True
    ):
        columns[run.schema.metric(target, "logit")] = before.numpy()
        columns[run.schema.metric(target, "pruned_logit")] = after.numpy()
    patterns, which = compared.active.unique(dim=0, return_inverse=True)
    texts = [in_short(compress(check.names, pattern.tolist())) for pattern in patterns]
    columns["moved"] = compared.moved.numpy()
    columns["active_neurons"] = [texts[place] for place in which.tolist()]
    return pd.DataFrame(columns)


@dataclass
class _Findings:
    """The largest changes and their places; of each active neuron its rows and first lines."""

    names: list[str]
    rows: int = 0
    moved: int = 0
    change: tuple[float, str] = (-1.0, "")
    probability: tuple[float, str] = (-1.0, "")
    counts: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)

    def add(self, run: OpenedRun, rows: RawRows, compared: ComparedRows) -> None:
        before, after, moved, active = compared
        self.rows += len(before)
        self.moved += int(moved.sum())
        size = (after - before).abs().nan_to_num(inf)
        row, task = divmod(int(size.argmax()), size.shape[1])
        place = f"line {rows.lines[row]}: {before[row, task]:.4g} became {after[row, task]:.4g}"
        self.change = max(self.change, (size[row, task].item(), place), key=itemgetter(0))
        if clicks := [at for at, each in enumerate(run.schema.targets) if each.kind == "click"]:
            size = (after.sigmoid() - before.sigmoid())[:, clicks].abs().amax(1)
            found = size.max().item(), f"line {rows.lines[int(size.argmax())]}"
            self.probability = max(self.probability, found, key=itemgetter(0))
        for neuron in active.any(0).nonzero().flatten().tolist():
            name, there = self.names[neuron], active[:, neuron].nonzero().flatten().tolist()
            self.counts[name] += len(there)
            known = self.lines.setdefault(name, [])
            known += [rows.lines[row] for row in there[: SHOWN - len(known)]]

    def report(self, check: NewRowsCheck) -> list[str]:
        """The lines; ValueError with them if the certificate does not hold."""
        rows = counted(self.rows, "row")
        largest = "the largest change of a logit is {:.3g} ({})".format(*self.change)
        if self.probability[0] >= 0:
            largest += ", of a probability {:.3g} ({})".format(*self.probability)
        limit = "rounding" if check.exact else f"{check.allowed:.3g}, the largest certified change"
        if not self.moved and not self.counts:
            constant = "no pruned neuron became active, and " if check.exact else ""
            why = f"holds on these {rows}: {constant}no logit moved by more than {limit}"
            return [f"verify    the certificate {why}", f"verify    {largest}"]
        found = [f"the certificate does not hold on these {rows}"]
        if self.counts:
            found.append(f"{counted(len(self.counts), 'pruned neuron')} became active")
        for name, count in self.counts.most_common(SHOWN):
            lines = ", ".join([*map(str, self.lines[name]), *["..."] * (count > SHOWN)])
            found.append(f"  {name} on {counted(count, 'row')}, at line {lines}")
        found.append(f"{counted(self.moved, 'row')} moved by more than {limit}")
        raise ValueError("\n".join([*found, largest]))
