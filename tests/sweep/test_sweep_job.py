"""How jobs end, and what is told of it."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from glassrec.sweep.sweep_job import supervise

ENDS = {
    "nothing": ("", "finished", 0, ""),
    "error": (
        "print('glassrec: error: bad row 3', file=sys.stderr); sys.exit(1)",
        "failed", 1, "bad row 3",
    ),
    "bug": ("raise RuntimeError('a bug:\\nmore')", "failed", 1, "RuntimeError: a bug:"),
    "memory": ("raise MemoryError", "failed", 1, "MemoryError"),
    "exit": ("print('loading'); sys.exit(3)", "failed", 3, "exit code 3"),
    "hard exit": ("os._exit(5)", "failed", 5, "exit code 5"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "killed", -11, "segmentation fault"),
    "kill": ("os.kill(os.getpid(), 9)", "killed", -9, "killed by SIGKILL (out of memory?)"),
    "abort": ("os.abort()", "killed", -6, "killed by SIGABRT"),
    "ctrl-c": ("sys.exit(130)", "interrupted", 130, ""),
    "terminated": ("sys.exit(143)", "interrupted", 143, ""),
}  # fmt: skip


@pytest.mark.parametrize(("act", "state", "code", "problem"), ENDS.values(), ids=ENDS)
def test_every_end_is_told_and_none_is_raised(stub: Path, act, state, code, problem) -> None:
    (stub / "seed_0.py").write_text(act)
    outcome = supervise(["seed=0"], stub / "logs" / "a.log")
    assert (outcome.state, outcome.code, outcome.problem) == (state, code, problem)
    assert 0 < outcome.seconds < 30


def test_the_log_of_before_is_kept_and_not_blamed(stub: Path) -> None:
    (stub / "seed_0.py").write_text("raise RuntimeError('the first')")
    supervise(["seed=0"], stub / "a.log")
    (stub / "seed_0.py").write_text("sys.exit(4)")
    assert supervise(["seed=0"], stub / "a.log").problem == "exit code 4"
    assert "the first" in (stub / "a.log").read_text()


def test_a_job_works_in_its_folder_with_its_variables(stub: Path) -> None:
    (stub / "there").mkdir()
    (stub / "there" / "seed_0.py").write_text("print(os.environ['COLOUR'])")
    supervise(["seed=0"], stub / "a.log", {"COLOUR": "red"}, folder=stub / "there")
    assert "red\n" in (stub / "a.log").read_text()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_job_is_ended_by_the_signal_in_a_file(stub: Path, sent: signal.Signals) -> None:
    (stub / "seed_0.py").write_text(
        "import signal, time\n"
        f"signal.signal({sent.value}, lambda *_: (print('clean'), sys.exit({128 + sent.value})))\n"
        "open('ready', 'w').close()\n"
        "time.sleep(60)"
    )

    def ask() -> None:
        while not (stub / "ready").exists():
            time.sleep(0.01)
        (stub / "stop").write_text(str(sent.value))

    thread = threading.Thread(target=ask)
    thread.start()
    outcome = supervise(["seed=0"], stub / "a.log", stop=stub / "stop")
    thread.join()
    assert (outcome.state, outcome.code) == ("interrupted", 128 + sent.value)
    assert (stub / "a.log").read_text().endswith("clean\n")
