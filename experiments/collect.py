"""Finished runs as the CSV of a study, a row a run: collect.py RUN_DIR... > results.csv

A directory of many seeds (seeds=[0,1,2]) stands for the runs in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml


def main(directories: list[str]) -> int:
    """Print the table; 2 if there is nothing to print."""
    if not directories or {"-h", "--help"} & set(directories):
        print(__doc__)
        return 0 if directories else 2
    rows = []
    for directory in map(Path, directories):
        found = [described(directory.name, run) for run in runs(directory)]
        if not found:
            print(f"{directory} holds no finished run", file=sys.stderr)
            return 2
        rows += found
    pd.DataFrame(rows).to_csv(sys.stdout, index=False, float_format="%.6g")
    return 0


def runs(directory: Path) -> Iterator[Path]:
    """The directory itself, or the runs of its seeds, as far as they were evaluated."""
    inside = sorted(directory.glob("seed_*"), key=lambda path: int(path.name.split("_")[1]))
    yield from (run for run in inside or [directory] if (run / "metrics.json").is_file())


def described(name: str, run: Path) -> dict[str, object]:
    """The seed of a run, how long it was trained, which epoch was kept, and its metrics."""
    metrics = json.loads((run / "metrics.json").read_text())
    config = yaml.safe_load((run / "config.yaml").read_text())
    history = pd.read_csv(run / "history.csv")
    validated = [column for column in history if column.startswith("val/")]
    distance = (history[validated] - pd.Series(metrics)[validated]).abs().sum(axis=1)
    best = int(history["epoch"][distance.idxmin()])
    return {
        "run": name,
        "seed": config["seed"],
        "epochs": len(history),
        "best_epoch": best,
        **dict(sorted(metrics.items())),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
