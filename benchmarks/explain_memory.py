"""The peak memory of the whole explanation stage for few rows and for many.

Trains a small DLRM on planted data, and explains all N training rows: attributions, importance,
neurons, pairs, methods and pictures. What is measured is the largest resident set of the process
while it explains (Linux's VmHWM, reset before) less its resident set once data and model are
loaded. The libraries are not in it: a small run before that has loaded all of them. Each N has a
fresh process, in which freed memory goes back to the system at once: how much of it the allocator
would keep depends on what was freed when the data was loaded.

    python benchmarks/explain_memory.py
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa
import torch

from glassrec.__main__ import main as glassrec
from glassrec.artifacts.file_list import FEATURE_IMPORTANCE, WEIGHTS
from glassrec.config import compose
from glassrec.pipeline import Pipeline, external_hashes
from glassrec.run import Run
from glassrec.stages.context import Context, TrainedModel
from glassrec.stages.explain import explain
from glassrec.stages.outputs import explain_pictures
from glassrec.stages.train import describe

SETTINGS = [
    "model.embedding=4", "model.bottom=[16]", "model.top=[32,16]", "trainer=cpu",
    "trainer.max_epochs=1", "trainer.batch_size=4096", "explain.select.rows=null",
    "explain.select.split=train", "explain.method.steps=8", "explain.neurons.steps=8",
    "explain.tolerance=1",
]  # fmt: skip
SMALL = 1000
"""Rows of the run that loads the libraries."""

HONEST = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Makes glibc give freed blocks back, as it does by itself until larger ones are freed."""

TRAIN = 0.8
"""The share of planted rows that train."""

MIB = 2**20


def words_of(directory: Path, rows: int) -> list[str]:
    return [f"run.dir={directory}", f"data.rows={round(rows / TRAIN)}", *SETTINGS]


@contextmanager
def trained(directory: Path, rows: int) -> Iterator[tuple[TrainedModel, dict[str, Any]]]:
    """The model of a trained run, with its data loaded, and the facts of the data."""
    checked = compose.prepare("explain", words_of(directory, rows), None)
    with closing(Run(directory, compose.plain(checked))) as run:
        pipeline = Pipeline(run=run, **compose.build(checked))
        found = TrainedModel(Context(pipeline, external_hashes(pipeline)), run.read(WEIGHTS))
        assert found.context.dataset.train.batch.rows == rows
        assert found.model.table.weight.numel()
        yield found, describe(found.context)


def explain_and_draw(model: TrainedModel, facts: dict[str, Any]) -> None:
    for file, draw in explain_pictures(explain(model), facts):
        model.context.once(file, draw)


def resident(key: str) -> int:
    """Bytes of the resident set: now (VmRSS), or at most since `forget_peak` (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """What is free goes back to the system first: used again, it would hide what is taken."""
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def measure(rows: int, folder: Path) -> None:
    """Explain in this process, and write the finding as JSON on the last line."""
    with trained(folder / str(SMALL), SMALL) as small:
        explain_and_draw(*small)
        assert FEATURE_IMPORTANCE.name in small[0].context.run.recorded, "libraries are not loaded"
    with trained(folder / str(rows), rows) as model:
        forget_peak()
        before, start = resident("VmRSS"), perf_counter()
        explain_and_draw(*model)
        found = {"peak": resident("VmHWM") - before, "seconds": perf_counter() - start}
    print(json.dumps(found))


def in_a_process_of_its_own(rows: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *sys.argv[1:], "--folder", folder]
        for count in (SMALL, rows):
            subprocess.run([*command, "--train", str(count)], check=True)
        done = subprocess.run(
            [*command, "--measure", str(rows)],
            stdout=subprocess.PIPE, text=True, check=True, env=os.environ | HONEST,
        )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    taken, seconds = found["peak"] / MIB, found["seconds"]
    print(f"{rows:>9,} rows  {taken:6.1f} MiB beyond the data  {seconds:5.0f} s", flush=True)
    return found["peak"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--train", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.train:
        sys.stdout = sys.stderr
        sys.exit(glassrec(["train", *words_of(options.folder / str(options.train), options.train)]))
    if options.measure:
        measure(options.measure, options.folder)
        return
    peaks = [in_a_process_of_its_own(rows) for rows in options.rows]
    print(f"most / least rows: {peaks[-1] / peaks[0]:.3f}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
