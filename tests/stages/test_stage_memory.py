"""The memory of stages: refused up front where it cannot fit, and against what processes take."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glassrec.__main__ import main
from glassrec.failures import OutOfMemoryError
from glassrec.stages import stage_memory
from small_run import QUICK, SMALL

SCRIPT = Path(__file__).parents[1] / "stage_peaks.py"
MIB = 2**20

STAGES = {
    "train": {"the model": 500.0 * MIB, "trainer.batch_size": 100 * MIB},
    "explain": {"the model": 100.0 * MIB, "explain.memory": 64 * MIB},
    "prune": {"the model": 200.0 * MIB},
    "evaluate": {"the model": 200.0 * MIB, "the rows": 700.0 * MIB},
}


@pytest.mark.parametrize(
    ("free", "last", "message"),
    [
        (800, "evaluate", "evaluate takes about 900.0 MiB of memory beside the data, and 790.0 MiB "
         "are free; lower the rows, or use"),
        (600, "prune", "train takes about 600.0 MiB of memory .*; lower the model"),
    ],
)  # fmt: skip
def test_the_stage_that_needs_most_is_refused_with_the_setting_that_lowers_it(
    monkeypatch: pytest.MonkeyPatch, free: int, last: str, message: str
) -> None:
    """10 MiB of the model are there already, and so are not needed a second time."""
    monkeypatch.setattr(stage_memory, "free_memory", lambda: (free - 10) * MIB)
    with pytest.raises(OutOfMemoryError, match=message):
        stage_memory.check_memory(STAGES, 5 * MIB, last)
    monkeypatch.setattr(stage_memory, "free_memory", lambda: 595 * MIB)
    found = stage_memory.check_memory(STAGES, 5 * MIB, "explain")
    assert found == "train about 600.0 MiB, explain about 164.0 MiB"


def test_a_run_that_cannot_fit_ends_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage_memory, "free_memory", lambda: 1024)
    words = [f"run.dir={tmp_path / 'run'}", *SMALL, *QUICK]
    assert main(["run", *words]) == 1
    output = capsys.readouterr()
    message = (
        r"error: .*prune takes about [\d.]+ KiB .*1\.0 KiB are free; lower prune\.chunk, or use"
    )
    assert re.search(message, output.err), output.err
    assert "epoch 1" not in output.out
    assert not (tmp_path / "run" / "history.csv").exists()


def _store(folder: Path, rows: tuple[int, int, int], ids: int) -> None:
    random = np.random.default_rng(0)
    for split, count in zip(("train", "val", "test"), rows, strict=True):
        (folder / split).mkdir(parents=True)
        users, items = (random.integers(1, size, count) for size in (ids, ids // 2))
        arrays = {
            "ids": np.stack([users, ids + items], 1).astype("i4"),
            "dense": random.normal(size=(count, 1)).astype("f4"),
            "history": np.zeros((count, 0), "i4"),
            "targets": (random.random((count, 1)) < 0.3 + 0.4 * (users % 2)[:, None]).astype("f4"),
        }
        for name, array in arrays.items():
            np.save(folder / split / f"{name}.npy", array)
    fields = [{"name": "user", "size": ids}, {"name": "item", "size": ids // 2}]
    roles = {"user": "user", "item": "item"}
    schema = {"dense": ["price"], "targets": [{"name": "clicked"}], "fields": fields, **roles}
    (folder / "schema.json").write_text(json.dumps({"format": 1, "schema": schema}))


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads /proc")
@pytest.mark.parametrize(
    ("rows", "ids", "model", "compared"),
    [
        ((20_000, 5_000, 5_000), 1_000_000, ["model=gmf", "model.factors=16"],
         ["train", "prune", "evaluate"]),
        ((20_000, 20_000, 1_000_000), 40, ["model.embedding=4", "model.bottom=[8]",
         "model.top=[8]"], ["evaluate"]),
    ],
    ids=["large_table", "many_rows"],
)  # fmt: skip
def test_the_estimate_is_what_a_process_takes(
    tmp_path: Path, rows: tuple[int, int, int], ids: int, model: list[str], compared: list[str]
) -> None:
    """Within a factor 1.3, where a stage takes much more than what any process takes for itself."""
    _store(tmp_path / "small" / "store", (2000, 500, 500), 40)
    _store(tmp_path / "store", rows, ids)
    words = ["data=store", *model, *QUICK, "trainer=cpu", "trainer.max_epochs=2",
             "prune/curves=none", "figures=false"]  # fmt: skip
    folders = [str(tmp_path / name) for name in ("small", "run", "store")]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *folders, *words], capture_output=True, text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    ratios = {stage: found["estimated"][stage] / found["measured"][stage] for stage in compared}
    assert all(1 / 1.3 < ratio < 1.3 for ratio in ratios.values()), found
