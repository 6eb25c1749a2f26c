"""A joint table that the processes divide: the same model, in a share of the memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from glassrec.__main__ import main
from glassrec.training import sharding
from glassrec.training.threads import threads
from small_run import QUICK, SMALL

needs_torchrec = pytest.mark.skipif(find_spec("torchrec") is None, reason="needs TorchRec")
TESTS = Path(__file__).parents[1]
SHARDED = ["trainer.shard_table=true", "table_optimizer=rowwise_adagrad", "optimizer=sgd"]


def _torchrun(script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
               "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(TESTS / script),
               *words]  # fmt: skip
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
    return subprocess.run(
        command, env=given, check=False, capture_output=True, text=True, timeout=240
    )


def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", *SMALL, "trainer.shard_table=true"]
    rowwise, accumulated = "table_optimizer=rowwise_adagrad", "trainer.accumulate_grad_batches=2"
    monkeypatch.setattr(sharding, "find_spec", lambda name: None)
    assert main([*words, f"run.dir={tmp_path / 'one'}"]) == 1
    assert "TorchRec is not installed" in capsys.readouterr().err
    monkeypatch.setattr(sharding, "find_spec", lambda name: sys)
    assert main([*words, f"run.dir={tmp_path / 'two'}"]) == 1
    assert "set table_optimizer=rowwise_adagrad" in capsys.readouterr().err
    assert main([*words, rowwise, accumulated, f"run.dir={tmp_path / 'three'}"]) == 1
    assert "not with trainer.accumulate_grad_batches" in capsys.readouterr().err


@pytest.mark.long
@needs_torchrec
def test_vectors_steps_and_means_are_those_of_one_table(tmp_path: Path) -> None:
    """`sharded_steps.py` compares them in both processes."""
    done = _torchrun("sharded_steps.py", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("equal") == 2


@pytest.mark.long
@needs_torchrec
def test_a_run_is_that_of_one_table_and_goes_on_whoever_dies(tmp_path: Path) -> None:
    words = [*SMALL, *QUICK, *SHARDED, "trainer.max_epochs=3", "data.rows=1280", "figures=false",
             "prune/curves=none"]  # fmt: skip
    one, two, resumed = (tmp_path / name for name in ("one", "two", "resumed"))
    with threads(1):
        assert main(["run", f"run.dir={one}", *words, "trainer.shard_table=false"]) == 0
    done = _torchrun("shared_process.py", "run", f"run.dir={two}", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    done = _torchrun("shared_process.py", "run", f"run.dir={resumed}", *words, KILL="1 epoch 3")
    assert done.returncode == 1
    assert main(["train", f"run.dir={resumed}", *words, "trainer.shard_table=false"]) == 1
    done = _torchrun("shared_process.py", "run", f"run.dir={resumed}", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = load_file(one / "weights.safetensors")
    for directory in (two, resumed):
        assert_close(load_file(directory / "weights.safetensors"), expected, atol=1e-5, rtol=0)
        assert not [*directory.glob("training*")]
        assert main(["verify", f"run.dir={directory}"]) == 0
    plans = [json.loads((directory / "plan.json").read_text()) for directory in (one, two)]
    assert [len(plan["layers"]) for plan in plans] == [len(plans[0]["layers"])] * 2


def _store(folder: Path, rows_of_table: int) -> Path:
    """3,000 rows of two fields, which together have so many ids, and two dense columns."""
    random, fields = np.random.default_rng(0), rows_of_table // 2
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        ids = np.stack([random.integers(0, fields, 1000), random.integers(0, fields, 1000)], 1)
        ids[:, 1] += fields
        arrays = {
            "ids": ids.astype(np.int32), "dense": random.normal(size=(1000, 2)).astype(np.float32),
            "history": np.empty((1000, 0), np.int32),
            "targets": random.integers(0, 2, (1000, 1)).astype(np.float32),
        }  # fmt: skip
        for name, values in arrays.items():
            np.save(folder / split / f"{name}.npy", values)
    schema = {
        "fields": [{"name": n, "size": fields} for n in ("left", "right")],
        "dense": ["one", "two"], "targets": [{"name": "label"}], "ranges": [],
    }  # fmt: skip
    (folder / "schema.json").write_text(json.dumps({"format": 1, "schema": schema}))
    return folder


@pytest.mark.long
@needs_torchrec
def test_each_process_holds_little_more_than_half_of_the_table(tmp_path: Path) -> None:
    """Trained, explained, pruned, certified and saved; anonymous memory, in tables of 128 MiB."""
    most = []
    for rows in (1_000, 1_000_000):
        folder = tmp_path / str(rows)
        words = ["data=store", f"data.path={_store(folder / 'store', rows)}", "model=dlrm",
                 "model.embedding=32", "model.bottom=[8]", "model.top=[12,6]", "trainer=cpu",
                 "trainer.max_epochs=2", "trainer.batch_size=128", *QUICK, *SHARDED,
                 "figures=false", "prune/curves=none", "explain.baseline=mean"]  # fmt: skip
        done = _torchrun(
            "shared_process.py", "run", f"run.dir={folder / 'run'}", *words, COUNTS=str(folder)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        most.append([json.loads((folder / rank).read_text())["memory"] for rank in "01"])
    table = 1_000_000 * 32 * 4 / 1024
    shares = [(large - small) / table for small, large in zip(*most, strict=True)]
    print(f"{shares} of the table")
    assert max(shares) < 0.55
