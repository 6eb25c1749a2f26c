from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from glassrec import __main__
from glassrec.compare import compare_command
from glassrec.tracking import Log, TablePreview

Leave = Callable[..., Path]


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has tests of its own."""
    stub = ModuleType("glassrec.compare.comparison_page")
    stub.write_page = lambda comparison, path: path.touch()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "glassrec.compare.comparison_page", stub)
    monkeypatch.setattr("glassrec.compare.comparison_page", stub, raising=False)


@pytest.fixture
def compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Compares `runs` and gives the lines that were printed."""
    monkeypatch.chdir(tmp_path)

    def compare(*words: str) -> list[str]:
        assert compare_command.main(["runs", *words]) == 0
        return capsys.readouterr().out.splitlines()

    return compare


def _narrow(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))


@pytest.fixture
def two(leave: Leave) -> None:
    """Two settings, one of two seeds; the cut changes one metric."""
    for seed, value in enumerate((0.75, 0.85)):
        leave(f"mlp/seed_{seed}", "mlp", seed, metrics={
            "val/auroc": value, "test/auroc": value, "test/accuracy": 0.5,
            "pruned/test/auroc": value, "pruned/test/accuracy": 0.4,
            "flops": 1000.0, "pruned/flops": 10.0,
        })  # fmt: skip
    leave("gmf", metrics={"val/auroc": 0.6, "test/auroc": 0.65, "pruned/test/auroc": 0.65})


def test_a_row_is_a_setting_best_first(two: None, compared: Callable[..., list[str]]) -> None:
    lines = compared()
    assert lines[0] == "3 runs, 2 settings"
    headings, best, other = (line.split() for line in lines[3:6])
    assert headings[:3] == ["model", "runs", "val/auroc"]
    assert best[:3] == ["1", "mlp", "2"]
    assert "0.8000 ± 0.0707" in lines[4]
    assert "100 → 90" in lines[4]
    assert "0.8000 ± 0.0707 → 0.8000" in lines[4]  # before and after the cut
    assert lines[4].split()[-1] == "20.0%"
    assert other[:3] == ["2", "gmf", "1"]
    assert lines[-1].startswith("results   runs/comparison/index.html")


def test_numbers_end_at_the_same_place(two: None, compared: Callable[..., list[str]]) -> None:
    lines = compared()
    assert lines[4].index("0.8000") == lines[5].index("0.6000")
    assert lines[4].index("→") == lines[5].index("→")


