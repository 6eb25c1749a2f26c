"""Processes of several devices: none outlives the command, none works without its lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassrec.__main__ import main
from glassrec.run import Run
from glassrec.training.settings import Settings, cores

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="it reads /proc")
WORDS = [
    "data.rows=600", "model=gmf", "trainer=cpu", "trainer.devices=2", "trainer.max_epochs=100000",
    "trainer.batch_size=128",
]  # fmt: skip


def _session(number: int) -> dict[int, str]:
    """The processes of a session, with what they were started as."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()
            if int(state[3]) == number and state[0] != "Z":
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError, IndexError):
            continue
    return found


def _devices(number: int) -> list[int]:
    return [pid for pid, words in _session(number).items() if "spawn_main" in words]


def _blocks(pid: int, number: signal.Signals) -> bool:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return bool(int(status["SigBlk"], 16) & 1 << number - 1)


def _until_empty(number: int, seconds: float = 10.0) -> dict[int, str]:
    end = time.monotonic() + seconds
    while (left := _session(number)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A training on two devices that does not end by itself, in its second epoch or later.

    As a job in the background of a script it ignores SIGINT, and so do processes that it starts.
    """
    command = [sys.executable, "-m", "glassrec", "train", f"run.dir={tmp_path / 'run'}", *WORDS]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert process.stdout is not None
    assert any(line.startswith("epoch 2/") for line in process.stdout)
    yield process
    if _session(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two cores are needed")
def test_a_killed_process_ends_all_with_a_line_that_names_it(
    training: subprocess.Popen[str], tmp_path: Path
) -> None:
    os.kill(_devices(training.pid)[-1], signal.SIGKILL)
    _, error = training.communicate(timeout=30)
    assert training.returncode == 1
    assert error.startswith("glassrec: error: device process ")
    assert "of 2 was killed (SIGKILL)" in error
    assert "trainer.batch_size" in error
    assert error.count("\n") == 1
    assert not _until_empty(training.pid)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two cores are needed")
def test_they_end_with_their_parent_and_hold_its_lock_until_then(
    training: subprocess.Popen[str], tmp_path: Path
) -> None:
    devices = _devices(training.pid)
    assert len(devices) == 2
    assert all(_blocks(pid, signal.SIGINT) for pid in devices), "Ctrl-C must not reach them"
    for pid in devices:
        os.kill(pid, signal.SIGSTOP)  # so that they cannot end yet
    training.kill()
    training.wait()
    config = {"seed": 0}
    with pytest.raises(ValueError, match="another process is working"):
        Run(tmp_path / "run", config)
    for pid in devices:
        os.kill(pid, signal.SIGCONT)
    assert not _until_empty(training.pid)


def test_more_devices_than_there_are_is_an_error_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in WORDS if "devices" not in word]
    run = tmp_path / "run"
    assert main(["train", f"run.dir={run}", *words, f"trainer.devices={cores() + 1}"]) == 2
    out, error = capsys.readouterr()
    assert f"trainer.devices: {cores() + 1} is not allowed" in error
    assert f"trainer.devices={cores()} or less" in error
    assert out == ""
    assert not run.exists()
    Settings(max_epochs=1, batch_size=1, devices=cores()).check_devices()
