"""A table that several explained runs hold, as one CSV: tables.py TABLE RUN_DIR... > TABLE.csv

TABLE is importance, neurons, removals, pairs, methods or explanation, which is a row of facts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd


def main(words: list[str]) -> int:
    """Print the table; 2 if a run does not hold it."""
    if len(words) < 2 or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0 if {"-h", "--help"} & set(words) else 2
    name, runs = words[0], [Path(word) for word in words[1:]]
    file = "explanation.json" if name == "explanation" else f"{name}.parquet"
    for run in runs:
        if not (run / file).is_file():
            print(f"{run} holds no {file}", file=sys.stderr)
            return 2
    pd.concat([table(run, file) for run in runs]).to_csv(
        sys.stdout, index=False, float_format="%.4g"
    )
    return 0


def table(run: Path, file: str) -> pd.DataFrame:
    """The table of one run, with the name of its directory before all columns."""
    path = run / file
    facts = path.suffix == ".json"
    frame = pd.DataFrame([json.loads(path.read_text())]) if facts else pd.read_parquet(path)
    frame.insert(0, "run", run.name)
    return frame


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
