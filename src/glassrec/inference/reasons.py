"""Reasons of single predictions: the values of a row that moved its logit most, in words.

A reason is an attribution: how much the value moved the logit away from that of the run's baseline,
by the run's own method. It says nothing about causes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.artifacts import Attributions
from glassrec.data.cells import split_values
from glassrec.explain.methods import Method
from glassrec.inference.opened_run import ModelName, OpenedRun
from glassrec.inference.rows import RawRows
from glassrec.report.formatting import minus

ATTRIBUTION, BASELINE_LOGIT = "attribution/", "baseline_logit"


def attributed(
    run: OpenedRun,
    rows: RawRows,
    model: ModelName = "trained",
    task: str | None = None,
    method: Method | None = None,
) -> Attributions:
    """The attributions (N, P) of encoded rows, see `OpenedRun.explainer`."""
    explainer = run.explainer(rows.batch, model, task)
    method = method or run.explain_settings.method
    method.check(explainer.model, explainer.feature_mask, explainer.bases.rows)
    return explainer.explained(method, torch.arange(rows.batch.rows), rows.start)


def basis(run: OpenedRun, task: str | None, method: Method | None = None) -> str:
    """What the attributions of a task are: the explained quantity, baseline and method."""
    return (
        f"attributions of the logit of {task or run.explain_settings.task} against the baseline "
        f"{run.explanation.baseline}, by {(method or run.explain_settings.method).name}"
    )


def attribution_columns(found: Attributions) -> pd.DataFrame:
    """(N rows) `baseline_logit` and `attribution/NAME` for each feature."""
    names = [f"{ATTRIBUTION}{name}" for name in found.features]
    frame = pd.DataFrame(found.values.double().numpy(), columns=names)
    frame.insert(0, BASELINE_LOGIT, found.baseline_logits.double().numpy())
    return frame


def reason_columns(run: OpenedRun, rows: RawRows, found: Attributions, count: int) -> pd.DataFrame:
    """(N rows) `reason_1` to `reason_count`, as `price = 91.23: −0.77`, strongest first.

    '' where fewer features moved the logit.
    """
    texts = {name: value_text(run, rows, name) for name in found.features}
    return reasons_in_words(found.values, texts, count)


def reasons_in_words(
    values: Tensor, texts: Mapping[str, Callable[[int], str]], count: int
) -> pd.DataFrame:
    """The same from attributions (N, P), and for each feature the text of its value in a row."""
    count = min(count, len(texts))
    places = values.abs().argsort(dim=1, descending=True, stable=True)[:, :count]
    moved, of = values.gather(1, places).tolist(), [*texts.values()]
    words = [
        [reason(of[at](row), by) if by else "" for at, by in zip(*pair, strict=True)]
        for row, pair in enumerate(zip(places.tolist(), moved, strict=True))
    ]
    columns = [f"reason_{rank + 1}" for rank in range(count)]
    return pd.DataFrame(words, range(len(words)), columns, dtype=object)


def reason(subject: str, attribution: float) -> str:
    """`price = 91.23: −0.77`."""
    digits = ".2f" if abs(attribution) >= 0.005 else ".1g"
    return f"{subject}: {minus(f'{attribution:+{digits}}')}"


def value_text(run: OpenedRun, rows: RawRows, feature: str) -> Callable[[int], str]:
    """The text of a feature of a row: `price = 91.23`, `item = Toy Story (1995)`.

    A value that training did not know is marked `(unknown)`. A group of columns, or a dimension of
    an embedding, is its name alone.
    """
    schema, columns = run.schema, run.columns
    if feature not in rows.values:
        return lambda row: feature
    cells = rows.values[feature]
    if feature in schema.dense:
        numbers = cells.to_numpy(np.float64)
        return lambda row: f"{feature} = {_number(numbers[row])}"
    step = feature not in schema.field_names
    field = schema.item if step else feature
    known = run.encoder.vocabularies[field or ""].values
    codes, distinct = pd.factorize(cells, use_na_sentinel=False)
    values = pd.Index(distinct)
    separator = columns.value_separators.get(feature)
    if separator is not None:
        parts = [split_values(str(cell), separator) for cell in values]
        texts = [", ".join(_marked(part, part in known) for part in each) for each in parts]
    else:
        shown = run.items.names_of(values) if field == schema.item else values.astype(str)
        there = known.get_indexer(values.astype(known.dtype)) >= 0
        texts = [_marked(str(name), at) for name, at in zip(shown, there, strict=True)]
    return lambda row: f"{feature} = {texts[codes[row]]}"


def cell_text(cell: object) -> str:
    """A raw value in words."""
    if isinstance(cell, float | np.floating):
        return _number(float(cell))
    return str(cell) or "(empty)"


def _marked(value: str, known: bool) -> str:
    return (value or "(empty)") + ("" if known else " (unknown)")


def _number(value: float) -> str:
    return "(missing)" if np.isnan(value) else minus(f"{value:.6g}")
