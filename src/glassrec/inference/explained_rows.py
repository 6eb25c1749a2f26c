"""Explained rows of a frame: tables, HTML, figures and a `shap.Explanation`, in the user's values.

An attribution is how much a value moved the logit away from that of the run's baseline. It says
nothing about causes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from glassrec.artifacts import Attributions, Picture
from glassrec.data.cells import LIST_MARK
from glassrec.data.schema import OUTPUTS, Target
from glassrec.explain.methods import Method
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.reasons import basis, value_text
from glassrec.inference.rows import RawRows
from glassrec.report.formatting import format_value, minus, percent
from glassrec.report.style import LARGE, SMALL
from glassrec.report.waterfall import waterfall
from glassrec.spelling import counted

SHOWN_ROWS, SHOWN_FEATURES = 5, 6
"""Of a table in a notebook."""


@dataclass(frozen=True)
class ExplainedRows:
    """The attributions of N rows to P features; a notebook shows the first rows as tables.

    Attributes:
        run: whose model is explained.
        raw: the rows.
        attributions: of the logit, against the run's baseline.
        index: (N,) the index of the frame that the rows come from.
        task: the explained task; the run's if None.
        method: of attribution; the run's if None.
    """

    run: OpenedRun
    raw: RawRows
    attributions: Attributions
    index: pd.Index
    task: str | None = None
    method: Method | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def target(self) -> Target:
        """The explained task."""
        name = self.task or self.run.explain_settings.task
        return next(target for target in self.run.schema.targets if target.name == name)

    @property
    def features(self) -> tuple[str, ...]:
        """The P features: columns, steps of a history, or groups."""
        return self.attributions.features

    @cached_property
    def values(self) -> pd.DataFrame:
        """(N, P) the attributions, a column for each feature."""
        values = self.attributions.values.double().numpy()
        return pd.DataFrame(values, self.index, [*self.features])

    @cached_property
    def data(self) -> pd.DataFrame:
        """(N, P) the values of the features; None for a feature that is not one column."""
        cells = {name: self._cells(name) for name in self.features}
        return pd.DataFrame(cells, self.index)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """(N · P rows) row, feature, value, attribution: the strongest of each row first.

        `row` is the entry of the frame's index.
        """
        order = np.argsort(-np.abs(self.values.to_numpy()), axis=1, kind="stable")
        values, data = (
            np.take_along_axis(each.to_numpy(kind), order, 1).ravel()
            for each, kind in ((self.values, float), (self.data, object))
        )
        return pd.DataFrame(
            {
                "row": self.index.repeat(len(self.features)),
                "feature": np.asarray(self.features, object)[order].ravel(),
                "value": data,
                "attribution": values,
            }
        )

    @property
    def importance(self) -> pd.Series:
        """The mean of |attribution| by feature over these rows, largest first."""
        return self.attributions.importance()

    def plot(self, row: int = 0) -> Picture:
        """A waterfall from the baseline's logit to that of a row; a notebook shows it as PNG.

        Args:
            row: its place among the rows, from 0.

        Raises:
            IndexError: there is no such row.
        """
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row}: there are {counted(len(self), 'row')}, from 0")
        row %= len(self)
        about, found = self.run.explanation, self.attributions
        method = self.method or self.run.explain_settings.method
        return waterfall(
            [text(row) for text in self._texts],
            found.values[row].double().numpy(),
            float(found.baseline_logits[row]),
            float(found.logits[row]),
            title=self._title(row),
            facts=[
                f"attributions of the logit of {self.target.name}, by {method.name}",
                f"baseline: {about.baseline}",
            ],
            probability=self.target.kind == "click",
        )

    def to_shap(self) -> Any:
        """A `shap.Explanation` of the logit, for the plots of shap.

        `base_values` are the logits of the baseline; `data` are your values, `display_data` the
        same as text, with the names of items.

        Raises:
            ImportError: shap is not installed.
        """
        try:
            import shap
        except ImportError as error:
            raise ImportError("to_shap needs shap; pip install shap") from error
        shown = [
            [text(row).removeprefix(f"{name} = ") for row in range(len(self))]
            for name, text in zip(self.features, self._texts, strict=True)
        ]
        return shap.Explanation(
            values=self.values.to_numpy(),
            base_values=self.attributions.baseline_logits.double().numpy(),
            data=self.data.to_numpy(object),
            display_data=np.array(shown, object).T,
            feature_names=[*self.features],
            output_names=f"logit of {self.target.name}",
        )

    def _repr_html_(self) -> str:
        """Tables of the first rows; a bar shows the size of each attribution."""
        parts = [self._table(row) for row in range(min(len(self), SHOWN_ROWS))]
        if len(self) > SHOWN_ROWS:
            parts.append(f"<p>and {counted(len(self) - SHOWN_ROWS, 'more row')}: see .frame</p>")
        note = escape(basis(self.run, self.task, self.method))
        return f"{''.join(parts)}<p><small>{note}</small></p>"

    def _table(self, row: int) -> str:
        sizes = self.attributions.values[row].double().numpy()
        order = np.argsort(-np.abs(sizes), kind="stable")[:SHOWN_FEATURES]
        largest = float(np.abs(sizes).max()) or 1.0
        lines = []
        for at in order:
            colour = SMALL if sizes[at] > 0 else LARGE
            bar = (
                f'<div style="width:{60 * abs(sizes[at]) / largest:.0f}px;height:0.7em;'
                f'background:{colour}"></div>'
            )
            number = minus(f"{sizes[at]:+.3g}")
            lines.append(
                f'<tr><td style="text-align:left">{escape(self._texts[at](row))}</td>'
                f'<td style="text-align:right">{number}</td><td>{bar}</td></tr>'
            )
        return f"<p><b>{escape(self._title(row))}</b></p><table>{''.join(lines)}</table>"

    def _title(self, row: int) -> str:
        found = self.attributions
        before, after = (float(each[row]) for each in (found.baseline_logits, found.logits))
        name, label = OUTPUTS[self.target.kind], f"row {self.index[row]}"
        if self.target.kind == "click":
            shown = [percent(float(expit(logit))) for logit in (before, after)]
        else:
            shown = [format_value(value) for value in (before, after)]
        return f"{label}: {name} {shown[1]}, {shown[0]} at the baseline"

    @cached_property
    def _texts(self) -> list[Callable[[int], str]]:
        """For each feature, its text of a row: `price = 91.23`."""
        return [value_text(self.run, self.raw, name) for name in self.features]

    def _cells(self, feature: str) -> np.ndarray:
        cells = self.raw.values.get(feature)
        if cells is None:
            return np.full(len(self), None, object)
        if separator := self.run.columns.value_separators.get(feature):  # a list is shown as a|b
            cells = cells.str.removeprefix(LIST_MARK).str.replace(LIST_MARK, separator)
        return cells.to_numpy(float if feature in self.run.schema.dense else object)
