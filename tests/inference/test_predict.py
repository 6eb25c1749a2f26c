"""The command predict: equal to the run's own predictions, in every format, whole or refused."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from raw_clicks import HISTORY, FinishedRun, new_rows

from glassrec.__main__ import main
from glassrec.artifacts import Attributions
from glassrec.data.events import step_names, with_history
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.reasons import reason_columns
from glassrec.inference.rows import encode_frame, read_rows
from small_run import read_exactly


def predict(run: FinishedRun, rows: Path | str, *words: str) -> int:
    return main(["predict", f"run.dir={run.directory}", f"rows={rows}", *words])


def scored(run: FinishedRun, frame: pd.DataFrame, folder: Path, *words: str) -> pd.DataFrame:
    """The predictions of rows that are written as CSV."""
    frame.to_csv(folder / "new.csv", index=False)
    assert predict(run, folder / "new.csv", f"out={folder / 'out.csv'}", *words) == 0
    return read_exactly(folder / "out.csv")


def test_predictions_are_the_runs_own_bit_for_bit(finished: FinishedRun, tmp_path: Path) -> None:
    own = finished.logits[:, 0].double()
    found = scored(finished, finished.test.drop(columns="clicked"), tmp_path)
    assert found["logit"].tolist() == own.tolist()
    assert found["probability"].tolist() == own.sigmoid().tolist()
    assert (found["unseen"] == "").all()
    chunked = scored(finished, finished.test, tmp_path, "chunk=37")
    assert (chunked["logit"] - found["logit"]).abs().max() < 1e-6
    assert [*chunked] == [*finished.test, "probability", "logit", "unseen"]


def test_new_values_columns_and_orders(finished: FinishedRun, tmp_path: Path) -> None:
    frame = new_rows(finished.test).reset_index(drop=True)
    found = scored(finished, frame, tmp_path)
    assert [*found] == [*frame, "probability", "logit", "unseen"]
    assert found["note"].tolist() == frame["note"].tolist()
    for row in found.itertuples():
        parts = []
        parts += ["user_id=nobody"] if row.Index % 5 == 0 else []
        parts += ["city=Atlantis"] if row.Index % 7 == 0 else []
        parts += ["tags=never seen"] if row.Index % 11 == 0 else []
        assert sorted(row.unseen.split("; ")) == sorted(parts or [""])
    known = found["unseen"] == ""
    own = finished.logits[:, 0].double().numpy()
    assert abs(found["logit"] - own)[known].max() < 1e-6
    assert abs(found["logit"] - own)[~known].max() > 1e-3


def test_every_format_gives_the_same(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    frame = new_rows(finished.test)
    expected = scored(finished, frame, tmp_path)["logit"].tolist()
    text = frame.to_csv(index=False).encode()
    lists = frame.assign(
        tags=[cell.split("|") for cell in frame["tags"]],
        age=pd.to_numeric(frame["age"], errors="coerce"),
    )
    (tmp_path / "new.csv.gz").write_bytes(gzip.compress(text))
    frame.to_csv(tmp_path / "new.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "long.txt", index=False, sep=";")
    lists.to_parquet(tmp_path / "new.parquet")
    records = json.loads(lists.to_json(orient="records", force_ascii=False))
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (tmp_path / "new.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    for name in ("new.csv.gz", "new.tsv", "long.txt", "new.parquet", "new.jsonl"):
        words = ["separator=semicolon"] if name == "long.txt" else []
        for end, read in (
            ("csv", pd.read_csv), ("parquet", pd.read_parquet),
            ("jsonl", lambda path: pd.read_json(path, lines=True, precise_float=True)),
        ):  # fmt: skip
            out = tmp_path / f"out.{end}"
            assert predict(finished, tmp_path / name, f"out={out}", "chunk=64", *words) == 0
            found = read(out)["logit"]
            assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 1e-6, name
    capsys.readouterr()
    for content in (text, (tmp_path / "new.jsonl").read_bytes()):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        assert predict(finished, "-") == 0
        printed = capsys.readouterr()
        found = read_exactly(io.StringIO(printed.out))
        assert found["logit"].tolist() == expected
        assert "200 rows" in printed.err


HEADER = "user_id,sku,city,device,brand,tags,price,age,views"
GOOD = "u_00001,sku-0001,Paris,phone,brand 1,new,9.5,30,4"


@pytest.mark.parametrize(
    ("content", "places"),
    [
        (f"{HEADER.replace(',city', '')}\n", ("line 1", "'city'")),
        (f"{HEADER}\n{GOOD}\n\n{GOOD.replace('9.5', 'cheap')}\n", ("line 4", "price", "cheap")),
        (f"{HEADER}\n{GOOD}\n{GOOD},more\n", ("line 3", "10 cells", "9")),
        (f"{HEADER}\n{GOOD}\n{GOOD[:-2]}\n", ("line 3", "8 cells")),
        (f"{HEADER}\n{GOOD.replace('9.5', '')}\n", ("line 2", "price", "nan")),
        (f"{HEADER}\n{GOOD.replace('9.5', 'inf')}\n", ("line 2", "price", "inf")),
        (f"{HEADER}\n{GOOD.replace('9.5', '1e300')}\n", ("line 2", "price", "1e+300")),
        (f"{HEADER}\n{GOOD.replace(',30,', ',130,')}\n", ("line 2", "age", "130", "[0.0, 120.0]")),
        (f'{HEADER}\n"{GOOD}\n{GOOD}\n', ("line 2", "never closed")),
        (f'{HEADER}\n{GOOD}\n"a"b{GOOD}\n', ("line 3", "closing quote")),
        (f'{HEADER}\n"{GOOD}\n{GOOD}"\n', ("line 2", "line 3", "stray quotes")),
        (f"{HEADER}\n{GOOD}\0\n", ("line 2", "NUL")),
        (f"{HEADER}\n{GOOD}\n".encode() + b"\xff\xfe" + GOOD.encode(), ("line 3", "UTF-8")),
        (f"{HEADER}\n", ("no rows",)),
        (f"{HEADER},city\n{GOOD},Rome\n", ("line 1", "2 columns", "'city'")),
        (HEADER.replace(",", ";"), ("line 1", "separator=semicolon")),
        ('{"user_id": "u_00001"}\n', ("line 1", "'sku'")),
        ('{"user_id": 1\n', ("line 1", "JSON")),
        ("[1, 2]", ("line 1", "one object a line")),
        (gzip.compress((HEADER + GOOD * 10**5).encode())[:999], ("damaged",)),
        (b"PAR1" + b"\0" * 99, ("parquet",)),
        (b"PK\x03\x04" + b"\0" * 99, ("zip",)),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_with_their_place_and_nothing_is_written(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    content: str | bytes, places: tuple[str, ...],
) -> None:  # fmt: skip
    rows = tmp_path / "bad.csv"
    rows.write_bytes(content if isinstance(content, bytes) else content.encode())
    for words in ([], [f"out={tmp_path / 'out.csv'}"]):
        assert predict(finished, rows, "chunk=1", *words) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        for place in ("bad.csv", *places):
            assert place in printed.err
    assert [*tmp_path.iterdir()] == [rows]


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ({"city": ["Paris"]}, ("line 3", "city", "list")),
        ({"city": {"a": 1}}, ("line 3", "city", "object")),
        ({"city": "\ud800"}, ("line 3", "city", "UTF-8")),
        ({"price": "cheap"}, ("line 3", "price", "cheap")),
        ({"price": 10**400}, ("line 3", "price")),
        ({"price": [1]}, ("line 3", "price", "list")),
        ({"other": 1}, ("line 3", "'other'")),
    ],
)
def test_bad_objects_are_refused_with_their_place(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    change: dict[str, object], places: tuple[str, ...],
) -> None:  # fmt: skip
    good = dict(zip(HEADER.split(","), [*GOOD.split(",")[:6], 9.5, None, 4], strict=True))
    rows = tmp_path / "bad.jsonl"
    rows.write_text("\n".join(json.dumps(each) for each in (good, good, good | change)))
    assert predict(finished, rows) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert all(place in printed.err for place in ("bad.jsonl", *places)), printed.err


def test_reasons_are_the_strongest_attributions(
    finished: FinishedRun, opened: OpenedRun, tmp_path: Path
) -> None:
    words = ["reasons=3", "attributions=true", "model=pruned"]
    found = scored(finished, new_rows(finished.test), tmp_path, *words)
    values = found.filter(like="attribution/")
    assert [name.removeprefix("attribution/") for name in values] == [
        *opened.schema.dense, *opened.schema.field_names
    ]  # fmt: skip
    difference = found["logit"] - found["baseline_logit"]
    rough = 0.3  # of four steps
    assert (values.sum(axis=1) - difference).abs().mean() < rough * difference.abs().mean()
    strongest = values.abs().idxmax(axis=1).str.removeprefix("attribution/")
    for row, name in zip(found.itertuples(), strongest, strict=True):
        assert row.reason_1.startswith(f"{name} = ")
        sign = "−" if values.at[row.Index, f"attribution/{name}"] < 0 else "+"
        assert f": {sign}" in row.reason_1


def test_reasons_show_values_as_people_know_them(opened: OpenedRun) -> None:
    row = dict(zip(HEADER.split(","), GOOD.split(","), strict=True))
    rows = encode_frame(opened, pd.DataFrame([row | {"age": "", "tags": "new|odd", "city": "X"}]))
    features = ("sku", "city", "tags", "price", "age", "user_id")
    moved = torch.tensor([[6.0, -5.0, 4.0, -0.001, 2.0, 0.0]])
    about = Attributions(features, moved, *torch.zeros(4, 1))
    assert reason_columns(opened, rows, about, 6).iloc[0].tolist() == [
        "sku = Item №1: +6.00", "city = X (unknown): −5.00", "tags = new, odd (unknown): +4.00",
        "age = (missing): +2.00", "price = 9.5: −0.001", "",
    ]  # fmt: skip


def test_histories_come_from_the_run_or_from_the_row(
    sequential: FinishedRun, tmp_path: Path
) -> None:
    own = sequential.logits[:, 0].double().tolist()
    found = scored(sequential, sequential.test, tmp_path)
    assert found["logit"].tolist() == own
    log = sequential.log.assign(clicked_at=pd.to_datetime(sequential.log["clicked_at"]).astype(int))
    columns = OpenedRun.open(sequential.directory).columns
    steps = with_history(log, columns, HISTORY).loc[sequential.test.index, step_names(HISTORY)]
    history = ["|".join(items.dropna()) for _, items in steps.iterrows()]
    given = sequential.test.drop(columns="clicked_at").assign(history=history)
    assert scored(sequential, given, tmp_path)["logit"].tolist() == own
    newest = scored(sequential, given.drop(columns="history"), tmp_path)["logit"]
    assert newest.tolist() != own, "without a time all interactions count"
    dated = sequential.test.assign(clicked_at=range(len(given)))
    dated.to_csv(tmp_path / "bad.csv", index=False)
    assert predict(sequential, tmp_path / "bad.csv") == 1


def test_memory_is_bounded_by_the_chunk(opened: OpenedRun, tmp_path: Path) -> None:
    lines = (f"{GOOD}\n" for _ in range(1000))
    (tmp_path / "many.csv").write_text(f"{HEADER}\n{''.join(lines)}")
    sizes = [
        (rows.start, len(rows.frame))
        for rows in read_rows(opened, tmp_path / "many.csv", chunk=300)
    ]
    assert sizes == [(0, 300), (300, 300), (600, 300), (900, 100)]


def test_usage_errors_come_all_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "row=x", "model=prunned", "reasons=-1", "--fast", "chunk=0"]) == 2
    printed = capsys.readouterr().err
    for part in ("run.dir: a value", "did you mean 'rows'", "'trained' or 'pruned'", "--fast",
                 "reasons: '-1'", "chunk: '0'", "rows: a value"):  # fmt: skip
        assert part in printed, part


def test_a_column_that_predict_adds_is_refused(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.csv").write_text(f"{HEADER},logit\n{GOOD},1\n")
    assert predict(finished, tmp_path / "new.csv") == 1
    assert "'logit'" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from glassrec.cli import main; assert main(['predict', '--help']) == 0; "
        "print([name for name in ('torch', 'pandas', 'hydra', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "reasons=0" in done.stdout
