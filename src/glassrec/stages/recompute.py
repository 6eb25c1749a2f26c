"""Verify: what the files of a run claim beside the certificate, computed again.

The metrics follow from the weights and the data, a row of the history from the weights, the ranking
lists and the description of the data from the data, the attributions from the model, and their
summary from the attributions. What would take as long as the run itself is known by its hash.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from functools import cached_property, partial
from math import inf, isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import pandas as pd
import torch

from glassrec.artifacts import (
    Artifact,
    AttributionFile,
    Attributions,
    Candidates,
    Explanation,
    Facts,
    Metrics,
    Table,
    digest,
)
from glassrec.metrics.metadata import best_index, sign
from glassrec.metrics.quality import quality
from glassrec.prune.certificate import TOLERANCE
from glassrec.run import flat
from glassrec.stages.evaluate import Evaluating
from glassrec.stages.explain import Explaining
from glassrec.stages.sealed import Sealed
from glassrec.stages.train import candidates

A = TypeVar("A", bound=Artifact)

Checking = Generator[str, None, str]
"""A check: it yields what differs, and returns what to say if nothing does."""

CLOSE = 1e-4
"""By how much a metric or an attribution, computed in float32, may differ between machines:
relative to its size, or to 1 for a metric and to the largest of the attributions."""

COUNTED = (
    "parameters", "tower_parameters", "flops", "bytes", "tower_bytes", "units", "rows_changed",
    "share_changed", "relative_delta",
)  # fmt: skip
"""Metrics that are counted, or taken over from files that are checked: they must be equal."""

ROWS = 32
"""Explained rows, at most, from either end whose attributions are computed again."""

CHECKED = (
    "weights.safetensors", "pruned.safetensors", "plan.json", "certificate.json", "certificate.md",
    "metrics.json", "latency.json", "history.csv", "data.json", "candidates.safetensors",
    "attributions.parquet", "importance.parquet", "explanation.json",
)  # fmt: skip
"""Files whose content is checked; of the others the hash alone."""


class Recomputation:
    """The checks; each yields what differs, and returns a line for the user if nothing does.

    Args:
        evaluating: the last stage of the run, which is only read.
    """

    checks: ClassVar[tuple[str, ...]] = (
        "metrics", "history", "data", "lists", "latency", "attributions", "summary",
    )  # fmt: skip

    def __init__(self, evaluating: Evaluating) -> None:
        self.evaluating, self.trained = evaluating, evaluating.trained
        self.explained: Explaining = evaluating.pruned.explained

    @property
    def run(self) -> Sealed:
        """The directory."""
        assert isinstance(self.evaluating.run, Sealed), "nothing is written"
        return self.evaluating.run

    def has(self, *names: str) -> bool:
        """Whether the run got so far that it made these files."""
        return {*names} <= {*self.run.recorded}

    @cached_property
    def measured(self) -> dict[str, float]:
        """The metrics, computed again."""
        return self.evaluating.measure().values

    def metrics(self) -> Checking:
        """Quality and cost of both models, and what pruning changed."""
        if not self.has("metrics.json"):
            return ""
        recorded = self.run.read("metrics.json", Metrics).values
        size = max(1.0, self.evaluating.pruned.certificate.max_abs_logit)
        tolerance = partial(_metric_tolerance, size)
        yield from differing("metrics.json", recorded, self.measured, tolerance)
        return f"{len(recorded)} metrics follow from weights and data, to {CLOSE:g}"

    def history(self) -> Checking:
        """The row of the epoch that was kept."""
        if not self.has("history.csv", "data.json"):
            return ""
        frame = self.run.read("history.csv", Table).frame
        monitor = str(self.run.read("data.json", Facts).values.get("monitor"))
        if monitor not in frame:
            yield f"history.csv has no column {monitor}, by which data.json says epochs were chosen"
            return ""
        if frame.empty:
            return ""
        worst = -sign(monitor) * inf
        row = frame.iloc[best_index(monitor, frame[monitor].fillna(worst).tolist())]
        recorded = {name: float(row[name]) for name in map(str, frame) if name.startswith("val/")}
        found = {name: value for name, value in self._validation.items() if name in recorded}
        what = f"history.csv, epoch {row['epoch']:.0f}"
        yield from differing(what, recorded, found, _close)
        return f"the weights give the validation metrics of epoch {row['epoch']:.0f} in the history"

    @property
    def _validation(self) -> Mapping[str, float]:
        if self.has("metrics.json"):
            return self.measured
        found = quality(self.trained.model, self.trained.dataset, "val")
        return {f"val/{name}": value for name, value in found.items()}

    def data(self) -> Checking:
        """The description of the data."""
        if not self.has("data.json"):
            return ""
        found = as_read(Facts(self.trained.describe_data()), "data.json", Facts).values
        recorded = self.run.read("data.json", Facts).values
        yield from differing("data.json", flat(recorded), flat(found))
        return "data.json describes the data"

    def lists(self) -> Checking:
        """The ranking lists, drawn again."""
        if not self.has("candidates.safetensors"):
            return ""
        drawn = candidates(self.trained.load_data())
        found = as_read(drawn, "candidates.safetensors", Candidates)
        recorded = self.run.read("candidates.safetensors", Candidates)
        for split in sorted({*found.ids, *recorded.ids}):
            parts = [
                digest({part: lists[split] for part, lists in vars(each).items() if split in lists})
                for each in (recorded, found)
            ]
            if parts[0] != parts[1]:
                yield f"candidates.safetensors: the ranking lists of {split} are not those drawn"
        return "the ranking lists are those that the seed draws"

    def latency(self) -> Checking:
        """Times, which no two measurements share: that they are there, and could be times."""
        if not self.has("latency.json"):
            return ""
        values = self.run.read("latency.json", Metrics).values
        bare = {name.removeprefix("pruned/") for name in values}
        wanted = {name for one in bare for name in (one, f"pruned/{one}")}
        for name in sorted(wanted - {*values}):
            yield f"latency.json: {name} is missing"
        for name, value in values.items():
            if not (name.rpartition("/")[2].startswith("latency_") and 0 < value < inf):
                yield f"latency.json: {name} is {value}, which is no time"
        return "latency.json has times of both models, which are not measured again"

    def attributions(self) -> Checking:
        """The attributions of some rows."""
        if not self.has("attributions.parquet"):
            return ""
        explainer, seen, parts = self.explained.explainer, 0, list[tuple[int, Attributions]]()
        for piece in AttributionFile.load(self._attributions).pieces():
            here = explainer.rows[seen : seen + len(piece.rows)]
            if not torch.equal(here.long(), piece.rows):
                yield "attributions.parquet is of other rows than those that the settings select"
                return ""
            ends = _ends(len(piece.rows))
            parts = [*parts[:1], *((seen + first, piece.take(ends[first])) for first in ends)]
            seen += len(piece.rows)
        if seen != len(explainer.rows):
            yield f"attributions.parquet has {seen} of {len(explainer.rows)} rows"
        for start, recorded in dict((parts[0], parts[-1])).items():
            rows = explainer.rows[start : start + len(recorded.rows)]
            found = explainer.explained(explainer.method, rows, start)
            yield from _same_attributions(recorded, found)
        return f"the attributions of the first and last rows follow from the model, to {CLOSE:g}"

    @property
    def _attributions(self) -> Path:
        return self.run.dir / "attributions.parquet"

    def summary(self) -> Checking:
        """Importance and facts, from all attributions."""
        if not self.has("attributions.parquet", "importance.parquet", "explanation.json"):
            return ""
        totals = self.explained.totals(AttributionFile.load(self._attributions))
        frame = self.run.read("importance.parquet", Table).frame
        found = totals.frame()
        there = frame[[column for column in found if column in frame]]
        yield from differing("importance.parquet", _cells(there), _cells(found), _near)
        recorded = self.run.read("explanation.json", Explanation)
        again = as_read(totals.summary(recorded.agreement), "explanation.json", Explanation)
        yield from differing("explanation.json", vars(recorded), vars(again), _near)
        return "importance and facts of the explanation follow from the attributions"

    def by_hash(self) -> str:
        """Which files nothing but their hash is known of."""
        names = [name for name in self.run.recorded if name not in CHECKED]
        pictures = [name for name in names if name.endswith(".png")]
        others = [name for name in names if name not in pictures]
        figures = f"{len(pictures)} figures" if pictures else ""
        return ", ".join(filter(None, [*others, figures]))


def as_read(artifact: Artifact, name: str, kind: type[A]) -> A:
    """An artifact as it comes back from its file, which may hold fewer digits or types."""
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        artifact.save(path)
        return kind.load(path)


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
            recorded_there, found_here = _where_they_part(str(there), str(here))
            yield f"{what}: {name} is {recorded_there} there, and {found_here} was found"


def _equal(there: Any, here: Any, tolerance: float) -> bool:
    """Whether two values are equal, or are numbers that differ by no more than the tolerance."""
    if isinstance(there, float) and isinstance(here, float):
        return there == here or abs(there - here) <= tolerance or (isnan(there) and isnan(here))
    return bool(there == here)


def _where_they_part(one: str, other: str, most: int = 70) -> tuple[str, str]:
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
    return 2 * TOLERANCE * size if last.endswith("_abs_logit_difference") else _close(name, value)


def _close(_: str, value: Any) -> float:
    return CLOSE * max(1.0, abs(value)) if isinstance(value, float) else 0.0


def _near(_: str, value: Any) -> float:
    """Sums in float64 of the same numbers, in another order."""
    return 1e-6 * max(1e-3, abs(value)) if isinstance(value, float) else 0.0


def _ends(count: int) -> dict[int, torch.Tensor]:
    """The places of the first and the last rows of a piece, by the first place of each."""
    first = max(0, count - ROWS)
    return {0: torch.arange(min(ROWS, count)), first: torch.arange(first, count)}


def _cells(frame: pd.DataFrame) -> dict[str, Any]:
    """The values of a table by row and column."""
    return {
        f"{column} of row {place}": value if isinstance(value, str) else float(value)
        for column in map(str, frame)
        for place, value in enumerate(frame[column].tolist())
    }


def _same_attributions(recorded: Attributions, found: Attributions) -> Iterator[str]:
    if recorded.players != found.players:
        yield "attributions.parquet has other columns than the settings give"
        return
    scale = CLOSE * max(1e-30, found.values.abs().max().item(), found.logits.abs().max().item())
    for name in ("values", "logits", "baseline_logits", "labels"):
        there, here = getattr(recorded, name).double(), getattr(found, name).double()
        wrong = ~torch.isclose(there, here, rtol=0, atol=scale, equal_nan=True)
        if wrong.any():
            row = recorded.rows[wrong.view(len(wrong), -1).any(1).nonzero()[0]].item()
            yield f"attributions.parquet: {name} of row {row} do not follow from the model"
