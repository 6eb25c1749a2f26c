"""One job and the record of its sweep."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from glassrec.sweep import sweep_job
from glassrec.sweep.sweep_job import Outcome
from glassrec.sweep.sweep_record import SweepJob, SweepRecord, read, write


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep with one job, whose run is in a folder beside its record."""
    (tmp_path / "run").mkdir()
    write(
        tmp_path,
        SweepRecord(["glassrec"], str(tmp_path), [SweepJob(1, "job", ["run"], "run", "1.log")]),
    )
    return tmp_path


def test_a_job_waits_for_one_that_a_killed_sweep_left_at_work(sweep, monkeypatch, capsys) -> None:
    events = []
    left = (sweep / "run" / ".lock").open("w")
    fcntl.flock(left, fcntl.LOCK_EX)
    monkeypatch.setattr(sweep_job, "sleep", lambda _: (events.append("waited"), left.close()))
    monkeypatch.setattr(
        sweep_job, "supervise", lambda *_, **__: events.append("ran") or Outcome("finished", 0, 1.0)
    )
    assert sweep_job.run_job(sweep, 1).state == "finished"
    assert events == ["waited", "ran"]
    assert f"which works in {sweep / 'run'}" in capsys.readouterr().out


def test_a_job_that_cannot_be_started_is_told_of(sweep) -> None:
    (sweep / "1.log").mkdir()
    assert sweep_job.run_job(sweep, 1).state == "failed"
    assert "Is a directory" in read(sweep).jobs[0].problem


def test_none_begins_once_the_sweep_is_to_end(sweep) -> None:
    (sweep / "stop").write_text("2")
    assert sweep_job.run_job(sweep, 1).state == "waiting"


def test_an_interrupt_of_the_launcher_goes_on_after_it_is_written_down(sweep, monkeypatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_job, "supervise", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep_job.run_job(sweep, 1)
    assert (read(sweep).jobs[0].state, read(sweep).jobs[0].code) == ("interrupted", 130)
