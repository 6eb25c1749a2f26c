"""Bad input ends with a clear message and its exit code, and leaves nothing half-made."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassrec.__main__ import main

COLUMNS = "label: click\nuser: user\nitem: item\ndense: [price]\n"
GOOD = ["user,item,price,click", *(f"u{i % 7},i{i % 5},{i}.5,{i % 2}" for i in range(40))]


def _with_line(number: int, line: str) -> list[str]:
    """The good table with one line, counted from 1, replaced."""
    return [*GOOD[: number - 1], line, *GOOD[number:]]


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    """The words that read a table from `tmp_path`; the table itself is a test's to write."""
    (tmp_path / "columns.yaml").write_text(COLUMNS)
    (tmp_path / "rows.csv").write_text("\n".join(GOOD) + "\n")
    return ["data=table", f"data.path={tmp_path / 'rows.csv'}",
            f"data.columns={tmp_path / 'columns.yaml'}", f"run.dir={tmp_path / 'run'}",
            "trainer=cpu", "model.bottom=[4]", "model.top=[4]", "model.embedding=2"]  # fmt: skip


def _left(tmp_path: Path) -> set[str]:
    return {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*")}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "rows.csv: the file is empty"),
        (GOOD[:1], "rows.csv: the file holds no rows"),
        (_with_line(9, "u1,i1,2.5"), "rows.csv, line 9: 3 cells where there should be 4"),
        (_with_line(5, "u1,i1,2.5,2"), "rows.csv, line 5: click is 2.0; a label must be 0 or 1"),
        (_with_line(6, "u1,i1,nan,1"), "rows.csv, line 6: price is nan, not a finite number"),
        (_with_line(7, "u1,i1,cheap,1"), "rows.csv, line 7: price is 'cheap', not a number"),
        (_with_line(8, ",i1,1.5,1"), "rows.csv, line 8: user is empty"),
        (_with_line(1, "user,item,prize,click"), "no column 'price'"),
    ],
)
def test_a_bad_table(
    table: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    message: str,
) -> None:
    (tmp_path / "rows.csv").write_text("".join(line + "\n" for line in lines))
    assert main(["run", *table]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert _left(tmp_path) <= {".lock", "config.yaml", "provenance.json", "status.json"}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.embeding=3", "did you mean 'embedding'?"),
        ("model.embedding=wide", "model.embedding: 'wide' is not allowed; must be a whole number"),
        ("trainer.batch_size=0", "trainer.batch_size: 0 is not allowed; must be >= 1"),
        ("prune.level=guess", "must be 'domain', 'data', 'sample' or 'budget'"),
        ("data.path=missing.csv", "must be an existing file"),
        ("modle=gmf", "did you mean 'model'?"),
        ("model=dlmr", "did you mean 'dlrm'?"),
    ],
)
def test_a_wrong_command_runs_nothing(
    table: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    word: str,
    message: str,
) -> None:
    assert main(["run", *table, word]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0\t1\t5\t1", "0\tx\t5\t2"], "line 2: item is 'x', not a whole number"),
        (["0\t1\t5\t1", "0\t2\t5"], "line 2: 3 cells where there should be 4"),
        ([], "the file is empty"),
    ],
)
def test_a_bad_file_of_ncf(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], message: str
) -> None:
    (tmp_path / "ml-1m.train.rating").write_text("".join(line + "\n" for line in lines))
    (tmp_path / "ml-1m.test.rating").write_text("0\t3\t5\t9\n")
    (tmp_path / "ml-1m.test.negative").write_text("(0,3)\t4\n")
    words = ["data=ncf", f"data.root={tmp_path}", "model=gmf", f"run.dir={tmp_path / 'run'}"]
    assert main(["run", *words]) == 1
    err = capsys.readouterr().err
    assert "ml-1m.train.rating" in err
    assert message in err


def test_a_missing_file_of_ncf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data=ncf", f"data.root={tmp_path}", "model=gmf", f"run.dir={tmp_path / 'run'}"]
    assert main(["run", *words]) == 1
    assert "ml-1m.train.rating: no such file" in capsys.readouterr().err


def test_a_model_that_does_not_fit_the_data(
    table: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in table if not word.startswith("model.")]
    assert main(["run", *words, "data/split=leave_one_out"]) == 1
    assert "leave-one-out takes every row as a positive" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_is_named(
    table: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *table, "optimizer=sgd", "optimizer.lr=1e30", "trainer.batch_size=4"]) == 1
    err = capsys.readouterr().err
    assert "the training loss is" in err
    assert "step" in err
    assert not (tmp_path / "run" / "weights.safetensors").exists()
