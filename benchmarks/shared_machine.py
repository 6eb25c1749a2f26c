"""Time of training, explaining and testing with another busy process, against an idle machine.

Each command runs in turns: alone, and beside as many busy loops as are asked for. The arms are
Glassrec's own choice of threads and of how they wait, and that of PyTorch: all cores, which spin.
Prints the median seconds and the median of the turns' ratios.

    python benchmarks/shared_machine.py [--tests]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

GLASSREC = [sys.executable, "-m", "glassrec"]
SIZES = {
    "training, batch 512": ["trainer.batch_size=512", "model.top=[64,32]"],
    "training, batch 8,192": ["trainer.batch_size=8192", "model.top=[512,256]"],
}
ARMS = {
    "Glassrec": {},
    "PyTorch": {"GOMP_SPINCOUNT": "300000", "OMP_NUM_THREADS": str(os.cpu_count())},
}
"""The second has libgomp's default number of turns in a waiting loop."""


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that compute until the end."""
    code = "while True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """The seconds of a command, and its output."""
    started = perf_counter()
    given = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        command, env={**given, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return perf_counter() - started, done.stdout


def train(folder: Path, size: list[str], environment: dict[str, str]) -> float:
    """The seconds of the epochs of a training."""
    words = ["data.rows=60000", "trainer.max_epochs=4", f"run.dir={folder}", *size]
    _, output = run([*GLASSREC, "train", *words], environment)
    return sum(map(float, re.findall(r"^epoch .* ([0-9.]+) s$", output, re.M)))


def explain(folder: Path, environment: dict[str, str]) -> float:
    """The seconds of a whole `glassrec explain`, of a trained run."""
    words = ["data.rows=60000", "trainer.max_epochs=1", f"run.dir={folder}"]
    run([*GLASSREC, "train", *words], environment)
    return run([*GLASSREC, "explain", *words], environment)[0]


def measure(name: str, arm: str) -> float:
    """The seconds of one turn."""
    with tempfile.TemporaryDirectory() as folder:
        if name in SIZES:
            return train(Path(folder) / "run", SIZES[name], ARMS[arm])
        if name == "explaining":
            return explain(Path(folder) / "run", ARMS[arm])
        return run(["make", "test-fast"], {})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--loops", type=int, default=1, help="busy processes")
    parser.add_argument("--tests", action="store_true", help="the quick tests, too")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {options.loops} busy; {options.turns} turns")
    print(f"{'':22}{'':10}{'idle':>8}{'busy':>8}{'ratio':>8}")
    cases = [(name, arm) for name in [*SIZES, "explaining"] for arm in ARMS]
    cases += [("make test-fast", "Glassrec")] if options.tests else []
    for name, arm in cases:
        turns = []
        for _ in range(options.turns if name != "make test-fast" else 1):
            idle = measure(name, arm)
            with busy(options.loops):
                turns.append((idle, measure(name, arm)))
        idle, loaded = (median(each) for each in zip(*turns, strict=True))
        ratio = median(b / a for a, b in turns)
        print(f"{name:22}{arm:10}{idle:8.2f}{loaded:8.2f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
