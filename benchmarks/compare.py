"""Seconds that `glassrec compare` takes, a process each time, from the command to its last line.

One small run is made, or one given, and copied: each copy gets another seed, learning rate or
width, and its numbers are shaken, so that nothing in it is another's. Prints the seconds of the
command, with those that a processor worked, and of reading and comparing alone.

    python benchmarks/compare.py [--run DIR] [--runs 500]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pandas as pd
import yaml

SMALL = (
    "data.rows=2000", "trainer=cpu", "trainer.max_epochs=1", "explain.select.rows=50",
    "explain/compare=none", "prune/curves=quick",
)  # fmt: skip

SEEDS = 5

TABLES = ("importance.parquet", "neurons.parquet", "pruning_curves.parquet")
"""Those that the comparison reads."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--runs", type=int, default=500)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        source = asked.run or made(Path(folder) / "source")
        runs = Path(folder) / "runs"
        for number in range(asked.runs):
            copy(source, runs / str(number), number)
        for turn in range(3):
            began, busy = perf_counter(), children()
            command = [sys.executable, "-m", "glassrec", "compare", str(runs)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            took, worked = perf_counter() - began, children() - busy
            print(f"turn {turn}: {asked.runs} runs in {took:.1f} s, {worked:.1f} s of a processor")
        alone(runs)


def children() -> float:
    """Seconds that processors have worked for the processes started here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def alone(runs: Path) -> None:
    """Reading and comparing, without the start of Python, the page and the tables."""
    from glassrec.compare.run_comparison import compare
    from glassrec.compare.scan import scan

    began = perf_counter()
    found = scan([runs])
    read = perf_counter()
    compare(found)
    print(f"of that, reading {read - began:.1f} s and comparing {perf_counter() - read:.1f} s")


def made(directory: Path) -> Path:
    """A small run."""
    command = [sys.executable, "-m", "glassrec", "run", f"run.dir={directory}", *SMALL]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return directory


def copy(source: Path, directory: Path, number: int) -> None:
    """A run like another, with a seed and settings of its own, and numbers that are others."""
    generator = np.random.default_rng(number)
    directory.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix in (".json", ".html") or path.name in ("history.csv", ".lock"):
            (directory / path.name).write_bytes(path.read_bytes())
    config = yaml.safe_load((source / "config.yaml").read_text())
    place, config["seed"] = divmod(number, SEEDS)
    config["optimizer"]["lr"] = 0.001 * (1 + place % 10)
    config["trainer"]["batch_size"] = 64 * (1 + place // 10)
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    metrics = json.loads((source / "metrics.json").read_text())
    shaken = {name: value and value * generator.uniform(0.9, 1) for name, value in metrics.items()}
    (directory / "metrics.json").write_text(json.dumps(shaken))
    for path in source.glob("*.parquet"):
        if path.name not in TABLES:
            continue
        frame = pd.read_parquet(path)
        if "mean_abs" in frame:
            frame["mean_abs"] *= generator.uniform(0.5, 1, len(frame))
        frame.to_parquet(directory / path.name, index=False)


if __name__ == "__main__":
    main()
