"""The same jobs under each executor, in processes; and Ctrl-C and SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

PATCH = """
import sys
from glassrec.sweep import sweep_job, warm_process
sweep_job.PROGRAM = {program!r}
warm_process.IMPORTS = []
"""


@pytest.fixture
def environment(program: Path) -> dict[str, str]:
    """Variables by which every process that is started takes the stub for Glassrec."""
    (program.parent / "site").mkdir()
    patch = program.parent / "site" / "sitecustomize.py"
    patch.write_text(PATCH.format(program=str(program)))
    path = os.pathsep.join([str(patch.parent), *filter(None, sys.path)])
    hidden = ("OMP_NUM_THREADS",)
    return {k: v for k, v in os.environ.items() if k not in hidden} | {"PYTHONPATH": path}


COMMAND = [sys.executable, "-m", "glassrec", "train", "-m", "seed=0,1,2,3", "hydra.sweep.dir=here"]


def _lacking(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


EXECUTORS = {
    "joblib": ["--jobs", "2"],
    "submitit_local": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
    "submitit_debug": ["hydra/launcher=submitit_debug"],
    "ray": ["hydra/launcher=ray"],
}
PACKAGES = {"joblib": "glassrec"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "executor",
    [
        pytest.param(name, marks=_lacking(PACKAGES.get(name, name.partition("_")[0])))
        for name in EXECUTORS
    ],
)
def test_a_crash_ends_no_other_job(executor: str, program: Path, environment) -> None:
    folder = program.parent
    (folder / "seed_1.py").write_text("import ctypes; ctypes.string_at(0)")
    (folder / "seed_2.py").write_text("sys.exit(3)")
    command = [*COMMAND, *EXECUTORS[executor]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 1, done.stderr
    record = json.loads((folder / "here" / "sweep.json").read_text())
    assert [(job["state"], job["code"]) for job in record["jobs"]] == [
        ("finished", 0), ("killed", -11), ("failed", 3), ("finished", 0),
    ]  # fmt: skip
    assert sorted((folder / "starts.txt").read_text().split()) == ["0", "1", "2", "3"]
    assert "glassrec: error: job 2 killed: seed=1: segmentation fault\n" in done.stderr
    assert "glassrec: error: job 3 failed: seed=2: exit code 3\n" in done.stderr
    if executor == "joblib":
        share = max((os.cpu_count() or 1) // 2, 1)
        assert f"threads {share}\n" in (folder / "here/logs/1-seed=0.log").read_text()


WAITS = """
import signal, time
def end(number, _):
    print("clean end", flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
open(f"ready_{seed}", "w").close()
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "words", "running"),
    [
        (signal.SIGINT, [], 1),
        (signal.SIGINT, ["--jobs", "2"], 2),
        (signal.SIGTERM, ["--jobs", "2"], 2),
    ],
)
def test_a_sweep_that_is_stopped_ends_its_jobs(sent, words, running, program, environment) -> None:
    folder = program.parent
    for seed in range(4):
        (folder / f"seed_{seed}.py").write_text(WAITS)

    def as_in_a_terminal() -> None:  # a shell's background job ignores Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        [*COMMAND, *words], cwd=folder, env=environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, preexec_fn=as_in_a_terminal,
    ) as process:  # fmt: skip
        while len(list(folder.glob("ready_*"))) < running and process.poll() is None:
            time.sleep(0.05)
        # A terminal sends Ctrl-C to all processes, and `timeout` SIGTERM.
        os.killpg(process.pid, sent)
        out, _ = process.communicate()
    assert process.returncode == 128 + sent
    jobs = json.loads((folder / "here" / "sweep.json").read_text())["jobs"]
    states = [job["state"] for job in jobs]
    assert states == ["interrupted"] * running + ["waiting"] * (4 - running)
    for job in jobs[:running]:
        assert (folder / "here" / job["log"]).read_text().endswith("clean end\n")
    assert "   4  seed=3  waiting" in out
