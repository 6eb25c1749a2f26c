"""Score raw rows by model.onnx beside this file; it needs onnxruntime and pandas alone.

    python score_onnx.py rows.csv > scored.csv
    python score_onnx.py --check               compare golden rows with those of the export

A row with a number that the model cannot take has no logit, where score.py refuses it.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import onnxruntime
import pandas as pd

HERE, EXPECTED = Path(__file__).parent, "expected/"
READ = partial(pd.read_csv, dtype=str, keep_default_na=False, chunksize=16384)
TYPES = {
    "tensor(string)": (object, ""),
    "tensor(int64)": ("int64", -1),
    "tensor(double)": ("float64", float("nan")),
}
"""How an array holds the values of an input, and stands for an empty cell."""


class OnnxBundle:
    """The model in a folder."""

    def __init__(self, folder: Path = HERE) -> None:
        self.session = onnxruntime.InferenceSession(folder / "model.onnx")
        self.lists = json.loads(self.session.get_modelmeta().custom_metadata_map["lists"])

    def score(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Predictions and logits of rows of text; ValueError names a column to correct."""
        inputs = {}
        for each in self.session.get_inputs():
            if each.name not in rows:
                raise ValueError(f"the column {each.name} is missing")
            cells, (kind, empty) = rows[each.name].str.strip(), TYPES[each.type]
            if each.name in self.lists:
                (separator, past), width = self.lists[each.name], each.shape[1]
                lists = [[v.strip() for v in c.split(separator) if v.strip()] for c in cells]
                fill = [""] * width
                lists = [(fill + v)[-width:] if past else (v + fill)[:width] for v in lists]
                cells = pd.DataFrame(lists, rows.index, dtype=object)
            try:
                inputs[each.name] = cells.astype(object).replace("", empty).to_numpy().astype(kind)
            except ValueError as error:
                raise ValueError(f"column {each.name}: {error}; correct it") from None
        names = [each.name for each in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, inputs), strict=True))
        return pd.DataFrame(found, rows.index)


def check(folder: Path = HERE) -> Iterator[str]:
    """The golden rows with another logit or prediction."""
    for rows in READ(folder / "golden.csv"):
        for name, values in OnnxBundle(folder).score(rows).items():
            was = rows[f"{EXPECTED}{name}"].astype(float)
            right = (values - was).abs() <= 1e-5 * was.abs().clip(lower=1)
            yield from (f"row {r}: {name} is {values[r]}, was {was[r]}" for r in was.index[~right])


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["--check"]:
            sys.exit("\n".join(check()) or print("the golden rows are as exported"))
        if len(sys.argv) != 2:
            sys.exit(__doc__)
        model = OnnxBundle()
        for number, part in enumerate(READ(sys.argv[1])):
            scored = pd.concat([part, model.score(part)], axis=1)
            scored.to_csv(sys.stdout, index=False, header=number == 0)
    except (ValueError, OSError) as error:
        sys.exit(f"score_onnx.py: {error}")
