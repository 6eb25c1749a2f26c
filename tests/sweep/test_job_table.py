"""What runs and jobs came to."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

import pytest

from glassrec.sweep.job_table import metrics, result_text
from glassrec.sweep.sweep_record import SweepJob, SweepRecord


def _evaluated(run: Path, latency: float, **found: float | None) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.json").write_text(json.dumps(found))
    (run / "latency.json").write_text(json.dumps({"latency_p50_1": latency}))


def test_many_seeds_come_to_their_means_and_a_seed_of_before_is_left_out(tmp_path: Path) -> None:
    for seed, latency in enumerate([1.0, 2.0, 90.0]):
        _evaluated(tmp_path / f"seed_{seed}", latency, auroc=latency / 10)
    (tmp_path / "seeds.csv").write_text("metric,mean,std,n,seed_0,seed_1\nauroc,0,0,2,0,0\n")
    assert metrics(tmp_path) == pytest.approx({"auroc": 0.15, "latency_p50_1": 1.5})
    (tmp_path / "seeds.csv").write_text("metric,mean,std,n\n")
    assert metrics(tmp_path) == {}


def test_no_number_is_not_a_number(tmp_path: Path) -> None:
    _evaluated(tmp_path, 1.0, auroc=None)
    assert isnan(metrics(tmp_path)["auroc"])


def test_a_trial_is_told_by_what_its_search_is_after(tmp_path: Path) -> None:
    _evaluated(tmp_path, 1.0, **{"test/auroc": 0.7, "pruned/test/auroc": 0.6})
    job = SweepJob(1, "job", ["run"], ".", "1.log", "finished")
    after = [{"metric": "val/auroc"}, {"metric": "parameters"}]
    assert (
        result_text(tmp_path, SweepRecord([], "", [job]), job) == "test/auroc 0.7000, pruned 0.6000"
    )
    job.values, job.problem = [0.81, 1204.0], "trial 2 again"
    search = SweepRecord([], "", [job], after)
    assert result_text(tmp_path, search, job) == "val/auroc 0.8100, parameters 1,204; trial 2 again"
