"""A sweep of real jobs, one of which trains in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

OWN = '''
"""GMF that writes down what each process of a training has for weights."""
import os
from hashlib import sha256
from torch import distributed
from glassrec.models.ncf import GMF

class Own(GMF):
    steps = 0

    def __init__(self, schema, factors: int = 2):
        super().__init__(schema, factors)

    def score(self, inputs):
        if self.training:
            rank = distributed.get_rank() if distributed.is_initialized() else 0
            weights = b"".join(p.detach().numpy().tobytes() for p in self.parameters())
            with open(f"{os.environ['GLASSREC_LABEL']}.txt", "a") as file:
                file.write(f"{rank} {self.steps} {sha256(weights).hexdigest()}\\n")
            self.steps += 1
        return super().score(inputs)
'''

WORDS = [
    "--config-dir", "own", "model=own", "trainer.devices=1,2", "trainer=cpu",
    "trainer.max_epochs=2", "trainer.batch_size=64", "data.rows=400", "hydra.sweep.dir=sw",
]  # fmt: skip


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="a training in two processes needs two cores"
)
def test_a_job_of_two_processes_trains_once_with_equal_weights(folder: Path) -> None:
    (folder / "own_gmf.py").write_text(OWN)
    (folder / "own" / "model").mkdir(parents=True)
    (folder / "own" / "model" / "own.yaml").write_text("_target_: own_gmf.Own\n_partial_: true\n")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "glassrec", "train", "-m", *WORDS]
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr

    for devices, steps in ((1, 5), (2, 3)):  # of 320 rows, 64 for each process
        told = pd.read_csv(
            folder / f"devices={devices}.txt", sep=" ", names=["rank", "step", "weights"]
        )  # one training a job: a second one would have the same steps again
        weights = told.pivot(index="step", columns="rank", values="weights")
        assert [*weights] == [*range(devices)]
        assert len(weights) == 2 * steps
        assert (weights.nunique(axis=1) == 1).all()
        assert weights[0].is_unique  # each step changes them
    for entry in json.loads((folder / "sw" / "sweep.json").read_text())["jobs"]:
        assert len(pd.read_csv(folder / "sw" / entry["run"] / "history.csv")) == 2


@pytest.mark.long
@pytest.mark.slow
def test_jobs_share_their_encoded_data_while_the_sweep_runs(folder: Path) -> None:
    rows = "".join(f"u{k % 7},i{k % 5},{k % 3 % 2}\n" for k in range(300))
    (folder / "rows.csv").write_text(f"u,i,y\n{rows}")
    (folder / "columns.yaml").write_text("label: y\nuser: u\nitem: i\n")
    words = ["data=table", "data.path=rows.csv", "data.columns=columns.yaml", "trainer=cpu",
             "trainer.max_epochs=1", "model=gmf", "model.factors=2,3",
             "hydra.sweep.dir=sw"]  # fmt: skip
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "glassrec", "train", "-m", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    logs = [path.read_text() for path in sorted((folder / "sw" / "logs").glob("*.log"))]
    assert ["encoding the data into" in log for log in logs] == [True, False]
    assert not (folder / "sw" / ".encoded").exists()
