"""What the certificates of a task's best runs come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any

from glassrec.compare.comparison import Task
from glassrec.compare.directory import units
from glassrec.compare.page_table import Cell, Head, Row, Table, number
from glassrec.compare.settings_table import limited
from glassrec.compare.shown import Shown
from glassrec.report.formatting import DASH, format_value, percent, whole

HEADS = (
    Head("level"), Head("exact"), Head("units gone", "descending"),
    Head("largest |Δlogit|", "ascending"), Head("rows changed", "ascending"),
    Head("rows compared", "descending"), Head("hash", tip="of the pruned model's tensors"),
)  # fmt: skip

RESTS = (
    "Exact: the logits of all rows are equal but for rounding. The hash is the first part of the "
    "pruned tensors’ sha256; each run’s certificate.md has all of it."
)


def certified(task: Task, best: Sequence[Shown]) -> Iterator[Table]:
    """A row a run whose cut has a certificate; no table without one."""
    found = [(each, run) for each in best for run in each.runs]
    proofs = [(each, run, run.certificate) for each, run in found if run.certificate]
    if not proofs:
        return
    exact = [share(facts) for _, _, facts in proofs if facts["exact"]]
    most = f", and up to {percent(max(exact))} of the units went" if exact else ""
    finding = f"{len(exact)} of {len(proofs)} cuts are exact on all rows that were compared{most}."
    rows = [Row([*_cells(facts)], each, run) for each, run, facts in proofs]
    rests = f"{RESTS}{limited(task)}"
    yield Table("What do the certificates say?", finding, HEADS, rows, rests)


def share(facts: Mapping[str, Any]) -> float:
    """The share of units that went; 0 of a model without any."""
    gone, before = units(facts)
    return gone / before if before else 0.0


def _cells(facts: Mapping[str, Any]) -> Iterator[Cell]:
    """Of the fields of `artifacts.Certificate`."""
    gone, before = map(whole, units(facts))
    yield Cell(str(facts.get("level", DASH)))
    yield Cell("exact", kind="yes") if facts["exact"] else Cell("approximate")
    yield number(share(facts), lambda share: f"{gone} of {before} ({percent(share)})")
    yield number(facts.get("max_abs_logit_difference", nan), format_value)
    yield number(facts.get("rows_changed", nan), whole)
    yield number(sum(facts.get("rows", {}).values()), whole)
    yield Cell(str(facts.get("pruned", ""))[:12] or DASH, kind="code")
