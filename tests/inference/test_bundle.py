"""The bundle of an export: `score.py` in a process where neither Glassrec nor pyarrow is there."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch
from bare_process import run_without
from raw_clicks import FinishedRun, new_rows

from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.rows import encode_frame

MISSING = ("glassrec", "pyarrow", "lightning", "captum", "safetensors")


def alone(bundle: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The end of `python score.py ...`, with torch and pandas alone."""
    return run_without(MISSING, bundle / "score.py", *words, flags=["-I", "-W", "ignore"])


def scored(bundle: Path, rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    rows.to_csv(folder / "rows.csv", index=False)
    done = alone(bundle, folder / "rows.csv")
    assert done.returncode == 0, done.stderr
    return pd.read_csv(io.StringIO(done.stdout), keep_default_na=False)


def test_the_script_is_short(bundle: Path) -> None:
    lines = (bundle / "score.py").read_text(encoding="utf-8").splitlines()
    code = lines[lines.index('"""', 1) :]  # behind the instructions
    assert sum(bool(line.strip()) for line in code) < 100
    assert max(map(len, lines)) <= 100


def test_new_rows_get_the_logits_of_the_run(
    finished: FinishedRun, opened: OpenedRun, bundle: Path, tmp_path: Path
) -> None:
    rows = new_rows(finished.test)
    found = scored(bundle, rows, tmp_path)
    logits = opened.pruned.predict(encode_frame(opened, rows).batch).double()[:, 0]
    assert (torch.tensor(found["logit"]) - logits).abs().max() <= 1e-6
    assert (torch.tensor(found["probability"]) - logits.sigmoid()).abs().max() <= 1e-6
    assert [*found] == [*rows, "probability", "logit"]
    assert found["city"].tolist() == rows["city"].tolist()


def test_a_history_is_a_column(
    sequential: FinishedRun, opened_sequence: OpenedRun, sequence: Path, tmp_path: Path
) -> None:
    rows = sequential.test.head(40).drop(columns=["clicked", "clicked_at"])
    given = ["", "sku-0003", "sku-0001|never| sku-0002 ", "|".join(f"sku-{k:04}" for k in range(9))]
    rows["history"] = [given[k % 4] for k in range(len(rows))]
    found = scored(sequence, rows, tmp_path)
    logits = opened_sequence.pruned.predict(encode_frame(opened_sequence, rows).batch)[:, 0]
    assert (torch.tensor(found["logit"]) - logits.double()).abs().max() <= 1e-6
    assert logits[0] != logits[1]


@pytest.mark.parametrize("name", ["bundle", "sequence"])
def test_the_golden_rows_are_scored_again(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    done = alone(folder, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    golden = pd.read_csv(folder / "golden.csv", keep_default_na=False)
    assert 150 <= len(golden) <= 256
    if name == "sequence":
        assert golden["history"].str.contains("|", regex=False).any()


def _change_vocabulary(folder: Path) -> None:
    about = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    cities = next(each for each in about["fields"] if each["name"] == "city")
    cities["values"][cities["values"].index("Paris")] = "Parys"
    (folder / "encoder.json").write_text(json.dumps(about), encoding="utf-8")


def _change_scaler(folder: Path) -> None:
    about = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    about["dense"][0]["mean"] *= 1.001
    (folder / "encoder.json").write_text(json.dumps(about), encoding="utf-8")


def _change_weight(folder: Path) -> None:
    program = torch.export.load(folder / "model.pt2")
    name = next(name for name in reversed(program.state_dict) if name.endswith("bias"))
    with torch.no_grad():
        program.state_dict[name].add_(0.01)
    torch.export.save(program, folder / "model.pt2")


@pytest.mark.parametrize("change", [_change_vocabulary, _change_scaler, _change_weight])
def test_a_change_is_found_by_its_hash_and_by_the_golden_rows(
    bundle: Path, tmp_path: Path, change: object
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    change(folder)  # type: ignore[operator]
    done = alone(folder, "--check")
    assert done.returncode == 1
    assert "has changed" in done.stderr
    files = json.loads((folder / "manifest.json").read_text())
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    (folder / "manifest.json").write_text(json.dumps(hashes))
    done = alone(folder, "--check")
    assert done.returncode == 1
    assert "row 0: " in done.stderr or "logit is" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price,age\n1,2\n", "column views is missing"),
        ("a,b\n1,2,3\n", "2 cells are needed"),
        ("a,b\n1\n", "2 cells are needed"),
        (None, "column price: could not convert string to float: 'cheap'"),
    ],
)
def test_what_cannot_be_scored_is_named(
    finished: FinishedRun, bundle: Path, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "rows.csv"
    if text is None:
        finished.test.head(3).assign(price="cheap").to_csv(path, index=False)
    else:
        path.write_text(text)
    done = alone(bundle, path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
