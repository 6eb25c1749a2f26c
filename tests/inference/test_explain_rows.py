"""The command `explain rows=FILE`: the attributions of the Python API and of Captum, by row."""

from __future__ import annotations

import copy
import io
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import IntegratedGradients
from raw_clicks import FinishedRun, new_rows

import glassrec
from glassrec.__main__ import main
from glassrec.inference.opened_run import OpenedRun
from glassrec.models.base import Inputs

COLUMNS = [
    "line", "user", "item", "feature", "value", "attribution", "logit", "baseline_logit",
    "completeness_error",
]  # fmt: skip
NUMBERS = ["attribution", "logit", "baseline_logit", "completeness_error"]


def explain(run: FinishedRun, rows: Path | str, *words: str) -> int:
    return main(["explain", f"run.dir={run.directory}", f"rows={rows}", *words])


def explained(run: FinishedRun, rows: Path, *words: str) -> pd.DataFrame:
    """The output for a file, as CSV."""
    out = rows.with_name("out.csv")
    assert explain(run, rows, f"out={out}", *words) == 0
    return pd.read_csv(out, keep_default_na=False)


@pytest.fixture
def rows(finished: FinishedRun, tmp_path: Path) -> Path:
    """A CSV of 60 new rows, with a blank line behind the header."""
    text = new_rows(finished.test).iloc[:60].to_csv(index=False)
    (tmp_path / "new.csv").write_text(text.replace("\n", "\n\n", 1), encoding="utf-8")
    return tmp_path / "new.csv"


def test_the_numbers_are_those_of_the_python_api(finished: FinishedRun, rows: Path) -> None:
    frame = pd.read_csv(rows, keep_default_na=False, dtype=str)
    for model in ("trained", "pruned"):
        own = glassrec.load(finished.directory).explain(frame, model=model)
        found = explained(finished, rows, f"model={model}")
        assert [*found] == COLUMNS
        places = np.repeat(np.arange(len(frame)), len(own.features))
        assert found["line"].tolist() == (places + 3).tolist()
        assert found["user"].tolist() == frame["user_id"].iloc[places].tolist()
        assert found["item"].tolist() == frame["sku"].iloc[places].tolist()
        assert found["feature"].tolist() == own.frame["feature"].tolist()
        assert found["attribution"].tolist() == own.frame["attribution"].tolist()
        about = own.attributions
        assert found["logit"].tolist() == about.logits[places].tolist()
        assert found["baseline_logit"].tolist() == about.baseline_logits[places].tolist()
        sums = found.groupby("line")["attribution"].sum().to_numpy()[places]
        error = sums - (found["logit"] - found["baseline_logit"])
        assert abs(found["completeness_error"] - error).max() < 1e-6
        assert abs(error).max() > 1e-6
        size = found["attribution"].abs()
        assert all(size[places == row].is_monotonic_decreasing for row in range(len(frame)))
        for row, feature, value in zip(places, found["feature"], found["value"], strict=True):
            assert value == frame.at[row, feature]


def test_the_numbers_are_captums(finished: FinishedRun, opened: OpenedRun, rows: Path) -> None:
    frame = pd.read_csv(rows, keep_default_na=False, dtype=str)
    steps = opened.explain_settings.method.steps  # type: ignore[attr-defined]
    model = copy.deepcopy(opened.model)
    batch = glassrec.load(finished.directory).encode(frame)
    inputs = Inputs(*(part.detach() for part in model.embed(batch)))
    base = opened.baseline.expand_to(inputs)

    def logit(dense: torch.Tensor, fields: torch.Tensor) -> torch.Tensor:
        past = (part[:1].expand(len(dense), *part.shape[1:]) for part in inputs[2:])
        return model.score(Inputs(dense, fields, *past))[:, 0]

    theirs = IntegratedGradients(logit).attribute(
        inputs[:2], base[:2], n_steps=steps, method="gausslegendre"
    )
    expected = torch.cat([theirs[0], theirs[1].sum(2)], 1).numpy()
    found = explained(finished, rows).pivot_table("attribution", "line", "feature")
    names = [*model.schema.dense, *model.schema.field_names]
    np.testing.assert_allclose(found[names].to_numpy(), expected, rtol=0, atol=1e-6)
    assert abs(expected).max() > 0.1


