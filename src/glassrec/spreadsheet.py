"""CSV tables whose text no spreadsheet runs as a formula. Nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table, without its index, for spreadsheets: no text in it acts as a formula.

    A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@`, a tab or a line break; such a
    heading or text gets an apostrophe in front (OWASP, "CSV Injection"). Numbers stay numbers, also
    where they lie in a column of text. A carriage return, which is not quoted, becomes a newline.
    """
    safe = frame.rename(columns=_not_a_formula)
    for place, kind in enumerate(safe.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            cells = [_not_a_formula(cell) for cell in safe.iloc[:, place].astype(object)]
            safe.isetitem(place, np.array([*cells, None], dtype=object)[:-1])
    safe.to_csv(path, index=False)


def _not_a_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    if not text.startswith(("=", "+", "-", "@", "\t", "\n")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
