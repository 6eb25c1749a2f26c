"""A run on more rows than memory holds: its output, each line with the time and the memory so far.

    python benchmarks/encoding.py generate --rows 45_800_000 --ids 30_000_000 --out DIR
    python benchmarks/large.py DIR    # RUN, the folder of the run, is DIR/run; killed, it goes on

It encodes the rows, trains a DLRM with row-wise Adagrad for one epoch, explains 10,000 rows, prunes
at level data and certifies the cut. The towers are small, as the towers do not make memory grow.
Memory is the anonymous memory of the process, without mapped files: the largest value of those that
are read ten times a second. Further overrides go to `glassrec run`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from time import perf_counter

EXPERIMENT = (
    "data=criteo", "data.min_count=1", "model=dlrm", "model.bottom=[64,32]", "model.top=[64,32]",
    "table_optimizer=rowwise_adagrad", "trainer=cpu", "trainer.max_epochs=1",
    "trainer.batch_size=4096", "explain.select.rows=10000", "prune.level=data",
    "prune/curves=none",
)  # fmt: skip


class Peak(Thread):
    """The most memory of a process since it was last asked, in GiB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status, self._ended = Path(f"/proc/{pid}/status"), Event()
        self.since = self.ever = 0.0

    def run(self) -> None:
        """Read the memory until the process has ended."""
        while not self._ended.wait(0.1):
            try:
                lines = self._status.read_text().splitlines()
                own = next(line for line in lines if line.startswith("RssAnon"))
            except (OSError, StopIteration):  # it has ended
                return
            now = int(own.split()[1]) / 2**20
            self.since, self.ever = max(self.since, now), max(self.ever, now)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*")
    asked = parser.parse_args()
    given = [f"data.root={asked.folder}", f"cache={asked.folder}/cache"]
    command = [sys.executable, "-u", "-m", "glassrec", "run", *EXPERIMENT, *given,
               f"run.dir={asked.folder}/run", *asked.overrides]  # fmt: skip
    began = perf_counter()
    with (asked.folder / "large.log").open("a") as log:

        def say(text: str) -> None:
            print(text, flush=True)
            print(text, file=log, flush=True)

        say(f"{datetime.now():%Y-%m-%d %H:%M} {' '.join(command[2:])}")
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            peak = Peak(process.pid)
            peak.start()
            assert process.stdout
            for line in process.stdout:
                say(f"{perf_counter() - began:7.0f} s  {peak.since:5.2f} GiB  {line.rstrip()}")
                peak.since = 0.0
        say(f"{perf_counter() - began:7.0f} s, exit code {process.returncode}, at most "
            f"{peak.ever:.2f} GiB")  # fmt: skip
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
