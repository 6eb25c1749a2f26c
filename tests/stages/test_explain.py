"""What the explanation stage tells of itself on the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from glassrec.__main__ import main

SMALL = [
    "data.rows=1500", "data.users=12", "data.items=8", "model=dcn", "model.embedding=8",
    "model.deep=[16]", "trainer.accelerator=cpu", "trainer.max_epochs=2",
    "trainer.batch_size=128", "optimizer.lr=0.01", "explain.select.rows=60", "explain.pair_rows=20",
    "explain/compare=none", "explain.faithfulness.rows=30", "explain.faithfulness.points=1",
    "explain.faithfulness.models=1",
]  # fmt: skip


FEW = [
    "data=planted_sequence", "data.users=40", "model=gmf", "model.factors=4",
    "trainer.accelerator=cpu", "trainer.max_epochs=1", "explain.granularity=dimensions",
    "explain.baseline=zero", "explain.select.rows=20", "explain.pair_rows=0",
    "explain.faithfulness.rows=10", "explain.faithfulness.steps=2",
    "explain.faithfulness.subsets=5", "explain.faithfulness.points=1",
    "explain.faithfulness.models=1",
]  # fmt: skip

KEPT = ["attributions.parquet", "neurons.parquet", "methods.parquet", "curves.parquet"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small") / "run"
    assert main(["train", f"run.dir={directory}", *SMALL]) == 0
    return directory


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("few") / "run"
    assert main(["train", f"run.dir={directory}", *FEW]) == 0
    return directory


@pytest.fixture
def told(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Explains a copy of the small model as asked, and keeps what was printed."""
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)

    def tell(*settings: str) -> list[str]:
        assert main(["explain", f"run.dir={tmp_path}", *settings]) == 0
        return capsys.readouterr().out.splitlines()

    return tell


def test_few_samples_of_many_dimensions_are_called_unstable(told: Callable[..., list[str]]) -> None:
    # 5 dense columns and 8 fields of 8 dimensions, and 100 samples.
    lines = told("explain.granularity=dimensions", "explain/method=lime_classic")
    (line,) = (line for line in lines if "two seeds" in line)
    assert line.endswith(": unstable; take more samples or another method")
    assert not any("known effects" in line for line in lines)


def test_many_samples_of_few_fields_are_not_and_known_effects_are_marked(
    told: Callable[..., list[str]],
) -> None:
    lines = told("explain/method=shapley_sampling")
    (line,) = (line for line in lines if "two seeds" in line)
    assert "unstable" not in line
    (line,) = (line for line in lines if "known effects" in line)
    shares = line.partition("at the top: ")[2].split(", ")
    assert [share.partition(" of ")[2] for share in shares] == ["inputs", "main effects", "pairs"]


def test_a_comparison_that_is_not_asked_for_any_more_is_gone(
    told: Callable[..., list[str]], tmp_path: Path
) -> None:
    first = told("explain/reference=all")
    assert any(line.startswith("explain   against all 150 val rows: ") for line in first)
    compared = {"attributions_against.parquet", "explanation_against.json", "selections.parquet"}
    assert all((tmp_path / name).is_file() for name in compared)
    attributions = (tmp_path / "attributions.parquet").stat().st_mtime_ns
    told("explain/reference=none")
    assert not any((tmp_path / name).exists() for name in compared)
    assert (tmp_path / "attributions.parquet").stat().st_mtime_ns == attributions


def test_incomplete_and_unstable_methods_are_named(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(few, tmp_path, dirs_exist_ok=True)
    words = ["explain/compare=sampled", "explain.compare.lime_classic.samples=10"]
    words.append("explain/reference=all")
    assert main(["explain", f"run.dir={tmp_path}", *words]) == 0
    told = capsys.readouterr().out
    assert "deeplift_captum: the completeness error is" in told
    assert "lime_classic: two seeds agree at only" in told
    assert told.count("the completeness error is") == 2  # the other is of the method of the run
    assert "kernel_shap: " not in told  # so few players are not drawn
    assert told.count("against all 40 val rows: ") == 1
    methods = pd.read_parquet(tmp_path / "methods.parquet")
    assert "truth_precision" not in methods  # the players are dimensions
    assert "attributing the predictions of the reference selection to the inputs ..." in told


def test_known_effects_are_told_in_words_where_there_are_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["explain.granularity=fields", "explain/compare=none", "explain.pair_rows=5"]
    model = ["model=lstm", "model.hidden=2", "model.embedding=4"]
    assert main(["train", *FEW[:2], *model, *FEW[4:6], f"run.dir={tmp_path}"]) == 0
    assert main(["explain", f"run.dir={tmp_path}", *FEW[6:], *words]) == 0
    told = capsys.readouterr().out
    # The generated truth has one pair and no main effects.
    assert "% of inputs, " in told
    assert "% of pairs" in told
    assert "nan" not in told


def test_what_a_changed_setting_does_not_touch_is_not_made_again(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(few, tmp_path, dirs_exist_ok=True)
    assert main(["explain", f"run.dir={tmp_path}", "explain/compare=none"]) == 0
    kept = {name: (tmp_path / name).stat().st_mtime_ns for name in KEPT}
    importance = (tmp_path / "importance.parquet").read_bytes()
    capsys.readouterr()
    assert main(["explain", f"run.dir={tmp_path}", "explain.significance=none"]) == 0
    assert "judging" not in capsys.readouterr().out
    assert (tmp_path / "importance.parquet").read_bytes() != importance
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in KEPT} == kept
