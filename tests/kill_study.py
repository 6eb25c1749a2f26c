"""Runs that are ended at random moments, and go on to the same files: `make kill`.

A process that has imported everything forks one for each run, so that a run takes seconds; with
`--fresh` each is a new interpreter, whose imports can be hit, too. The moments are spread over the
time of a run that nobody disturbs. What is checked of each: the exit code, that no process is left
after ten seconds, and that the same command then ends with the very files of the undisturbed run,
but for those that hold times.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from glassrec.__main__ import main
from small_run import QUICK, SMALL

WORDS = [*SMALL, *QUICK, "trainer.max_epochs=3", "prune/curves=none"]
SIGNALS = {"KILL": 137, "TERM": 143, "INT": 130}
"""The signals, and the exit codes as a shell counts them."""

TIMED = ("methods.parquet", "latency.json", "report.html", "figures/methods.png")
"""Files that hold times, or show them."""

AFTER = 10.0
"""Seconds after a signal when no process may be left."""

Start = Callable[[Sequence[str], Path], int]


class Trial(NamedTuple):
    """One run that was ended, and what came of it."""

    signal: str
    moment: float
    code: int
    seconds: float
    problems: list[str]


def forked(words: Sequence[str], log: Path) -> int:
    """Start a command as the leader of a session, in a copy of this process; its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    os.setsid()
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )
    code = 1
    try:
        code = main(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fresh(words: Sequence[str], log: Path) -> int:
    """Start a command as the leader of a session, in a new interpreter; its id."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "glassrec", *words], stdout=file, stderr=file,
            start_new_session=True,
        ).pid  # fmt: skip


def ended(process: int, deadline: float) -> int | None:
    """The exit code of a process as a shell counts it; None if it works at the deadline."""
    while time.monotonic() < deadline:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
        time.sleep(0.02)
    return None


def session(number: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == number and fields[0] != "Z":
                found.append(int(process.name))
        except (OSError, ValueError, IndexError):
            continue
    return found


def hashes(directory: Path) -> dict[str, str]:
    """The sha256 of each file of a run that does not depend on the time."""
    record = json.loads((directory / "record.json").read_text())
    timed = (*TIMED, "finished.ckpt")  # PyTorch writes equal states in several ways
    return {n: entry["sha256"] for n, entry in record.items() if n not in timed}


class Study:
    """An undisturbed run, and trials that are compared with it."""

    def __init__(self, folder: Path, words: Sequence[str], start: Start) -> None:
        self.folder, self.words, self.start = folder, words, start
        began = time.monotonic()
        code = ended(self._begin("undisturbed"), began + 600)
        assert code == 0, (folder / "undisturbed.log").read_text()
        self.seconds = time.monotonic() - began
        self.expected = hashes(folder / "undisturbed")

    def trial(self, name: str, moment: float, *, group: bool = False) -> Trial:
        """End a run by a signal after some seconds, and let the same command go on.

        Args:
            name: of the signal.
            moment: seconds.
            group: whether all of the session get it, as they do from a terminal.
        """
        label = f"{name}-{moment:.3f}"
        process = self._begin(label)
        code, since = ended(process, time.monotonic() + moment), time.monotonic()
        if code is None:
            number = signal.Signals[f"SIG{name}"]
            (os.killpg if group else os.kill)(process, number)
            code = ended(process, since + AFTER)
        seconds = time.monotonic() - since
        problems = self._after(name, code, process, since)
        problems += self._resumed(label)
        if not problems:
            shutil.rmtree(self.folder / label, ignore_errors=True)
        return Trial(name, moment, -1 if code is None else code, seconds, problems)

    def killed_at(self, owner: Any, function: str, call: int) -> tuple[list[str], str]:
        """Let a run kill itself when it calls a function for the n-th time, and go on.

        The problems, and the output of both commands.
        """
        label, inner, calls = f"{function}-{call}", getattr(owner, function), count(1)

        @wraps(inner)
        def counted(*given: Any, **named: Any) -> Any:
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(*given, **named)

        setattr(owner, function, counted)
        try:
            process = self._begin(label)  # a copy of this process, with that function
        finally:
            setattr(owner, function, inner)
        code = ended(process, time.monotonic() + 600)
        problems = [] if code == SIGNALS["KILL"] else [f"exit code {code}"]
        problems += self._resumed(label)
        return problems, (self.folder / f"{label}.log").read_text()

    def _begin(self, label: str) -> int:
        words = ["run", f"run.dir={self.folder / label}", *self.words]
        return self.start(words, self.folder / f"{label}.log")

    def _after(self, name: str, code: int | None, process: int, since: float) -> list[str]:
        problems = []
        if code not in (0, SIGNALS[name]):
            problems.append(f"exit code {code}")
        while (left := session(process)) and time.monotonic() < since + AFTER:
            time.sleep(0.05)
        if left:
            problems.append(f"{len(left)} processes left")
            for each in left:
                os.kill(each, signal.SIGKILL)
        return problems

    def _resumed(self, label: str) -> list[str]:
        directory, log = self.folder / label, self.folder / f"{label}.log"
        problems = ["a traceback"] if "Traceback (most recent" in log.read_text() else []
        code = ended(self._begin(label), time.monotonic() + 600)
        if code != 0:
            return [*problems, f"exit code {code} when resumed"]
        found = hashes(directory)
        differing = [n for n in found | self.expected if found.get(n) != self.expected.get(n)]
        if differing:
            problems.append(f"other content in {', '.join(differing)}")
        if left := [path.name for path in directory.rglob(".*.part*")]:
            problems.append(f"left behind: {', '.join(left)}")
        if json.loads((directory / "status.json").read_text())["state"] != "finished":
            problems.append("not finished")
        return problems


def moments(count: int, seconds: float, seed: int) -> list[float]:
    """Moments spread over some seconds, one at random in each of equal parts."""
    generator = random.Random(seed)
    return [(place + generator.random()) * seconds / count for place in range(count)]


def load() -> None:
    """Import all that a run does, and leave out most pictures, which take most of its time."""
    for name in ("pipeline", "training.loop", "sweep.search.watcher", "cli"):
        import_module(f"glassrec.{name}")
    import_module("glassrec.stages.outputs").explain_pictures = lambda *given: ()


def study() -> int:
    """Run the study that the command line asks for; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--strategy", default="auto", help="ddp_fork starts devices in no time")
    parser.add_argument("--moments", type=int, default=20, help="of each signal")
    parser.add_argument("--signals", nargs="*", default=list(SIGNALS), choices=list(SIGNALS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    words = [*WORDS, f"trainer.devices={options.devices}", f"trainer.strategy={options.strategy}"]
    if not options.fresh:
        load()
    with tempfile.TemporaryDirectory() as folder:
        made = Study(Path(folder), words, fresh if options.fresh else forked)
        print(f"undisturbed: {made.seconds:.1f} s, {len(made.expected)} files", flush=True)
        bad = early = 0
        for place, name in enumerate(options.signals):
            times = moments(options.moments, made.seconds, options.seed + place)
            for number, moment in enumerate(times):
                trial = made.trial(name, moment, group=name == "INT" and number % 2 == 0)
                early += trial.code == 0
                bad += bool(trial.problems)
                print(
                    f"SIG{name} at {moment:5.2f} s: exit code {trial.code} after "
                    f"{trial.seconds:.2f} s; {'; '.join(trial.problems) or 'resumed bit for bit'}",
                    flush=True,
                )
                if trial.problems:
                    print((Path(folder) / f"{name}-{moment:.3f}.log").read_text(), flush=True)
        total = options.moments * len(options.signals)
        print(
            f"{options.devices} device(s), {options.strategy}{', fresh' * options.fresh}: "
            f"{total} moments, {early} after the end of the run, {bad} bad"
        )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(study())