@pytest.mark.parametrize("columns", [70, 90, 110, 130])
def test_a_table_fits_the_terminal_and_says_what_it_leaves_out(
    two: None, compared: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    _narrow(monkeypatch, columns)
    lines = compared()
    assert max(map(len, lines[3:6])) <= columns
    assert "test/auroc" in lines[3]
    said = [line for line in lines if line.startswith("columns that do not fit")]
    for title in ("ms per 4,096", "test/accuracy", "parameters"):
        assert (title in lines[3]) != any(title in line for line in said), title
    assert bool(said) == (columns < 130)


def test_only_the_first_settings_are_listed(
    leave: Leave, compared: Callable[..., list[str]], tmp_path: Path
) -> None:
    for number in range(6):
        leave(str(number), optimizer__lr=number)
    lines = compared("--top", "2")
    assert [line for line in lines if line.startswith("…")] == ["… and 4 more in settings.csv"]
    assert len(pd.read_csv(tmp_path / "runs" / "comparison" / "settings.csv")) == 6


def test_other_metrics_can_be_shown_and_rank(two: None, compared: Callable[..., list[str]]) -> None:
    lines = compared("--by", "parameters", "--metric", "flops")
    assert "flops" in lines[3].split()
    assert "1,000 → 10" in lines[4] + lines[5]
    assert "ranked by parameters: lower is better" in lines


def test_what_went_wrong_is_told_with_the_log(
    leave: Leave, compared: Callable[..., list[str]], tmp_path: Path
) -> None:
    leave("a")
    leave("b", metrics={}, status={"state": "failed", "stage": "train", "problem": "nan\nmore"})
    job = {"number": 3, "label": "lr=9", "words": [], "run": None, "state": "killed",
           "log": "3.log", "problem": "signal 9"}  # fmt: skip
    (tmp_path / "runs" / "sweep.json").write_text(json.dumps({"jobs": [job]}))
    lines = compared()
    assert "1 failed, 1 finished, 1 killed" in lines
    assert "  b  failed: nan" in lines
    assert "  runs 3 lr=9  killed: signal 9 (log: runs/3.log)" in lines


def test_the_front_of_a_search_is_told(
    leave: Leave, compared: Callable[..., list[str]], tmp_path: Path
) -> None:
    values = {"a": [0.9, 50.0], "b": [0.8, 10.0], "c": [0.7, 20.0]}
    for name in values:
        leave(name, optimizer__lr=name)
    jobs = [
        {"number": n, "label": name, "words": [], "run": name, "state": "finished", "log": "",
         "values": found}
        for n, (name, found) in enumerate(values.items())
    ]  # fmt: skip
    objectives = [
        {"metric": "val/auroc", "direction": "maximize"},
        {"metric": "parameters", "direction": "minimize"},
    ]
    text = json.dumps({"jobs": jobs, "objectives": objectives})
    (tmp_path / "runs" / "sweep.json").write_text(text)
    lines = compared()
    place = lines.index("runs: 2 of 3 trials on the Pareto front")
    assert lines[place + 1 : place + 3] == [
        "  a  val/auroc 0.9  parameters 50", "  b  val/auroc 0.8  parameters 10"
    ]  # fmt: skip


def test_a_comparison_is_no_run_and_never_lies_in_one(
    leave: Leave, compared: Callable[..., list[str]], tmp_path: Path
) -> None:
    run = leave("a")
    before = compared()
    assert compared() == before
    assert compare_command.main([str(run)]) == 0
    assert not (run / "comparison").exists()
    assert (tmp_path / "comparison" / "runs.parquet").is_file()
    assert compare_command.main([str(run), "--out", "elsewhere"]) == 0
    assert (tmp_path / "elsewhere" / "index.html").is_file()


def test_a_damaged_table_is_warned_of(leave: Leave, capsys: pytest.CaptureFixture[str]) -> None:
    path = leave("a") / "history.csv"
    path.write_bytes(b"nothing")
    assert compare_command.main([str(path.parents[1])]) == 0
    assert f"left out, as it cannot be read: {path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["runs"], 1, "runs holds no run and no sweep"),
     (["nowhere"], 1, "nowhere is not a directory"),
     (["full", "--by", "test/aurok"], 1, "did you mean 'test/auroc'"),
     (["full", "--metric", "x"], 1, "no run has the metric 'x'"),
     ([], 2, "DIR"), (["full", "--top", "0"], 2, "not 1 or more"), (["full", "--tpo"], 2, "--tpo")],
)  # fmt: skip
def test_a_wrong_command_is_told_what_is_wrong(
    leave: Leave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str,
) -> None:  # fmt: skip
    leave("../full/a")
    (tmp_path / "runs").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    try:
        found = __main__.main(["compare", *words])
    except SystemExit as stop:
        found = stop.code
    assert found == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "full" / "comparison").exists()


def test_help_and_reading_do_without_pytorch(leave: Leave) -> None:
    run = leave("a")
    script = (
        "import sys\n"
        "from glassrec.compare import compare_command, exports, run_comparison, scan, terminal\n"
        "from pathlib import Path\n"
        "found = run_comparison.compare(scan.scan([Path(sys.argv[1])]))\n"
        "list(terminal.summary_lines(found, top=9, width=80))\n"
        "print(sorted({'torch', 'matplotlib', 'hydra'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, run], capture_output=True, text=True, check=True,
        env=os.environ,
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_wandb_gets_the_paired_differences(
    leave: Leave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {}

    class Recorder(Log):
        def table(self, name: str, version: str, rows: Callable[[], TablePreview]) -> None:
            tables[name] = rows()

    monkeypatch.setattr("glassrec.tracking.WandB.open", lambda *given: Recorder())
    for model, values in (("gmf", (0.6, 0.61)), ("mlp", (0.7, 0.72))):
        for seed, value in enumerate(values):
            leave(f"{model}-{seed}", model, seed, metrics={"val/auroc": value, "test/auroc": value})
    assert compare_command.main([str(tmp_path / "runs"), "--wandb", "films"]) == 0
    found = tables["differences"]
    assert found.file == "differences.csv"
    assert found.frame["difference"].tolist() == pytest.approx([0.105, 0.105])
    assert {"low", "high", "p_holm", "shown"} <= {*found.frame}
    assert [*tables] == ["settings", "differences"]
