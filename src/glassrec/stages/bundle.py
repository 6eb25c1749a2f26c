"""The bundle of an exported model: a folder that scores raw rows with torch and pandas alone.

`score.py`, which is copied there, encodes raw rows by itself. Golden rows hold the logits of the
run's own model and encoder, so that a change of any part, or a difference between both, is found.
"""

from __future__ import annotations

import csv
import inspect
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glassrec.artifacts import Binary, Facts, StoredTable, Text
from glassrec.artifacts import file_list as files
from glassrec.data.cells import LARGEST, LIST_MARK, MISSING, split_values
from glassrec.data.columns import Part
from glassrec.data.encoding import Encoder, MultiValued
from glassrec.data.events import EARLIER, step_names
from glassrec.data.saved_encoder import restore_encoder, value_type
from glassrec.data.schema import OUTPUTS
from glassrec.models.base import Recommender
from glassrec.run import ReadOnlyRun
from glassrec.stages import score
from glassrec.stages.context import Context


def stored_encoder(run: ReadOnlyRun) -> Encoder | None:
    """The encoder that a run has kept; None if its data was not made from raw rows."""
    described = run.read(files.ENCODER).values
    return restore_encoder(run.read(files.VOCABULARY).frame, described) if described else None


def bundle(
    context: Context, encoder: Encoder, model: Callable[[], Recommender], program: Binary
) -> int:
    """Store the bundle of a small model and its program; the number of golden rows."""
    run = context.run
    context.once(files.BUNDLE_PROGRAM, lambda: program)
    context.once(files.BUNDLE_ENCODER, lambda: Facts(plain_encoder(encoder)))
    context.once(files.BUNDLE_VOCABULARY, lambda: StoredTable(run.read(files.VOCABULARY).frame))
    context.once(files.SCORE, lambda: Text(inspect.getsource(score)))
    rows = context.once(files.GOLDEN, lambda: golden_rows(run, encoder, model()))
    if run.has(files.BUNDLE_ONNX):
        script = Path(score.__file__).with_name(Path(files.SCORE_ONNX.name).name)
        context.once(files.SCORE_ONNX, lambda: Text(script.read_text(encoding="utf-8")))
    sealed = tuple(file for file in files.MANIFEST.inputs if run.has(file))
    hashes = {file.name.removeprefix(files.BUNDLE): run.sha256_of(file) for file in sealed}
    context.once(replace(files.MANIFEST, inputs=sealed), lambda: Facts(hashes))
    return len(_read(rows))


def plain_encoder(encoder: Encoder) -> dict[str, Any]:
    """Everything that makes tensors of raw rows, for programs without Glassrec.

    dense: the columns of the first input, in order, with their scalers. fields: those of the second
    one; the value at place i has the id first_id + 1 + i, and an unknown one first_id. history: the
    third one. outputs: the tasks, in the order of the logits.
    """
    schema, columns = encoder.schema, encoder.columns
    separators = columns.value_separators
    dense, fields = [], []
    for name, scaler in encoder.scalers.items():
        ends = columns.ranges.get(name, (-LARGEST, LARGEST))
        low, high = (float(np.clip(end, -LARGEST, LARGEST)) for end in ends)
        missing = sorted(MISSING) if name in columns.missing_ok else []
        dense.append(
            {"name": name, "log": scaler.log, "mean": scaler.mean, "deviation": scaler.deviation,
             "low": low, "high": high, "missing": missing}
        )  # fmt: skip
    for offset, (name, known) in zip(schema.offsets, encoder.vocabularies.items(), strict=True):
        width = known.width if isinstance(known, MultiValued) else 1
        fields.append(
            {"name": name, "type": value_type(known.values), "first_id": offset, "width": width,
             "separator": separators.get(name), "values": known.values.tolist()}
        )  # fmt: skip
    history = {"name": EARLIER, "field": schema.item, "width": schema.history_length}
    outputs = [
        {"name": schema.metric(target, OUTPUTS[target.kind]), "kind": target.kind,
         "logit": schema.metric(target, "logit")}
        for target in schema.targets
    ]  # fmt: skip
    return {
        "dense": dense,
        "fields": fields,
        "history": [history | {"separator": "|"}] if schema.history_length else [],
        "outputs": outputs,
    }


def golden_rows(run: ReadOnlyRun, encoder: Encoder, model: Recommender) -> Text:
    """The samples of a run as CSV, with the predictions and logits of a model.

    Rows with a list whose values hold the separator are left out: no CSV file can hold them.
    """
    schema, rows = encoder.schema, run.read(files.SAMPLE_ROWS).frame
    separators = {**encoder.columns.value_separators, EARLIER: "|"}
    separators = {name: each for name, each in separators.items() if name in rows}
    for name, separator in separators.items():
        rows = rows[[cell[:1] != LIST_MARK or separator not in cell for cell in rows[name]]]
    rows = rows.reset_index(drop=True)
    frame = rows.drop(columns=EARLIER, errors="ignore")
    if schema.history_length:
        frame = pd.concat([frame, _steps(rows[EARLIER], encoder)], axis=1)
    labels = np.zeros((len(frame), len(schema.targets)), np.float32)
    logits = model.predict(encoder.encode(Part(frame, labels)).batch).double()
    for name, separator in separators.items():
        rows[name] = [separator.join(split_values(cell, separator)) for cell in rows[name]]
    for target, values in zip(schema.targets, logits.unbind(1), strict=True):
        shown = values.sigmoid() if target.kind == "click" else values
        for name, numbers in {OUTPUTS[target.kind]: shown, "logit": values}.items():
            rows[f"{score.EXPECTED}{schema.metric(target, name)}"] = numbers.numpy()
    # With quotes around every text, as a carriage return gets none by itself.
    return Text(rows.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n"))


def _steps(cells: pd.Series, encoder: Encoder) -> pd.DataFrame:
    """The columns of a history of cells `a|b|c`."""
    known = encoder.vocabularies[encoder.schema.item or ""].values
    kind, length = score.TYPES[value_type(known)], encoder.schema.history_length
    found = np.full((len(cells), length), None, object)
    for row, cell in zip(found, cells, strict=True):
        items = [kind(item) for item in split_values(cell, "|") if item]
        row[length - len(items) :] = items
    return pd.DataFrame(found, columns=step_names(length))


def golden_cells(rows: Text) -> dict[str, str | float]:
    """The cells of golden rows: text, and the predictions and logits as numbers."""
    return {
        f"{name} of row {at}": float(cell) if str(name).startswith(score.EXPECTED) else cell
        for name, cells in _read(rows).items()
        for at, cell in cells.items()
    }


def _read(rows: Text) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(rows.text, newline=""), dtype=str, keep_default_na=False)
