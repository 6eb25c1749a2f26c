"""Verify: the claims of the files beside the certificate, computed again.

Of files that would take as long as the run, the hash is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import inf, isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pandas as pd
import torch

from glassrec.artifacts import (
    Artifact,
    Attributions,
    Certificate,
    Facts,
    File,
    PrunePlan,
    Weights,
)
from glassrec.artifacts import file_list as files
from glassrec.explain import explanation_tables as tables
from glassrec.metrics.metadata import best_index
from glassrec.metrics.quality import quality
from glassrec.prune.certificate import TOLERANCE
from glassrec.run import ReadOnlyRun, cuts_of, flat
from glassrec.spelling import counted
from glassrec.stages import score
from glassrec.stages.bundle import golden_cells, golden_rows, plain_encoder, stored_encoder
from glassrec.stages.check_findings import Finding, Passed
from glassrec.stages.context import Context, TrainedModel
from glassrec.stages.evaluate import measure
from glassrec.stages.prune import PruneResult
from glassrec.stages.recompute_raw import RAW_CHECKS, check_onnx
from glassrec.stages.train import description

A = TypeVar("A", bound=Artifact)

CLOSE = 1e-4
"""By how much a metric or an attribution, computed in float32, may differ between machines:
relative to its size, or to 1 for a metric and to the largest of the attributions."""

INT8_CLOSE = 1e-2
"""The same for what an int8 copy computes, by other kernels on other processors."""

COUNTED = (
    "parameters", "tower_parameters", "flops", "bytes", "tower_bytes", "units", "rows_changed",
    "share_changed", "relative_delta",
)  # fmt: skip
"""Metrics that are counted, or taken over from files that are checked: they must be equal."""

ROWS = 32
"""Explained rows, at most, from either end whose attributions are computed again."""


@dataclass(frozen=True)
class RecordedRun:
    """A finished run; each of its files is read when a check needs it, changed or not."""

    context: Context

    @property
    def run(self) -> ReadOnlyRun:
        """The directory."""
        return self.context.run

    @cached_property
    def trained(self) -> TrainedModel:
        """The model as trained."""
        return TrainedModel(self.context, self.run.load(files.WEIGHTS))

    @cached_property
    def plan(self) -> PrunePlan:
        """As it lies there."""
        return self.run.load(files.PLAN)

    @cached_property
    def pruned(self) -> Weights:
        """As they lie there."""
        return self.run.load(files.PRUNED)

    @cached_property
    def certificate(self) -> Certificate:
        """As it lies there."""
        return self.run.load(files.CERTIFICATE)

    @cached_property
    def measured(self) -> dict[str, float]:
        """The metrics, computed again."""
        pruned = PruneResult(self.context, self.plan, self.pruned, self.certificate, None)
        return measure(self.trained, self.run.load(files.EXPLANATION), pruned)


def _metrics(recorded: RecordedRun) -> Iterator[Finding]:
    there = recorded.run.load(files.METRICS).values
    tolerance = partial(_metric_tolerance, max(1.0, recorded.certificate.max_abs_logit))
    yield from differing(files.METRICS.name, there, recorded.measured, tolerance)
    yield Passed(f"{len(there)} metrics follow from weights and data, to {CLOSE:g}")


def _history(recorded: RecordedRun) -> Iterator[Finding]:
    if not recorded.run.has(files.DATA):
        return
    frame = recorded.run.load(files.HISTORY).frame
    facts = recorded.run.load(files.DATA).values
    monitor = str(facts.get("monitor"))
    if frame.empty and facts.get("monitor") is None:  # data without labels
        return
    if monitor not in frame:
        yield (
            f"{files.HISTORY.name} has no column {monitor}, by which {files.DATA.name} says "
            "epochs were chosen"
        )
        return
    if frame.empty:
        return
    row = frame.iloc[best_index(monitor, frame[monitor], facts.get("monitor_mode"))]
    there = {name: float(row[name]) for name in map(str, frame) if name.startswith("val/")}
    found = {name: value for name, value in _validation(recorded).items() if name in there}
    epoch = f"{row['epoch']:.0f}"
    yield from differing(f"{files.HISTORY.name}, epoch {epoch}", there, found, _close)
    yield Passed(f"the weights give the validation metrics of epoch {epoch} in the history")


def _validation(recorded: RecordedRun) -> Mapping[str, float]:
    if recorded.run.has(files.METRICS):
        return recorded.measured
    found = quality(recorded.trained.model, recorded.context.dataset, "val")
    return {f"val/{name}": value for name, value in found.items()}


def _data(recorded: RecordedRun) -> Iterator[Finding]:
    found = as_read(Facts(description(recorded.context)), files.DATA).values
    yield from differing(files.DATA.name, flat(recorded.run.load(files.DATA).values), flat(found))
    yield Passed(f"{files.DATA.name} describes the data")


def _latency(recorded: RecordedRun) -> Iterator[Finding]:
    """Times, of which no two measurements are equal: they are there, and could be times."""
    values = recorded.run.load(files.LATENCY).values
    bare = {name.removeprefix("pruned/") for name in values if "latency_p" in name}
    for name in sorted({name for one in bare for name in (one, f"pruned/{one}")} - {*values}):
        yield f"{files.LATENCY.name}: {name} is missing"
    for name, value in values.items():
        if not (name.rpartition("/")[2].startswith("latency_") and 0 < value < inf):
            yield f"{files.LATENCY.name}: {name} is {value}, which is no time"
    yield Passed(f"{files.LATENCY.name} has times of both models, which are not measured again")


def _attributions(recorded: RecordedRun) -> Iterator[Finding]:
    explainer, seen, parts = recorded.trained.explainer, 0, list[tuple[int, Attributions]]()
    for piece in recorded.run.load(files.ATTRIBUTIONS).pieces():
        here = explainer.rows[seen : seen + len(piece.rows)]
        if not torch.equal(here.long(), piece.rows):
            yield f"{files.ATTRIBUTIONS.name} is of other rows than those that the settings select"
            return
        ends = _ends(len(piece.rows))
        parts = [*parts[:1], *((seen + first, piece.select(ends[first])) for first in ends)]
        seen += len(piece.rows)
    if seen != len(explainer.rows):
        yield f"{files.ATTRIBUTIONS.name} has {seen} of {len(explainer.rows)} rows"
    for start, there in dict((parts[0], parts[-1])).items():
        rows = explainer.rows[start : start + len(there.rows)]
        found = explainer.explained(explainer.method, rows, start)
        yield from _same_attributions(there, found)
    yield Passed(f"the attributions of the first and last rows follow from the model, to {CLOSE:g}")


def _ends(count: int) -> dict[int, torch.Tensor]:
    first = max(0, count - ROWS)
    return {0: torch.arange(min(ROWS, count)), first: torch.arange(first, count)}


def _same_attributions(there: Attributions, found: Attributions) -> Iterator[str]:
    if there.features != found.features:
        yield f"{files.ATTRIBUTIONS.name} has other columns than the settings give"
        return
    scale = CLOSE * max(1e-30, found.values.abs().max().item(), found.logits.abs().max().item())
    for name in ("values", "logits", "baseline_logits", "labels"):
        one, other = getattr(there, name).double(), getattr(found, name).double()
        wrong = ~torch.isclose(one, other, rtol=0, atol=scale, equal_nan=True)
        if wrong.any():
            row = there.rows[wrong.view(len(wrong), -1).any(1).nonzero()[0]].item()
            yield f"{files.ATTRIBUTIONS.name}: {name} of row {row} do not follow from the model"


def _summary(recorded: RecordedRun) -> Iterator[Finding]:
    run = recorded.run
    if not run.has(files.ATTRIBUTIONS, files.EXPLANATION):
        return
    totals = tables.AttributionTotals(recorded.trained.explainer).update(
        run.load(files.ATTRIBUTIONS).pieces()
    )
    frame, found = run.load(files.IMPORTANCE).frame, totals.frame()
    there = frame[[column for column in found if column in frame]]
    yield from differing(files.IMPORTANCE.name, _cells(there), _cells(found), _near)
    about = run.load(files.EXPLANATION)
    again = as_read(totals.summary(about.agreement), files.EXPLANATION)
    yield from differing(files.EXPLANATION.name, vars(about), vars(again), _near)
    yield Passed("importance and facts of the explanation follow from the attributions")


def _raw(file: File[Any], recorded: RecordedRun) -> Iterator[Finding]:
    """The encoder, or a table of raw values."""
    yield from RAW_CHECKS[file](recorded.run.load(file), recorded.context.dataset)


def _bundle(recorded: RecordedRun) -> Iterator[Finding]:
    """The golden rows, by the parts of the bundle and by those of the run."""
    run, encoder = recorded.run, stored_encoder(recorded.run)
    if encoder is None:
        yield f"{files.GOLDEN.name} is there, and the run has no encoder"
        return
    yield from (f"{files.BUNDLE}: {line}" for line in score.check(run.dir / files.BUNDLE))
    there = run.load(files.BUNDLE_ENCODER).values
    yield from differing(files.BUNDLE_ENCODER.name, there, plain_encoder(encoder))
    model = recorded.context.load_model(recorded.pruned, files.PRUNED)
    found = golden_cells(golden_rows(run, encoder, model))
    yield from differing(files.GOLDEN.name, golden_cells(run.load(files.GOLDEN)), found, _close)
    yield Passed(f"{files.BUNDLE} gives the golden rows the logits of the pruned model")
    yield from check_onnx(run) if run.has(files.BUNDLE_ONNX) else ()


CHECKS: dict[File[Any], Callable[[RecordedRun], Iterator[Finding]]] = {
    files.METRICS: _metrics,
    files.HISTORY: _history,
    files.DATA: _data,
    files.LATENCY: _latency,
    files.ATTRIBUTIONS: _attributions,
    files.IMPORTANCE: _summary,
    **{file: partial(_raw, file) for file in RAW_CHECKS},
    files.GOLDEN: _bundle,
}
"""The checks, by the file whose claims they compute again."""


def unchecked(recorded: RecordedRun) -> Iterator[Finding]:
    """The files of which the hash alone is checked, or nothing."""
    run = recorded.run
    checked = {
        *CHECKS,
        files.EXPLANATION,
        *files.CERTIFICATE.inputs,
        files.CERTIFICATE,
        files.CERTIFICATE_TEXT,
        files.BUNDLE_PROGRAM,
        files.BUNDLE_ENCODER,
        files.BUNDLE_ONNX,
        files.BUNDLE_INT8,
        files.INT8,
        files.MANIFEST,
    }
    by_hash = [name for name in run.recorded if name not in {file.name for file in checked}]
    figures = [name for name in by_hash if name.endswith(".png")]
    names = [name for name in by_hash if name not in figures]
    if by_hash:
        names += [f"{len(figures)} figures"] if figures else []
        yield Passed(f"checked by their hash alone: {', '.join(names)}")
    known = {*run.recorded, files.CONFIG, files.RECORD, files.PROVENANCE, files.STATUS, files.LOCK}
    folders = {name.split("/")[0] for name in known if "/" in name}
    if cuts := [path.relative_to(run.dir).as_posix() for path in cuts_of(run.dir)]:
        yield Passed(f"{counted(len(cuts), 'cut')}, which cut=NAME verifies, not checked here")
    unknown = set()
    for path in run.dir.rglob("*"):
        name = path.relative_to(run.dir).as_posix()
        inside = name.startswith(tuple(f"{cut}/" for cut in cuts))
        if name not in known and path.is_file() and not inside:
            top = name.split("/")[0]
            unknown.add(name if top in folders or "/" not in name else f"{top}/")
    if unknown:
        yield Passed(f"not checked, as they are no files of the run: {', '.join(sorted(unknown))}")


def as_read(content: A, file: File[A]) -> A:
    """A content as it comes back from its file, which may hold fewer digits or types."""
    with TemporaryDirectory() as folder:
        path = Path(folder, file.name)
        content.save(path)
        return file.content.load(path)


def differing(
    what: str,
    recorded: Mapping[str, Any],
    found: Mapping[str, Any],
    tolerance: Callable[[str, Any], float] = lambda name, value: 0.0,
) -> Iterator[str]:
    """What differs by more than a tolerance, which may depend on the name and on the value."""
    for name in dict.fromkeys((*recorded, *found)):
        there, here = recorded.get(name), found.get(name)
        if not _equal(there, here, tolerance(name, here)):
            one, other = _around_difference(str(there), str(here))
            yield f"{what}: {name} is {one} there, and {other} was found"


def _equal(there: Any, here: Any, tolerance: float) -> bool:
    if isinstance(there, float) and isinstance(here, float):
        return there == here or abs(there - here) <= tolerance or (isnan(there) and isnan(here))
    return bool(there == here)


def _around_difference(one: str, other: str, most: int = 70) -> tuple[str, str]:
    """Two texts, or, of long ones, what is around their first difference."""
    if max(len(one), len(other)) <= most:
        return one, other
    pairs = enumerate(zip(one, other, strict=False))
    part = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
    start = max(part - most // 2, 0)
    return f"…{one[start : start + most]}…", f"…{other[start : start + most]}…"


def _metric_tolerance(size: float, name: str, value: Any) -> float:
    """By how much a metric may differ, where logits are of some size."""
    last = name.rpartition("/")[2]
    if last in COUNTED:
        return 0.0
    if name.startswith("int8/"):
        return INT8_CLOSE * max(size, abs(value))
    return 2 * TOLERANCE * size if last.endswith("_abs_logit_difference") else _close(name, value)


def _close(_: str, value: Any) -> float:
    return CLOSE * max(1.0, abs(value)) if isinstance(value, float) else 0.0


def _near(_: str, value: Any) -> float:
    """Sums in float64 of the same numbers, in another order."""
    return 1e-6 * max(1e-3, abs(value)) if isinstance(value, float) else 0.0


def _cells(frame: pd.DataFrame) -> dict[str, Any]:
    return {
        f"{column} of row {place}": value if isinstance(value, str) else float(value)
        for column in map(str, frame)
        for place, value in enumerate(frame[column].tolist())
    }
