"""The command `verify rows=FILE`: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from raw_clicks import FinishedRun

from glassrec.__main__ import main
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.rows import encode_frame
from glassrec.models.layers import activations


def verify(run: FinishedRun, frame: pd.DataFrame, folder: Path, *words: str) -> int:
    frame.to_csv(folder / "new.csv", index=False)
    return main(["verify", f"run.dir={run.directory}", f"rows={folder / 'new.csv'}", *words])


@pytest.fixture
def extreme(finished: FinishedRun) -> pd.DataFrame:
    """200 rows, whose prices and views are 100 times as large on every third."""
    factor = np.where(np.arange(200) % 3 == 0, 100, 1)
    test = finished.test
    return test.assign(price=test["price"] * factor, views=test["views"] * factor)


def test_it_holds_on_the_rows_that_are_certified(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(finished, finished.test, tmp_path) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "verify    the certificate holds on these 200 rows: no pruned neuron became active, "
        "and no logit moved by more than rounding"
    )
    assert second.startswith("verify    the largest change of a logit is ")


@pytest.mark.parametrize("chunk", [16384, 7])
def test_neurons_rows_and_changes_are_those_of_both_models(
    finished: FinishedRun, opened: OpenedRun, extreme: pd.DataFrame, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], chunk: int,
) -> None:  # fmt: skip
    assert verify(finished, extreme, tmp_path, f"out={tmp_path / 'out.csv'}", f"chunk={chunk}") == 1
    printed = capsys.readouterr()
    found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    plan = json.loads((finished.directory / "plan.json").read_text())["layers"]
    batch = encode_frame(opened, extreme).batch
    with activations(opened.model.layers) as recorded, torch.no_grad():
        before, after = (each(batch).flatten() for each in (opened.model, opened.pruned))
    active = {
        (row, f"{layer}[{unit}]")
        for layer, cut in plan.items()
        for unit, constant in cut["constants"].items()
        for row in (
            (recorded[layer][0][:, int(unit)] - constant).abs() > 1e-5
        ).nonzero().flatten().tolist()
    }  # fmt: skip
    assert {row % 3 for row, _ in active} == {0}
    names = sorted({name for _, name in active})
    assert names == ["top.0[10]"]
    rows = sorted({row for row, _ in active})
    assert found["line"].tolist() == [*range(2, 202)]
    assert found.index[found["active_neurons"] == "top.0[10]"].tolist() == rows
    assert (found["active_neurons"] != "").sum() == len(rows)
    assert found.index[found["moved"]].tolist() == rows
    assert np.allclose(found["logit"], before, rtol=1e-5, atol=1e-5)
    assert np.allclose(found["pruned_logit"], after, rtol=1e-5, atol=1e-5)
    errors = [line.removeprefix("glassrec: error: ") for line in printed.err.splitlines()]
    lines = ", ".join(str(row + 2) for row in rows[:5])
    assert errors[:4] == [
        "the certificate does not hold on these 200 rows",
        "1 pruned neuron became active",
        f"  top.0[10] on {len(rows)} rows, at line {lines}, ...",
        f"{len(rows)} rows moved by more than rounding",
    ]
    worst = int(np.abs(found["pruned_logit"] - found["logit"]).argmax())
    assert f"(line {worst + 2}: " in errors[4]
    assert printed.out == ""


def test_wrong_commands_and_rows_are_told_apart(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(finished, finished.test, tmp_path, "reasons=3") == 2
    assert "reasons: there is no such setting" in capsys.readouterr().err
    assert verify(finished, finished.test.drop(columns="city"), tmp_path) == 1
    error = capsys.readouterr().err
    assert "'city'" in error
    assert "hold" not in error
    assert main(["verify", "rows=", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: glassrec verify rows=FILE key=value")
