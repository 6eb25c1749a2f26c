"""What the curves of many seeds say together: read.py RUN_DIR...

Each directory holds the runs of one setting (seeds=[0,1,2]). Beside this file it writes curves.csv,
duels.csv and figures/NAME.png, and it prints the sentences of each setting.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from over_seeds import pairwise_comparisons, seed_statements

from glassrec.report.model_figures import pruning_curves

HERE = Path(__file__).parent


def curves(directory: Path) -> pd.DataFrame:
    """The tables of all seeds of a setting."""
    files = sorted(directory.glob("seed_*/pruning_curves.parquet"))
    parts = {int(file.parent.name.removeprefix("seed_")): pd.read_parquet(file) for file in files}
    return pd.concat(parts, names=["seed"]).reset_index("seed").reset_index(drop=True)


def main(words: list[str]) -> int:
    """Write the tables and pictures; 2 if a directory holds none."""
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0 if words else 2
    directories = [Path(word) for word in words]
    for directory in directories:
        if not [*directory.glob("seed_*/pruning_curves.parquet")]:
            print(f"{directory} holds no run of a seed with curves", file=sys.stderr)
            return 2
    frames = {directory.name: curves(directory) for directory in directories}
    compared = {}
    for name, frame in frames.items():
        metric = next(column for column in frame if "/" in column)
        compared[name] = pairwise_comparisons(frame, metric).assign(metric=metric)
        statements = seed_statements(frame, metric)
        print(f"\n{name}", *statements, sep="\n- ")
        picture = pruning_curves(frame, metric, statements[0])
        (HERE / "figures").mkdir(exist_ok=True)
        picture.save(HERE / "figures" / f"{name}.png")
    _write("curves", frames)
    _write("duels", compared)
    return 0


def _write(name: str, frames: dict[str, pd.DataFrame]) -> None:
    """One below the other, each with the name of its setting."""
    whole = pd.concat(frames, names=["run"]).reset_index("run")
    whole.to_csv(HERE / f"{name}.csv", index=False, float_format="%.5g")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
