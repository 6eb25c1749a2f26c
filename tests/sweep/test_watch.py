"""What a sweep tells while it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from glassrec.sweep.job_table import SweepProgress, seconds_left
from glassrec.sweep.sweep_record import SweepJob, SweepRecord, update, write


def job(number: int, state: str = "waiting", **facts) -> SweepJob:
    return SweepJob(number, f"seed={number}", ["run"], None, f"logs/{number}.log", state, **facts)


DONE = [job(1, "finished", seconds=60.0), job(2, "finished", seconds=120.0)]


@pytest.mark.parametrize(
    ("others", "at_once", "left"),
    [
        ([], 1, None),
        ([job(3), job(4)], 1, 180.0),
        ([job(3), job(4), job(5), job(6)], 2, 180.0),
        ([job(3, "running", started=970.0), job(4)], 1, 150.0),  # 60 of it, and 90
        ([job(3, "running", started=970.0), job(4)], 2, 90.0),  # no less than the longest
        ([job(3, "running", started=0.0)], 1, 0.0),
        ([job(3), job(4, "failed", seconds=1.0)], 1, 90.0),  # a failure's time tells nothing
    ],
)
def test_the_time_left_is_that_of_what_runs_and_waits(others, at_once, left) -> None:
    jobs = [*DONE, *others]
    assert seconds_left(jobs, len(jobs), at_once, now=1000.0) == left
    planned = [job for job in jobs if job.state != "waiting"]  # as a search does, one by one
    assert seconds_left(planned, len(jobs), at_once, now=1000.0) == left


def test_nothing_is_said_of_the_time_before_a_job_has_finished() -> None:
    assert seconds_left([job(1, "running", started=1.0), job(2)], 2, 1, now=5.0) is None


def test_a_file_gets_a_line_a_job(tmp_path: Path, capsys) -> None:
    write(tmp_path, SweepRecord(["glassrec"], "/", [DONE[0], job(2), job(3)]))
    watch = SweepProgress(tmp_path, 3)
    watch.look()
    assert capsys.readouterr().err == ""
    with update(tmp_path) as record:
        record.jobs[1] = job(2, "killed", seconds=7.0, problem="segmentation fault")
    watch.look()
    watch.look()
    assert capsys.readouterr().err == (
        "2 of 3 done, 0 running, 1 failed, about 1:00 left; "
        "killed, 0:07: seed=2: segmentation fault\n"
    )


def test_a_terminal_gets_a_line_that_is_written_over(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    write(tmp_path, SweepRecord(["glassrec"], "/", [job(1), job(2)]))
    watch = SweepProgress(tmp_path, 2)
    with update(tmp_path) as record:
        record.jobs[0] = job(1, "finished", seconds=60.0)
    watch.look()
    watch.clear()
    line = "1 of 2 done, 0 running, 0 failed, about 1:00 left"
    assert capsys.readouterr().err == f"\r\x1b[K{line}\r\x1b[K"
