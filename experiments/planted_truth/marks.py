"""What finished runs found of known effects: marks.py methods|rankings|players RUN_DIR... > CSV

methods: one row a method; rankings: one row a ranking of players or pairs; players: one row a
player. A directory of many seeds (seeds=[0,1,2]) stands for the runs in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml


def methods(run: Path) -> pd.DataFrame:
    """The table of methods, with how far deletion and insertion lie above a random order."""
    table = pd.read_parquet(run / "methods.parquet")
    for kind in ("deletion", "insertion"):
        table[f"{kind}_gap"] = table[kind] - table[f"{kind}_random"]
    marks = [name for name in table if name.startswith(("truth_", "main_"))]
    trust = ["delta", "deletion_gap", "insertion_gap", "infidelity", "agreement", "seconds"]
    return table[["method", *marks, *trust, "problem"]]


def rankings(run: Path) -> pd.DataFrame:
    """The marks of each ranking."""
    found: dict[str, dict[str, float]] = {}
    for key, value in json.loads((run / "truth.json").read_text()).items():
        name, _, mark = key.removeprefix("truth/").rpartition("_")
        found.setdefault(name, {})[mark] = value
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("ranking").reset_index()


def players(run: Path) -> pd.DataFrame:
    """What is known of each player."""
    table = pd.read_parquet(run / "importance.parquet")
    return table[["player", "mean_abs", "mean", "rank", "rank_low", "rank_high", "q_value"]]


def each(directories: list[str]) -> Iterator[tuple[str, Path]]:
    """The runs of the seeds in each directory, or itself, under its name."""
    for directory in map(Path, directories):
        for run in sorted(directory.glob("seed_*")) or [directory]:
            yield directory.name, run


def main(words: list[str]) -> int:
    """Print the table; 2 if it is not clear which."""
    tables = {"methods": methods, "rankings": rankings, "players": players}
    if len(words) < 2 or words[0] not in tables:
        print(__doc__)
        return 2
    found = []
    for name, run in each(words[1:]):
        table = tables[words[0]](run)
        table.insert(0, "seed", yaml.safe_load((run / "config.yaml").read_text())["seed"])
        table.insert(0, "run", name)
        found.append(table)
    pd.concat(found).to_csv(sys.stdout, index=False, float_format="%.4g")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
