from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from glassrec.compare import exports
from glassrec.compare.run_comparison import compare
from glassrec.compare.scan import scan

Leave = Callable[..., Path]


@pytest.fixture
def written(leave: Leave, tmp_path: Path) -> Path:
    """Two models, one with two seeds; a run of other data, one that failed, one that is damaged."""
    for seed, value in enumerate((0.7, 0.9)):
        metrics = {"val/auroc": value, "test/auroc": value}
        leave(f"mlp/seed_{seed}", "mlp", seed, metrics=metrics)
    leave("gmf", metrics={"val/auroc": 0.6, "test/auroc": 0.6}, model__factors=16)
    leave("rows", data__rows=9000, metrics={"val/auroc": 0.5, "test/auroc": 0.5})
    failed = {"state": "failed", "stage": "train", "problem": 'no, "really"\nno'}
    leave("failed", "mlp", metrics={}, status=failed, model__factors=32, model__hidden=[9])
    (leave("hurt") / "config.yaml").write_text("[")
    exports.write_tables(compare(scan([tmp_path / "runs"])), tmp_path / "out")
    return tmp_path / "out"


def test_there_is_a_row_a_run_with_all_that_is_known(written: Path) -> None:
    runs = pd.read_csv(written / "runs.csv").set_index("run")
    assert len(runs) == 6
    assert runs.loc["mlp/seed_1", "rank"] == 1
    assert runs.loc["mlp/seed_1", "hidden"] == "[32,16]"
    assert runs.loc["gmf", ["model", "factors", "rank"]].tolist() == ["gmf", 16, 2]
    assert runs.loc["failed", ["state", "problem"]].tolist() == ["failed", 'no, "really"\nno']
    assert runs.loc["hurt", "state"] == "damaged"
    assert runs.loc["rows", "rank"] == 1
    assert runs.loc["rows", "task"] != runs.loc["gmf", "task"]
    assert pd.isna(runs.loc["gmf", "hidden"])
    assert pd.isna(runs.loc["failed", "test/auroc"])
    assert Path(runs.loc["gmf", "path"]).name == "gmf"


def test_there_is_a_row_a_setting_with_moments(written: Path) -> None:
    settings = pd.read_csv(written / "settings.csv")
    first = settings.iloc[0]
    assert first[["model", "runs", "rank", "ranked_by"]].tolist() == ["mlp", 2, 1, "val/auroc"]
    assert first["test/auroc"] == pytest.approx(0.8)
    assert first["test/auroc_std"] == pytest.approx(0.1 * 2**0.5)
    assert first["test/auroc_n"] == 2
    assert settings.set_index("factors").loc[32, "notes"] == "1 failed"
    assert len(settings) == 4


def test_there_is_a_row_a_pair_of_settings(written: Path) -> None:
    frame = pd.read_csv(written / "differences.csv")
    assert frame["metric"].tolist() == ["val/auroc", "test/auroc"]
    row = frame.iloc[0]
    assert row[["first", "first_rank", "other", "other_rank"]].tolist() == [
        "mlp · factors 8 · hidden [32,16]", 1, "gmf · factors 16", 2,
    ]  # fmt: skip
    assert row["n"] == 1
    assert row["difference"] == pytest.approx(0.1)
    assert row["shown"] == "no interval: 1 shared seed"
    assert row[["low", "high", "p", "p_holm"]].isna().all()


def test_parquet_says_the_same_as_csv(written: Path) -> None:
    for name in ("runs", "settings", "differences"):
        text = pd.read_csv(written / f"{name}.csv")
        table = pd.read_parquet(written / f"{name}.parquet")
        assert [*text] == [*table]
        for column in text:
            there = table[column].notna() & (table[column] != "")
            assert text[column].notna().tolist() == there.tolist(), column
            if pd.api.types.is_numeric_dtype(text[column]):
                assert text[column][there].tolist() == pytest.approx(
                    table[column][there].astype(float).tolist()
                )
            else:
                assert text[column][there].tolist() == table[column][there].tolist(), column


def test_a_table_that_runs_hold_is_joined(leave: Leave, tmp_path: Path) -> None:
    leave("a", seed=4, importance={"x": 1.0, "y": 2.0})
    leave("b", importance={"x": 3.0})
    found = scan([tmp_path / "runs"])
    exports.write_joined("importance", found, tmp_path)
    rows = pd.read_csv(tmp_path / "importance.csv")[["run", "seed", "player", "mean_abs"]]
    assert rows.to_numpy().tolist() == [["a", 4, "x", 1], ["a", 4, "y", 2], ["b", 0, "x", 3]]
    exports.write_joined("latency", found, tmp_path)
    assert pd.read_csv(tmp_path / "latency.csv")["latency_p50_4096"].tolist() == [2, 2]
    with pytest.raises(ValueError, match="no run has a neurons"):
        exports.write_joined("neurons", found, tmp_path)


def test_the_epoch_that_was_kept_is_told(leave: Leave, tmp_path: Path) -> None:
    text = "epoch,train/loss,val/rmse\n1,1,0.9\n2,0.8,0.7\n3,0.7,0.8\n"
    run = leave("a", metrics={"val/rmse": 0.7, "test/rmse": 0.8})
    (run / "history.csv").write_text(text)
    (leave("untrained", seed=1) / "history.csv").write_text(text.splitlines()[0] + "\n")
    (leave("none", seed=2) / "history.csv").unlink()
    rows = exports.run_rows(compare(scan([tmp_path / "runs"]))).set_index("run")[
        ["epochs", "best_epoch"]
    ]
    assert rows.loc["a"].tolist() == [3, 2]
    assert rows.loc["untrained"].tolist() == [0, pd.NA]
    assert rows.loc["none"].isna().all()


def test_a_setting_that_is_called_like_a_column_is_told_from_it(
    leave: Leave, tmp_path: Path
) -> None:
    leave("a", model__rank=1)
    leave("b", model__rank=2)
    frame = exports.run_rows(compare(scan([tmp_path / "runs"])))
    assert frame["setting rank"].tolist() == [1, 2]
    assert frame["rank"].tolist() == [1, 2]


def test_a_column_called_like_a_formula_is_text_in_a_csv(leave: Leave, tmp_path: Path) -> None:
    leave("a", importance={"=cmd|' /C calc'!A0": 0.5, "hour": 0.1})
    exports.write_joined("importance", scan([tmp_path / "runs"]), tmp_path)
    joined = pd.read_csv(tmp_path / "importance.csv")
    assert joined["player"].tolist() == ["'=cmd|' /C calc'!A0", "hour"]
    assert joined["mean_abs"].tolist() == [0.5, 0.1]
