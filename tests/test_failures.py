"""Memory and disks that are too small: a line with the file or the setting, and a way out."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glassrec.__main__ import main
from glassrec.data.planted import Planted
from glassrec.failures import OutOfMemoryError, WriteError, describe, memory_needed, write_error
from glassrec.run import replacing


def _too_much() -> None:
    np.empty(2**58)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at a.cpp:1] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_no_memory_names_the_setting_to_lower(error: Exception) -> None:
    with (
        pytest.raises(OutOfMemoryError, match=r"out of memory in training: .*; lower a\.setting"),
        memory_needed("everything", "another.setting"),
        memory_needed("training", "a.setting"),
    ):
        raise error


def test_numpy_says_how_much_it_wanted() -> None:
    with (
        pytest.raises(OutOfMemoryError, match=r"Unable to allocate .*EiB"),
        memory_needed("x", "y"),
    ):
        _too_much()
    with pytest.raises(MemoryError) as raised:
        _too_much()
    assert "trainer.batch_size" in describe(raised.value)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_needed("training", "a.setting"):
        raise RuntimeError("shapes differ")
    path = Path("file")
    assert write_error(path, ValueError("a value")) is None
    assert write_error(path, FileNotFoundError(errno.ENOENT, "no such file", "other")) is None
    assert write_error(path, OSError(errno.EACCES, "denied", "/somewhere/else")) is None


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy, pandas, safetensors.numpy, torch
from glassrec.__main__ import main
from glassrec.data.planted import Planted
from glassrec.failures import WriteError
from glassrec.run import replacing
from glassrec.training.job import AtomicCheckpointIO

values = numpy.random.default_rng(0).normal(size=200_000)
path = Path(sys.argv[1])
writers = {
    "text": lambda part: part.write_text("x" * 1_000_000),
    "parquet": lambda part: pandas.DataFrame({"x": values}).to_parquet(part),
    "safetensors": lambda part: safetensors.numpy.save_file({"x": values}, part),
}

def write(name, target):
    with replacing(target) as part:
        writers[name](part)

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for name in [*writers, "checkpoint"]:
    try:
        if name == "checkpoint":
            AtomicCheckpointIO().save_checkpoint({"x": torch.tensor(values)}, path / name)
        else:
            write(name, path / name)
    except WriteError as error:
        print(error)
"""


@pytest.mark.long
def test_each_library_that_cannot_write_says_which_file_and_why(tmp_path: Path) -> None:
    """Under a limit on the size of files, as under quotas, and without the rights of root."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, line in zip(("text", "parquet", "safetensors", "checkpoint"), lines, strict=True):
        assert line.startswith(f"{tmp_path / name} cannot be written: ")
        assert "run.dir" in line
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WriteError, match=r"a\.txt cannot be written: No space left .*; free some"):
        fail()
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "old"


def test_data_that_do_not_fit_into_memory_end_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Planted, "load", lambda *_: _too_much())
    run = tmp_path / "run"
    assert main(["train", f"run.dir={run}", "trainer=cpu", "model=gmf"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "glassrec: error: out of memory in loading the data: Unable to allocate"
    )
    assert "lower data.rows" in error
    assert error.count("\n") == 1
    assert json.loads((run / "status.json").read_text())["state"] == "failed"
