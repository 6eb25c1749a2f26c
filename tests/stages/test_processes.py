"""One run in several processes: the same files as in one, whoever dies on the way."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from glassrec.__main__ import main
from glassrec.training import settings
from glassrec.training.threads import threads
from glassrec.training.trainer import Trainer
from small_run import QUICK, SMALL, read_exactly

SCRIPT = Path(__file__).parents[1] / "shared_process.py"
CHUNKED = ["explain.memory=1", "explain.method.steps=64", "explain.neurons.steps=64",
           "explain.neurons.rule=captum", "prune.chunk=64"]  # fmt: skip
"""So little memory that each process gets several chunks of rows."""

WORDS = [*SMALL, *QUICK, *CHUNKED, "prune/curves=none", "figures=false"]
TIMED = {"latency.json", "methods.parquet", "record.json", "report.html", "provenance.json"}
"""Files with times, or with the hashes of such files."""


def _shared(count: int, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(count),
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
        str(SCRIPT),
        *words,
    ]
    tests = os.pathsep.join([str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")])
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": tests, **environment}
    return subprocess.run(
        command, env=given, check=False, capture_output=True, text=True, timeout=240
    )


def _same_files(one: Path, other: Path) -> None:
    files = [
        {p.relative_to(run).as_posix(): p.read_bytes() for p in run.rglob("*") if p.is_file()}
        for run in (one, other)
    ]
    assert files[0].keys() == files[1].keys()
    assert {name for name in files[0] if files[0][name] != files[1][name]} <= TIMED


@pytest.fixture(scope="module")
def alone(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process, with as many threads as one of several has."""
    directory = shutil.copytree(trained, tmp_path_factory.mktemp("alone") / "run")
    with threads(1):
        assert main(["run", f"run.dir={directory}", *WORDS]) == 0
    return directory


def test_two_processes_make_the_files_of_one(alone: Path, trained: Path, tmp_path: Path) -> None:
    """Attributions, statistics, plan, certificate and metrics, bit for bit; each did its share."""
    directory = shutil.copytree(trained, tmp_path / "run")
    done = _shared(2, "run", f"run.dir={directory}", *WORDS, COUNTS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    _same_files(alone, directory)
    first, second = (json.loads((tmp_path / rank).read_text()) for rank in "01")
    assert first["gather"] == second["gather"]
    for name in ("explain", "compare"):
        assert second[name] > 1
        assert first[name] - second[name] in range(8)  # chunks of several passes
    assert done.stdout.count("results   ") == 1


def test_sweeps_are_refused_in_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert main(["run", "-m", "seed=0,1", *SMALL]) == 2
    assert "torchrun: its processes share one run; leave out -m" in capsys.readouterr().err
    assert main(["run", "seeds=[0,1]", *SMALL]) == 2
    assert "leave out seeds, and set seed" in capsys.readouterr().err


def test_a_batch_is_divided_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Trainer(max_epochs=1, batch_size=100, devices=2).own_batch_size == 100
    monkeypatch.setattr(settings, "count", lambda: 4)
    assert Trainer(max_epochs=1, batch_size=100, devices=2).own_batch_size == 50
    with pytest.raises(
        ValueError, match=r"trainer\.batch_size: the 30 rows .* take a multiple of 4"
    ):
        _ = Trainer(max_epochs=1, batch_size=30).own_batch_size


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.Settings, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    given = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match=r"torchrun --nproc-per-node: 2 is not .* there are 1 here"
    ):
        Trainer(max_epochs=1, batch_size=30, accelerator="gpu").check_devices()


@pytest.mark.long
@pytest.mark.parametrize("kill", ["1 explain 3", "0 explain 5", "1 compare 2", "0 gather 9"])
def test_when_one_is_killed_both_end_and_the_run_goes_on(
    alone: Path, trained: Path, tmp_path: Path, kill: str
) -> None:
    directory, began = shutil.copytree(trained, tmp_path / "run"), monotonic()
    done = _shared(2, "run", f"run.dir={directory}", *WORDS, KILL=kill)
    assert done.returncode == 1
    assert monotonic() - began < 60
    if kill.startswith("1"):
        message = "another process of this run has ended|terminated by SIGTERM"
        assert re.search(f"glassrec: error: ({message})", done.stderr), done.stderr
    with threads(1):
        assert main(["run", f"run.dir={directory}", *WORDS]) == 0
    _same_files(alone, directory)


