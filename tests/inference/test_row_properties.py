"""Fuzzed raw rows: encoded as by an encoder that is written here anew, or refused by both.

`make fuzz` tries 10,000 of each format.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_clicks import FinishedRun

from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.predict import predictions
from glassrec.inference.rows import RawRows, read_rows

EXAMPLES = int(os.environ.get("GLASSREC_EXAMPLES", "100"))
FIELDS = ("user_id", "sku", "city", "device", "brand", "tags")
DENSE = ("price", "age", "views")
NAMES = [*FIELDS, *DENSE, "note"]
MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null",
}  # fmt: skip
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LARGEST = float(np.finfo(np.float32).max)


class RefusedError(Exception):
    """A row that must not be read."""


class Reference:
    """Vocabularies and scalers from the training rows, in plain Python."""

    def __init__(self, run: FinishedRun) -> None:
        keys = run.dataset.row_keys
        assert keys is not None
        places = keys.loc[keys["split"] == "train", "row"] - 1
        rows = run.log.iloc[places.to_numpy()].astype(str).to_dict("records")
        cells = {name: [self.values(name, row[name]) for row in rows] for name in FIELDS}
        self.known = {name: sorted({v for c in cells[name] for v in c}) for name in FIELDS}
        self.width = {name: max(map(len, cells[name])) for name in FIELDS}
        self.scale = {}
        for name in DENSE:
            given = [float(row[name]) for row in rows if row[name]]
            changed = [math.log1p(max(x, 0.0)) if name == "views" else x for x in given]
            mean = math.fsum(changed) / len(changed)
            variance = math.fsum((x - mean) ** 2 for x in changed) / len(changed)
            self.scale[name] = mean, math.sqrt(variance)

    @staticmethod
    def values(name: str, cell: str) -> list[str]:
        if name != "tags":
            return [cell.strip()]
        return [part.strip() for part in cell.split("|") if part.strip()] or [""]

    def ids(self, row: dict[str, Any]) -> Iterator[int]:
        start = 0
        for name in FIELDS:
            cell = row[name]
            values = cell if isinstance(cell, list) else self.values(name, cell)
            values = values[: self.width[name]]
            for value in values:
                known = value in self.known[name]
                yield start + (self.known[name].index(value) + 1 if known else 0)
            yield from [-1] * (self.width[name] - len(values))
            start += len(self.known[name]) + 1

    def dense(self, row: dict[str, Any]) -> Iterator[float]:
        for name in DENSE:
            text = row[name].strip()
            if text in MISSING:
                if name != "age":
                    raise RefusedError
                yield 0.0
                continue
            if text.lower() in ("true", "false"):
                number = float(text.lower() == "true")
            elif DECIMAL.fullmatch(text):
                number = float(text)
            else:
                raise RefusedError
            if abs(number) > LARGEST or (name == "age" and not 0 <= number <= 120):
                raise RefusedError
            mean, deviation = self.scale[name]
            changed = math.log1p(max(number, 0.0)) if name == "views" else number
            scaled = (changed - mean) / deviation
            if abs(scaled) > LARGEST:
                raise RefusedError
            yield scaled


def plain(name: str, cell: Any) -> Any:
    """A JSON value as the text, or the list of texts, that it stands for."""
    if isinstance(cell, list):
        if name != "tags":
            raise RefusedError
        texts = [plain("", each).strip() for each in cell]
        if any("\x01" in text for text in texts):
            raise RefusedError
        return [text for text in texts if text] or [""]
    if isinstance(cell, dict):
        raise RefusedError
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e16:
        return str(int(cell))
    text = str(cell)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RefusedError
    return text


@pytest.fixture(scope="module")
def reference(finished: FinishedRun) -> Reference:
    return Reference(finished)


LETTERS = st.characters(blacklist_characters="\0\x01", blacklist_categories=("Cs",))
TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "NA",
            "null",
            "nan",
            "None",
            "inf",
            "-Infinity",
            "1e400",
            "1e39",
            "-1e39",
            "3e38",
            "1_000",
            "0x10",
            "1,5",
            "１２",
            "+.5",
            "5.",
            "1e",
            "--1",
            "TRUE",
            "False",
            "yes",
            "99999999",
            " 12 ",
            "1e-400",
            "new|",
            "||",
            "|new|| sale |",
            "new|new|new|new|new",
            "größe",
            "é",
            "e\u0301",
            "\u00a0Paris\u00a0",
            "Paris ",
            "PARIS",
            '"',
            '""',
            "a\nb",
            "a\r\nb",
            "a\rb",
            "=1+1",
            ",",
            "\ufeff",
            "9" * 400,
            "x" * 5000,
            "東京",
            "-0",
            "120",
            "120.0000001",
            "0",
            "-1",
        ]
    ),
    st.text(LETTERS, max_size=12),
    st.floats(width=64).map(repr),
    st.integers(-(10**40), 10**40).map(str),
)
VALUES = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.floats(width=64),
    st.integers(-(10**40), 10**40),
    st.lists(
        st.one_of(TEXTS, st.none(), st.integers(), st.sampled_from(["new", "sale"])), max_size=4
    ),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.just("\ud83d"),
)


def fuzzed(cells: st.SearchStrategy[Any], base: dict[str, str], draw: Any) -> dict[str, Any]:
    """A row of the log with changed and swapped cells."""
    row: dict[str, Any] = dict(base)
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        row[name] = draw(cells)
    if draw(st.integers(0, 5)) == 0:
        one, other = draw(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)))
        row[one], row[other] = row[other], row[one]
    return {name: row[name] for name in draw(st.permutations(NAMES))}


def read(opened: OpenedRun, path: Path) -> RawRows | str:
    """The one row of a file, or the message that refuses it."""
    try:
        (rows,) = read_rows(opened, path)
    except ValueError as error:
        return str(error)
    return rows


def agree(opened: OpenedRun, reference: Reference, row: dict[str, Any], path: Path) -> None:
    found = read(opened, path)
    try:
        cells = {name: plain(name, cell) for name, cell in row.items() if name != "note"}
        if any(isinstance(cells[name], list) for name in DENSE):
            raise RefusedError
        ids, dense = [*reference.ids(cells)], [*reference.dense(cells)]
    except RefusedError:
        assert isinstance(found, str), f"read, and should be refused: {row}"
        assert f"{path}, line {1 if path.suffix == '.jsonl' else 2}" in found
        return
    assert not isinstance(found, str), f"refused: {found}"
    assert found.batch.ids[0].tolist() == ids
    np.testing.assert_allclose(found.batch.dense[0], np.float32(dense), rtol=2e-6, atol=2e-6)
    scores = predictions(opened, found)
    assert scores["probability"].between(0, 1).all() or abs(np.float32(dense)).max() > 1e15


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_fuzzed_rows_are_encoded_as_by_an_independent_encoder(
    finished: FinishedRun, opened: OpenedRun, reference: Reference, tmp_path: Path, form: str
) -> None:
    log = finished.log.astype(str).assign(note="n").to_dict("records")
    path = tmp_path / f"fuzzed.{form}"

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck], database=None
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        base = log[data.draw(st.integers(0, len(log) - 1))]
        row = fuzzed(TEXTS if form == "csv" else VALUES, base, data.draw)
        if form == "csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
                if any("\r" in cell for cell in row.values()):  # which the module leaves bare
                    quoting = csv.QUOTE_ALL
                end = data.draw(st.sampled_from(["\n", "\r\n"]))
                writer = csv.writer(file, quoting=quoting, lineterminator=end)
                writer.writerows([[*row], [*row.values()]])
        else:
            path.write_text(json.dumps(row), encoding="utf-8")
        agree(opened, reference, row, path)

    check()
