"""Score raw rows by the model beside this file; it needs torch and pandas, and no Glassrec.

    python score.py rows.csv > scored.csv
    python score.py --check               compare files and golden rows with those of the export

Columns may stand in any order. `history`, of sequence models, holds earlier items: a|b|c.
"""

import csv
import hashlib
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

HERE, CHUNK, EXPECTED = Path(__file__).parent, 16384, "expected/"
TYPES: dict[str, Any] = {"text": str, "integer": int, "number": float}
WORDS = {"true": 1, "false": 0}


class Bundle:
    """The encoder and the model in a folder."""

    def __init__(self, folder: Path = HERE) -> None:
        self.about = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        self.model = torch.export.load(folder / "model.pt2").module()
        fields = {each["name"]: each for each in self.about["fields"]}
        for each in fields.values():
            each["ids"] = {v: at for at, v in enumerate(each["values"], each["first_id"] + 1)}
        self.about["history"] = [fields[each["field"]] | each for each in self.about["history"]]

    def score(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Predictions and logits of rows of text; ValueError names a column to correct."""
        inputs = []
        for role, encode in {"dense": scaled, "fields": encoded, "history": encoded}.items():
            parts = [np.empty((len(rows), 0), np.float32 if role == "dense" else np.int64)]
            for each in self.about[role]:
                if each["name"] not in rows:
                    raise ValueError(f"the column {each['name']} is missing")
                try:
                    parts.append(encode(rows[each["name"]].str.strip(), each))
                except ValueError as error:
                    raise ValueError(f"column {each['name']}: {error}; correct it") from None
            inputs.append(torch.from_numpy(np.hstack(parts)))
        with torch.no_grad():
            logits = self.model(*inputs).double()
        found = {}
        for each, values in zip(self.about["outputs"], logits.unbind(1), strict=True):
            found[each["name"]] = (values.sigmoid() if each["kind"] == "click" else values).numpy()
            found[each["logit"]] = values.numpy()
        return pd.DataFrame(found, rows.index)


def encoded(cells: pd.Series, field: dict[str, Any]) -> np.ndarray:
    """(N, width) ids: the first values, then -1; or, of a history, zeros, then the last items."""
    width, separator, past = field["width"], field["separator"], "field" in field
    found = np.full((len(cells), width), 0 if past else -1)
    for row, cell in zip(found, cells, strict=True):
        parts = [v.strip() for v in cell.split(separator) if v.strip()] if separator else [cell]
        values = map(TYPES[field["type"]], parts[-width:] if past else (parts or [""])[:width])
        ids = [field["ids"].get(value, field["first_id"]) for value in values]
        row[width - len(ids) if past else 0 :][: len(ids)] = ids
    return found


def scaled(cells: pd.Series, column: dict[str, Any]) -> np.ndarray:
    """(N, 1) float32: standardised numbers; a missing one, where it may be, becomes the mean."""
    missing = cells.isin(column["missing"]).to_numpy()
    values = np.array([float(WORDS.get(v.lower(), v)) for v in cells.mask(missing, "0")])
    inside = (values >= column["low"]) & (values <= column["high"]) | missing
    if not inside.all():
        raise ValueError(f"{values[~inside][0]} is outside {column['low']} to {column['high']}")
    values = np.log1p(np.maximum(values, 0)) if column["log"] else values
    found = np.where(missing, 0.0, (values - column["mean"]) / column["deviation"])
    return found.astype(np.float32)[:, None]


def read(path: Path) -> Iterator[pd.DataFrame]:
    """The rows of a CSV file as text, some at a time."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = (line for line in csv.reader(file, strict=True) if line)
        names = [name.strip() for name in next(lines, [])]
        while part := list(islice(lines, CHUNK)):
            if ragged := [cells for cells in part if len(cells) != len(names)]:
                raise ValueError(f"{len(names)} cells are needed, but a line is {ragged[0]}")
            yield pd.DataFrame(part, columns=names, dtype=str)


def check(folder: Path = HERE) -> Iterator[str]:
    """All files that are not as exported; if none, all golden rows with another logit."""
    files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    hashes = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in files}
    yield from (f"{name} has changed" for name in files if hashes[name] != files[name])
    for rows in read(folder / "golden.csv") if hashes == files else ():
        for name, values in Bundle(folder).score(rows).items():
            was = rows[f"{EXPECTED}{name}"].astype(float)
            right = (values - was).abs() <= 1e-5 * was.abs().clip(lower=1)
            yield from (f"row {r}: {name} is {values[r]}, was {was[r]}" for r in was.index[~right])


def main(words: list[str]) -> str | None:
    """Score or check; the error message, if anything is wrong."""
    if words == ["--check"]:
        return "\n".join(check()) or print("files and golden rows are as exported")
    if len(words) != 1:
        return __doc__
    bundle = Bundle()
    for part, rows in enumerate(read(Path(words[0]))):
        found = pd.concat([rows, bundle.score(rows)], axis=1)
        found.to_csv(sys.stdout, index=False, header=part == 0)
    return None


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError, csv.Error) as error:
        sys.exit(f"score.py: {error}")
