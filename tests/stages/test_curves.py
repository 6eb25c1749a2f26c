"""What the pruning stage tells of its curves, and leaves of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from glassrec.__main__ import main
from small_run import QUICK


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*undefined")
def test_curves_are_drawn_told_in_two_sentences_and_forgotten(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    run = f"run.dir={tmp_path}"
    words = [run, *QUICK, "prune.curves.shares=[0.5]", "prune.curves.epochs=1"]
    assert main(["prune", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = (line for line in lines if "auroc" in line)
    assert first.startswith("prune     with 50 % of each layer's neurons pruned, auroc is 0.")
    assert second.startswith("prune     auroc stays within 0.005 of the ")
    assert not any(line.startswith("epoch") for line in lines)

    found = pd.read_parquet(tmp_path / "pruning_curves.parquet")
    assert [*found] == [
        "score", "draw", "share", "folded", "epochs", "units", "parameters", "tower_parameters",
        "flops", "bytes", "tower_bytes", "val/auroc", "val/accuracy",
    ]  # fmt: skip
    assert len(found) == (1 + 1 + 3) * 2 * 2
    cut = found["share"] == 0.5
    assert found.loc[cut, "tower_parameters"].max() < found.loc[~cut, "tower_parameters"].min()
    assert found.loc[~cut].groupby("epochs")["val/auroc"].nunique().tolist() == [1, 1]
    picture = tmp_path / "figures" / "pruning_curves.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path != picture.parent]

    assert main(["prune", run, *QUICK, "prune/curves=none"]) == 0
    assert not picture.exists()
    assert not (tmp_path / "pruning_curves.parquet").exists()
