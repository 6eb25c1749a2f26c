"""How a process ends on a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from glassrec.process_exit import (
    Interrupted,
    Terminated,
    defer_signals,
    exit_code,
    graceful_shutdown,
)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (signal.SIGTERM, Terminated, "terminated by SIGTERM"),
        (signal.SIGINT, Interrupted, "interrupted"),
    ],
)
def test_a_signal_is_an_exception_within_and_the_handler_of_before_comes_back(
    number: signal.Signals, error: type[BaseException], message: str
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(error, match=message), graceful_shutdown():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_second_signal_does_not_disturb_the_cleaning_up() -> None:
    ended = []

    def work() -> None:
        try:
            _terminate()
        finally:
            _terminate()
            ended.append("in order")

    with pytest.raises(Terminated), graceful_shutdown():
        work()
    assert ended == ["in order"]


def test_a_signal_waits_for_what_belongs_together() -> None:
    done = []

    def work() -> None:
        with defer_signals():
            _terminate()
            done.append("both")
        done.append("later")

    with pytest.raises(Terminated), graceful_shutdown():
        work()
    assert done == ["both"]


def test_an_exception_that_is_caught_is_raised_where_the_block_ends() -> None:
    after = []

    def work() -> None:
        try:
            _terminate()
        except KeyboardInterrupt:
            after.append("goes on")

    with pytest.raises(Terminated), graceful_shutdown():
        work()
    assert after == ["goes on"]


FINALISED = """
import os, signal, sys, time
from glassrec.process_exit import exit_code, graceful_shutdown

class Profiler:
    def __del__(self):
        for _ in range(int(sys.argv[1])):
            os.kill(os.getpid(), signal.SIGTERM)
        sum(range(1000))

try:
    with graceful_shutdown():
        Profiler()
        began = time.monotonic()
        while time.monotonic() - began < 20:
            time.sleep(0.01)
        print("still running")
except BaseException as error:
    sys.exit(exit_code(error))
"""


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_inside_a_finaliser_is_not_lost(signals: int) -> None:
    command = [sys.executable, "-c", FINALISED, str(signals)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=15)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


STUCK = """
import os, signal, sys, time
from glassrec import process_exit

process_exit.LIMIT = float(sys.argv[1])
with process_exit.graceful_shutdown():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        for _ in range(int(sys.argv[2])):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)
"""


@pytest.mark.parametrize(("limit", "more"), [(60.0, 2), (0.2, 0)], ids=["third", "limit"])
def test_cleaning_up_that_hangs_is_ended_by_a_third_signal_or_the_limit(
    limit: float, more: int
) -> None:
    command = [sys.executable, "-c", STUCK, str(limit), str(more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=15)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with graceful_shutdown():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_goes_on_without_a_handler() -> None:
    found = []

    def work() -> None:
        with graceful_shutdown():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0), (ValueError(), 1), (KeyboardInterrupt(), 130), (Terminated(), 143),
        (Interrupted(), 130), (SystemExit(), 0), (SystemExit(3), 3), (SystemExit("a message"), 1),
    ],
)  # fmt: skip
def test_exit_codes_are_those_of_a_shell(error: BaseException | None, code: int) -> None:
    assert exit_code(error) == code


def _closed_early(command: str) -> tuple[int, str]:
    """The exit code and what is printed elsewhere, with an output that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    code = f"import sys; from glassrec.__main__ import main; sys.exit(main({command!r}.split()))"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    return done.returncode, done.stderr


def test_an_output_that_nobody_reads_ends_a_command_quietly() -> None:
    assert _closed_early("--help") == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_an_output_on_a_full_disk_is_an_error_of_a_line() -> None:
    code = "import sys; from glassrec.__main__ import main; sys.exit(main(['--help']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    expected = "glassrec: error: standard output cannot be written: No space left on device\n"
    assert done.stderr == expected


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_is_not_utf_8_gets_question_marks(encoding: str) -> None:
    code = (
        "import glassrec.cli as m; "
        "m._run_command = lambda words: print('± 五', file=m.sys.stderr) or print('± 五') or 0; "
        "m.sys.exit(m.main())"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    expected = "± 五\n".encode(encoding, errors="replace")
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, expected)
