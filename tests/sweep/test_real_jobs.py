"""A sweep of real jobs, of two processes each, one of which crashes at first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

OWN = '''
"""GMF that writes down what each process of a training has for weights, and crashes for a file."""
import ctypes
import os
from hashlib import sha256
from pathlib import Path
from torch import distributed
from glassrec.models.gmf import GMF

class Own(GMF):
    steps = 0

    def __init__(self, schema, factors: int = 2, crash: str = "none"):
        if Path(crash).exists():
            ctypes.string_at(0)
        super().__init__(schema, factors)

    def score(self, inputs):
        if self.training and distributed.is_initialized():
            weights = b"".join(p.detach().numpy().tobytes() for p in self.parameters())
            with open(f"steps_{os.environ['GLASSREC_SWEEP'][-2:]}.txt", "a") as file:
                file.write(f"{os.getppid()} {distributed.get_rank()} {self.steps} "
                           f"{sha256(weights).hexdigest()}\\n")
            self.steps += 1
        return super().score(inputs)
'''

WORDS = [
    "--config-dir", "own", "model=own", "seed=0,1", "model.crash='crash_${seed}'", "trainer=cpu",
    "trainer.devices=2", "trainer.max_epochs=2", "trainer.batch_size=64", "data.rows=400",
    "hydra.sweep.dir=sw",
]  # fmt: skip


@pytest.mark.slow
def test_jobs_of_two_processes_train_once_with_equal_weights(folder: Path) -> None:
    (folder / "own_gmf.py").write_text(OWN)
    (folder / "own" / "model").mkdir(parents=True)
    (folder / "own" / "model" / "own.yaml").write_text("_target_: own_gmf.Own\n_partial_: true\n")
    (folder / "crash_1").touch()

    def sweep() -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-m", "glassrec", "train", "-m", *WORDS]
        return subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
        )

    first = sweep()
    assert first.returncode == 1
    assert first.stderr.endswith("job 2 killed: seed=1: segmentation fault\n")
    (folder / "crash_1").unlink()
    second = sweep()
    assert second.returncode == 0, second.stderr
    assert "1 of 2 done before" in second.stdout

    steps = pd.read_csv(
        folder / "steps_sw.txt", sep=" ", names=["job", "rank", "step", "weights"]
    )  # one training a job, though the sweep was started twice
    assert steps.groupby("job").ngroups == 2
    for _, job in steps.groupby("job"):
        weights = job.pivot(index="step", columns="rank", values="weights")
        assert [*weights] == [0, 1]
        assert (weights[0] == weights[1]).all()
        assert weights[0].is_unique  # each step changes them
        assert len(weights) == 2 * 3  # epochs by steps: 320 rows, 64 for each of two processes
    for entry in json.loads((folder / "sw" / "sweep.json").read_text())["jobs"]:
        assert len(pd.read_csv(folder / "sw" / entry["run"] / "history.csv")) == 2