def test_chunks_formats_and_the_strongest_features(
    finished: FinishedRun, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole = explained(finished, rows)
    keys = ["line", "feature"]
    for words in (["chunk=7"], ["chunk=59", "reasons=2"]):
        some = explained(finished, rows, *words).merge(whole, on=keys)
        assert len(some) == (2 * 60 if len(words) == 2 else len(whole))
        for name in NUMBERS:
            assert abs(some[f"{name}_x"] - some[f"{name}_y"]).max() < 1e-6
    first = whole.groupby("line").head(2)
    few = explained(finished, rows, "reasons=2")
    assert few.equals(first.reset_index(drop=True))
    capsys.readouterr()
    text = rows.read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(text))))
    assert explain(finished, "-") == 0
    printed = capsys.readouterr()
    assert pd.read_csv(io.StringIO(printed.out), keep_default_na=False).equals(whole)
    assert "explain   60 rows to standard output" in printed.err
    assert "attributions of the logit of clicked against the baseline mean" in printed.err
    lists = pd.read_csv(rows, keep_default_na=False, dtype=str)
    lists = lists.assign(tags=lists["tags"].str.split("|"))
    lists.to_parquet(tmp_path / "new.parquet")
    lists.to_json(tmp_path / "new.jsonl", orient="records", lines=True)
    for name, read in (
        ("out.parquet", pd.read_parquet),
        ("out.jsonl", lambda path: pd.read_json(path, lines=True, dtype=False)),
    ):
        source, out = tmp_path / name.replace("out", "new"), tmp_path / name
        assert explain(finished, source, f"out={out}") == 0
        found = read(out)
        assert [*found] == COLUMNS
        assert found["line"].tolist() == (whole["line"] - 2).tolist()
        assert found["value"].tolist() == whole["value"].tolist()
        assert abs(found["attribution"] - whole["attribution"]).max() < 1e-6


def test_steps_of_a_history_are_features(sequential: FinishedRun, tmp_path: Path) -> None:
    frame = sequential.test.iloc[-20:]
    frame.to_csv(tmp_path / "new.csv", index=False)
    found = explained(sequential, tmp_path / "new.csv", "chunk=6")
    own = glassrec.load(sequential.directory).explain(frame.reset_index(drop=True))
    found = found.set_index(["line", "feature"]).sort_index()
    expected = own.frame.assign(line=own.frame["row"] + 2).set_index(["line", "feature"])
    expected = expected.sort_index()
    assert abs(found["attribution"] - expected["attribution"]).max() < 1e-6
    steps = found.index.get_level_values("feature").str.startswith("history[")
    texts = expected["value"].astype(object).where(expected["value"].notna(), "")
    assert found["value"][steps].tolist() == texts[steps].tolist()
    assert set(found["value"][steps]) & {*sequential.log["sku"]}


def test_nothing_in_the_run_changes_and_refused_rows_leave_nothing(
    finished: FinishedRun, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def files() -> dict[str, str]:
        every = finished.directory.rglob("*")
        return {str(p): sha256(p.read_bytes()).hexdigest() for p in every if p.is_file()}

    before = files()
    assert explain(finished, rows) == 0
    capsys.readouterr()
    lines = rows.read_text(encoding="utf-8").splitlines()
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join([*lines[:9], lines[9] + ",more"]), encoding="utf-8")
    for words in ([], [f"out={tmp_path / 'out.csv'}"]):
        assert explain(finished, bad, "chunk=1", *words) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "bad.csv, line 10: 12 cells" in printed.err
    assert {*tmp_path.iterdir()} == {rows, bad}
    assert files() == before


def test_usage_errors_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "rows=x", "modle=pruned", "reasons=-1", "explain/method=lime"]) == 2
    printed = capsys.readouterr().err
    for part in ("run.dir: a value", "did you mean 'model'", "reasons: '-1'", "explain/method: "):
        assert part in printed
    assert main(["explain", "rows=", "--help"]) == 0
    assert "Usage: glassrec explain rows=FILE key=value" in capsys.readouterr().out
    assert main(["explain", "--help"]) == 0
    assert "With rows=FILE it explains new raw rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (
            "trust",
            ["glassrec predict\n  trust", "recommend\n  trust", "explain rows=FILE\n  trust"],
        ),
        ("threshold", ["glassrec predict\n  threshold=null", "0.5 or the mean rating"]),
        ("reasons", ["how many columns reason_1", "explain rows=FILE\n  reasons=0"]),
        ("users", ["glassrec recommend\n  users=null"]),
    ],
)
def test_settings_of_these_commands_have_help(
    key: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["help", key]) == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in parts), printed
