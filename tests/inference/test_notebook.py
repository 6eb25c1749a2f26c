"""A run in Python: frames in, and predictions and explanations in the user's values out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from raw_clicks import FinishedRun, new_rows

import glassrec
from glassrec.artifacts.file_list import ATTRIBUTIONS
from glassrec.explain.methods.coalitions import Shapley
from glassrec.inference.reasons import reason_columns


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
