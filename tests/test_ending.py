"""How a process ends when it is told to."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from glassrec.ending import Terminated, exit_code, orderly, undisturbed


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_is_an_exception_within_and_the_handler_of_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated, match="terminated by SIGTERM"), orderly():
        _terminate()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_sigterm_does_not_disturb_the_ending() -> None:
    ended = []

    def work() -> None:
        try:
            _terminate()
        finally:
            _terminate()
            ended.append("in order")

    with pytest.raises(Terminated), orderly():
        work()
    assert ended == ["in order"]


def test_sigterm_waits_for_what_belongs_together() -> None:
    done = []

    def work() -> None:
        with undisturbed():
            _terminate()
            done.append("both")
        done.append("later")

    with pytest.raises(Terminated), orderly():
        work()
    assert done == ["both"]


def test_a_thread_goes_on_without_a_handler() -> None:
    found = []

    def work() -> None:
        with orderly():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0), (ValueError(), 1), (KeyboardInterrupt(), 130), (Terminated(), 143),
        (SystemExit(), 0), (SystemExit(3), 3), (SystemExit("a message"), 1),
    ],
)  # fmt: skip
def test_exit_codes_are_those_of_a_shell(error: BaseException | None, code: int) -> None:
    assert exit_code(error) == code