def _large(folder: Path, rows: int) -> list[str]:
    """A store in which rows need far more memory than the model, and the words of a run on it."""
    random, part = np.random.default_rng(0), {}
    for split, count in (("train", rows // 5), ("val", rows // 5), ("test", rows)):
        part["ids"] = np.stack(
            [random.integers(0, 50, count), random.integers(50, 70, count)], 1
        ).astype("i4")
        part["dense"] = random.normal(size=(count, 1)).astype("f4")
        part["history"] = np.zeros((count, 0), "i4")
        part["targets"] = (part["dense"] + random.normal(size=(count, 1)) > 0).astype("f4")
        (folder / split).mkdir(parents=True)
        for name, array in part.items():
            np.save(folder / split / f"{name}.npy", array)
    schema = {"dense": ["price"], "fields": [{"name": n, "size": s} for n, s in
              (("city", 50), ("device", 20))], "targets": [{"name": "clicked"}]}  # fmt: skip
    (folder / "schema.json").write_text(json.dumps({"format": 1, "schema": schema}))
    words = [word for word in WORDS if not re.match("data|trainer.batch|prune.chunk", word)]
    return ["data=store", f"data.path={folder}", "trainer.batch_size=8192", *words]


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads /proc")
def test_only_the_first_process_holds_what_grows_with_the_rows(tmp_path: Path) -> None:
    """Logits and metrics take some 100 bytes a row, in the first process alone.

    The other has its share: the rows of a training epoch and the differences of the certificate.
    """
    peaks = []
    for rows in (100_000, 600_000):
        folder = tmp_path / str(rows)
        words = _large(folder / "store", rows)
        given = {
            "COUNTS": str(folder),
            "MALLOC_MMAP_THRESHOLD_": "65536",
        }  # freed memory is given back
        done = _shared(2, "run", f"run.dir={folder / 'run'}", *words, **given)
        assert done.returncode == 0, done.stderr
        peaks.append([json.loads((folder / rank).read_text())["memory"] * 1024 for rank in "01"])
    first, second = ((after - before) / 500_000 for before, after in zip(*peaks, strict=True))
    print(f"{first:.1f} and {second:.1f} bytes a row")
    assert first > 80
    assert second < 40


@pytest.mark.long
def test_three_processes_make_the_files_of_one(alone: Path, trained: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(trained, tmp_path / "run")
    done = _shared(3, "run", f"run.dir={directory}", *WORDS)
    assert done.returncode == 0, done.stderr
    _same_files(alone, directory)


@pytest.mark.long
def test_the_commands_of_the_guide_work(alone: Path, trained: Path, tmp_path: Path) -> None:
    """That of two machines is started twice on this one."""
    guide = (SCRIPT.parents[1] / "docs/guide/processes.md").read_text(encoding="utf-8")
    one, machines = re.findall(r"```sh\n(torchrun .*)\n```", guide)
    bin_ = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command, times in ((one, 1), (machines, 2)):
        (place,) = re.findall(r"run\.dir=(\S+)", command)
        directory = shutil.copytree(trained, tmp_path / place)
        started = [
            subprocess.Popen(
                [*shlex.split(command), *WORDS], cwd=tmp_path, stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": bin_},
            )
            for _ in range(times)
        ]  # fmt: skip
        assert [process.wait(120) for process in started] == [0] * times
        _same_files(alone, directory)


@pytest.mark.long
def test_a_training_of_two_processes_is_that_of_one_and_goes_on_in_one(tmp_path: Path) -> None:
    """A step has the rows of the same batch, so that weights agree up to rounding."""
    words = [*SMALL, "trainer.max_epochs=3", "data.rows=1280"]  # 8 batches of 128
    with threads(1):
        assert main(["train", f"run.dir={tmp_path / 'one'}", *words]) == 0
    done = _shared(2, "train", f"run.dir={tmp_path / 'two'}", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/3") == 1
    done = _shared(2, "train", f"run.dir={tmp_path / 'resumed'}", *words, KILL="1 epoch 3")
    assert done.returncode == 1
    with threads(1):
        assert main(["train", f"run.dir={tmp_path / 'resumed'}", *words]) == 0
    expected = load_file(tmp_path / "one" / "weights.safetensors")
    for name in ("two", "resumed"):
        assert_close(
            load_file(tmp_path / name / "weights.safetensors"), expected, atol=1e-5, rtol=0
        )
        history = read_exactly(tmp_path / name / "history.csv")
        there = read_exactly(tmp_path / "one" / "history.csv")
        assert (history - there).abs().max().max() < 1e-4
