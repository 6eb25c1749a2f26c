"""A run in Python: frames in, and predictions and explanations in the user's values out."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from raw_clicks import ROLES, FinishedRun, clicks, new_rows

import glassrec
from glassrec.__main__ import main
from glassrec.artifacts.file_list import ATTRIBUTIONS
from glassrec.explain.methods.coalitions import Shapley
from glassrec.inference.reasons import reason_columns
from small_run import QUICK

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def run(finished: FinishedRun) -> glassrec.TrainedRun:
    return glassrec.load(finished.directory)


def test_predictions_are_the_runs_own(finished: FinishedRun, run: glassrec.TrainedRun) -> None:
    frame = finished.test.drop(columns="clicked")
    found = run.predict(frame, reasons=2)
    own = finished.logits[:, 0].double()
    assert found["logit"].tolist() == own.tolist()
    assert found["probability"].tolist() == own.sigmoid().tolist()
    assert found[[*frame]].equals(frame)
    assert [*found][len(frame.columns) :] == [
        "probability", "logit", "unseen", "reason_1", "reason_2"
    ]  # fmt: skip
    assert torch.equal(run.encode(frame).ids, finished.batch.ids)
    likely = found["probability"] >= 0.5
    unlikely = run.predict(frame, changes=2)["counterfactual"].str.startswith("no change: ")
    assert unlikely.equals(~likely)
    pruned = run.predict(frame, model="pruned")["logit"]
    assert (pruned - found["logit"]).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"column 'probability'.*rename"):
        run.predict(found)
    with pytest.raises(ValueError, match="no column 'city'"):
        run.predict(frame.drop(columns="city"))
    with pytest.raises(ValueError, match="no rows"):
        run.predict(frame.iloc[:0])


def test_attributions_are_the_runs_own_in_the_users_values(
    finished: FinishedRun, run: glassrec.TrainedRun
) -> None:
    own = next(run.opened.run.read(ATTRIBUTIONS).pieces())
    keys = finished.dataset.row_keys
    assert keys is not None
    lines = keys.loc[keys["split"] == "val", "row"].to_numpy()[own.rows.numpy()] - 1
    table = pd.read_parquet(finished.directory / ATTRIBUTIONS.name)
    assert table["@line"].tolist() == (lines + 1).tolist()
    assert table["@user"].tolist() == finished.log["user_id"].iloc[lines].tolist()
    assert table["@item"].tolist() == finished.log["sku"].iloc[lines].tolist()
    found = run.explain(finished.log.iloc[lines])
    assert found.features == own.features
    np.testing.assert_allclose(found.values.to_numpy(), own.values.numpy(), rtol=1e-4, atol=1e-6)
    assert found.data.loc[lines[3], "city"] == finished.log.loc[lines[3], "city"]
    assert found.data["price"].tolist() == finished.log.loc[lines, "price"].tolist()
    table = found.frame
    assert len(table) == len(lines) * len(own.features)
    first = table[table["row"] == lines[3]]
    assert first["attribution"].abs().is_monotonic_decreasing
    expected = found.values.loc[lines[3], first["feature"]]
    assert first["attribution"].tolist() == expected.tolist()
    values = first.set_index("feature")["value"]
    assert values.equals(found.data.loc[lines[3], first["feature"]].rename_axis("feature"))
    assert found.importance.index[0] == found.values.abs().mean().idxmax()
    assert run.importance.index[0] == own.importance().index[0]
    assert {"mean_abs", "mean"} <= {*run.importance}


def test_the_parts_of_a_complete_method_add_up_in_shap(
    finished: FinishedRun, run: glassrec.TrainedRun
) -> None:
    shap = pytest.importorskip("shap")
    frame = new_rows(finished.test).iloc[:8].reset_index(drop=True)
    logits = run.predict(frame)["logit"].to_numpy()
    found = run.explain(frame, method=Shapley()).to_shap()
    assert isinstance(found, shap.Explanation)
    assert abs(found.base_values + found.values.sum(1) - logits).max() < 1e-5
    at = found.feature_names.index("sku")
    assert found.data[1, at] == frame.loc[1, "sku"]
    assert found.display_data[1, at] == f"Item №{int(frame.loc[1, 'sku'][-4:])}"
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")

    shap.plots.waterfall(found[1], show=False)
    labels = [text.get_text() for text in plt.gcf().findobj(plt.Text)]
    assert any("Atlantis" in text or "Item №" in text for text in labels)
    plt.close("all")
    shap.plots.beeswarm(found, show=False)
    plt.close("all")


def test_a_notebook_shows_rows_with_their_values(
    finished: FinishedRun, run: glassrec.TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = new_rows(finished.test).iloc[:7].reset_index(drop=True)
    frame.loc[0, ["city", "brand", "device", "user_id", "sku"]] = "<b>Oz</b>"
    found = run.explain(frame)
    html = found._repr_html_()
    assert "&lt;b&gt;Oz&lt;/b&gt; (unknown)" in html
    assert "row 4" in html
    assert "2 more rows" in html
    drawn = {}
    monkeypatch.setattr(
        "glassrec.inference.explained_rows.waterfall",
        lambda labels, values, start, end, **words: drawn.update(
            labels=labels, values=values, start=start, end=end, **words
        ),
    )
    found.plot(3)
    reasons = reason_columns(run.opened, found.raw, found.attributions, 1)["reason_1"]
    strongest = int(np.abs(drawn["values"]).argmax())
    assert reasons[3].startswith(f"{drawn['labels'][strongest]}: ")
    assert drawn["end"] == pytest.approx(run.predict(frame)["logit"][3], abs=1e-5)
    with pytest.raises(IndexError, match="row 7: there are 7 rows"):
        found.plot(7)


def test_loading_needs_no_heavy_import() -> None:
    code = "import sys, glassrec; assert 'torch' not in sys.modules; glassrec.load"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_steps_of_a_history_have_values(sequential: FinishedRun) -> None:
    run = glassrec.load(sequential.directory)
    found = run.explain(sequential.test.iloc[-3:])
    steps = [name for name in found.features if name.startswith("history")]
    assert steps
    assert set(found.data[steps[-1]]) <= {*sequential.log["sku"], None}
    assert found.plot(-1)._repr_png_().startswith(b"\x89PNG")


def test_frames_of_other_types_and_orders(finished: FinishedRun, run: glassrec.TrainedRun) -> None:
    frame = finished.test.iloc[:20]
    typed = frame.assign(
        city=frame["city"].astype("category"),
        age=pd.to_numeric(frame["age"], errors="coerce"),
        tags=[cell.split("|") for cell in frame["tags"]],
    )[[*reversed(frame.columns)]]
    expected = run.predict(frame)["logit"].tolist()
    assert run.predict(typed)["logit"].tolist() == expected
    tags = run.explain(typed.iloc[:3]).data["tags"]
    assert tags.tolist() == frame["tags"].iloc[:3].tolist()


def test_recommendations_are_those_of_the_command(
    finished: FinishedRun, run: glassrec.TrainedRun, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    words = [
        f"run.dir={finished.directory}",
        f"out={out}",
        "k=4",
        "reasons=1",
        "context.city=Paris",
        "counterfactual=true",
        "changes=1",
    ]
    assert main(["recommend", *words, "user=u_00003"]) == 0
    own = pd.read_csv(out, keep_default_na=False)
    context = {"city": "Paris"}
    found = run.recommend(["u_00003", "u_00007"], k=4, reasons=1, changes=1, context=context)
    first = found[found["user"] == "u_00003"]
    assert first["item"].tolist() == own["item"].tolist()
    assert first["reason_1"].tolist() == own["reason_1"].tolist()
    assert first["counterfactual"].tolist() == own["counterfactual"].tolist()
    assert (first["logit"] - own["logit"]).abs().max() < 1e-6
    assert found["rank"].tolist() == [1, 2, 3, 4] * 2
    with pytest.raises(ValueError, match="no column 'citi'"):
        run.recommend("u_00003", context={"citi": "Paris"})


@pytest.mark.long
def test_fit_needs_no_files_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    frame = clicks(600)
    frame["clicked_at"] = pd.to_datetime(frame["clicked_at"])
    frame["age"] = pd.to_numeric(frame["age"], errors="coerce")
    small = ["trainer=cpu", "trainer.max_epochs=1", "prune/curves=none", "model.embedding=4"]
    words = [*small, "model.bottom=[8]", "model.top=[12,6]", *QUICK]
    run = glassrec.fit(frame, yaml.safe_load(ROLES), "dlrm", *words, quiet=True)
    assert capsys.readouterr().out == ""
    found = run.predict(frame.drop(columns="clicked"))
    assert found["probability"].between(0, 1).all()
    assert (found["unseen"] == "").mean() > 0.5
    assert run.explain(frame.iloc[:3]).features
    assert len([*tmp_path.iterdir()]) == 1
    del run
    gc.collect()
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(ValueError, match="'citi'"):
        glassrec.fit(frame, {"label": "clicked", "categorical": ("citi",)}, "dlrm", *words)
    with pytest.raises(ValueError, match="dlrn"):
        glassrec.fit(frame, yaml.safe_load(ROLES), "dlrn")
    with pytest.raises(ValueError, match="cannot be stored"):
        glassrec.fit(pd.DataFrame({"a": [1, "x"]}), {"label": "a"}, "dlrm")
    assert [*tmp_path.iterdir()] == []


def run_notebook(name: str, last: str, folder: Path) -> list[str]:
    """The words, between bars, that a last line prints behind the code of a notebook."""
    book = json.loads((DOCS / "notebooks" / name).read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    done = subprocess.run(
        [sys.executable, "-c", "\n\n".join([*code, last])], cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [*folder.iterdir()] == []
    return done.stdout.strip().split("|")


@pytest.mark.long
def test_the_notebook_of_the_docs_runs(tmp_path: Path) -> None:
    last = "print(run.importance.index[0], *best['rank'], *scored['unseen'], sep='|')"
    important, *others = run_notebook("own_data.ipynb", last, tmp_path)
    assert important in ("price", "city")
    assert others == ["1", "2", "3", "", "", "user=somebody; city=Atlantis"]


@pytest.mark.long
def test_the_study_of_a_dlrm_runs(tmp_path: Path) -> None:
    pytest.importorskip("shap")
    last = (
        "print(run.importance.index[0], sum(pruned.values()), certificate['rows_changed'],"
        "(both[0] - both[1]).abs().max() < 1e-5, *products['name'], sep='|')"
    )
    important, pruned, changed, equal, *products = run_notebook("dlrm_study.ipynb", last, tmp_path)
    assert important in ("I1", "C1")
    assert int(pruned) > 0
    assert (changed, equal) == ("0", "True")
    assert any("×" in name for name in products)
