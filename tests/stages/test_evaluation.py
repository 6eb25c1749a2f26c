"""Further metrics and segments of a finished run, which is only measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from glassrec.__main__ import main
from glassrec.report.effect_sections import pruning_section
from glassrec.report.run_record import RunRecord

SMALL = [
    "data.rows=900", "data.users=4", "data.items=8", "model.embedding=4", "model.bottom=[8]",
    "model.top=[12,6]", "trainer=cpu", "trainer.max_epochs=1", "figures=false",
    "explain.select.rows=20", "explain.neurons.steps=2", "explain/compare=none",
    "explain.faithfulness.rows=10", "explain.pair_rows=10", "prune/curves=none",
]  # fmt: skip


@pytest.mark.slow
def test_a_finished_run_is_measured_again_and_not_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["run", f"run.dir={run}", *SMALL]) == 0
    before = json.loads((run / "metrics.json").read_text())
    weights = (run / "weights.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    more = ["evaluation=full", "evaluation.segments=[user_activity,device]"]
    assert main(["evaluate", f"run.dir={run}", *more]) == 0
    assert "test/gauc" in capsys.readouterr().out
    found = json.loads((run / "metrics.json").read_text())
    assert {name: found[name] for name in before} == before
    assert {"test/gauc", "pruned/test/gauc", "val/map_low"} <= {*found}
    assert (run / "weights.safetensors").stat().st_mtime_ns == weights
    frame = pd.read_parquet(run / "segments.parquet")
    assert set(frame["segment"]) == {"user_activity", "device"}
    record = RunRecord.open(run)
    assert record is not None
    section = pruning_section(record)
    assert section is not None
    tables = {getattr(block, "caption", ""): block for block in section.blocks}
    table = tables["Test split by device, with 95 % intervals"]
    first = frame[frame["segment"] == "device"].iloc[0]
    assert table.rows[0][:3] == [first["value"], f"{first['rows']}", "AUROC"]
    assert table.rows[0][4] == f"{first['pruned']:.4f}"
    assert main(["evaluate", f"run.dir={run}", "evaluation=none"]) == 0
    assert not (run / "segments.parquet").exists()
    assert json.loads((run / "metrics.json").read_text()) == before
    assert main(["evaluate", f"run.dir={run}", more[0], "evaluation.k=[0]"]) == 2
    assert "evaluation.k[0]: 0 is not allowed" in capsys.readouterr().err
