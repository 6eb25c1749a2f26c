"""What long work tells of itself, by a clock and on a screen of the test's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from glassrec import progress

Work = Callable[..., str]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Work:
    """Does work that takes a known time, and gives back what was told of it."""

    def told(
        parts: int,
        rows: int,
        seconds: float,
        total: int | None,
        done: int = 0,
        terminal: bool = False,
    ) -> str:
        now = 100.0

        def made() -> Iterator[tuple[int, int]]:
            nonlocal now
            for part in range(parts):
                now += seconds
                yield rows, part

        monkeypatch.setattr(progress, "perf_counter", lambda: now)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
        assert [*progress.with_progress(made(), total, done)] == [*range(parts)]
        heard = capsys.readouterr()
        assert not heard.out
        return heard.err

    return told


def test_a_file_gets_a_line_every_half_minute(work: Work) -> None:
    # 40 rows of 400 in each 10 s; the first line comes as soon as there is something to tell.
    assert work(10, rows=40, seconds=10, total=400).splitlines() == [
        "40 of 400 rows, 4.0 rows/s, 1:30 left",
        "160 of 400 rows, 4.0 rows/s, 1:00 left",
        "280 of 400 rows, 4.0 rows/s, 0:30 left",
        "400 of 400 rows, 4.0 rows/s, 0:00 left",
    ]


def test_the_pace_is_that_of_this_process(work: Work) -> None:
    # An earlier one did 9,000 of 10,000 rows; 500 in 10 s are 50 a second, and 500 are left.
    assert work(1, rows=500, seconds=10, total=10_000, done=9_000).splitlines() == [
        "9,500 of 10,000 rows, 50 rows/s, 0:10 left"
    ]


def test_work_of_unknown_length_has_no_time_left(work: Work) -> None:
    assert work(1, rows=500, seconds=10, total=None) == "500 rows, 50 rows/s\n"


def test_slow_work_has_a_pace_too(work: Work) -> None:
    assert work(1, rows=1, seconds=10, total=1000) == "1 of 1,000 rows, 0.1 rows/s, 2:46:30 left\n"


def test_short_work_needs_no_word(work: Work) -> None:
    assert work(4, rows=10, seconds=1, total=40) == ""
    assert work(4, rows=10, seconds=1, total=40, terminal=True) == ""


def test_a_terminal_has_one_line_that_is_written_over_and_then_wiped(work: Work) -> None:
    heard = work(8, rows=100, seconds=1, total=800, terminal=True)
    assert "\n" not in heard
    lines = heard.split("\r\x1b[K")
    # Nothing before five seconds, then each second, and at last nothing is left of it.
    assert lines == [
        "",
        "500 of 800 rows, 100 rows/s, 0:03 left",
        "600 of 800 rows, 100 rows/s, 0:02 left",
        "700 of 800 rows, 100 rows/s, 0:01 left",
        "800 of 800 rows, 100 rows/s, 0:00 left",
        "",
    ]


def test_a_terminal_is_not_written_to_more_than_once_a_second(work: Work) -> None:
    heard = work(80, rows=1, seconds=0.125, total=80, terminal=True)  # ten seconds
    assert heard.count(" rows, ") == 6  # after 5, 6, ..., 10 s
