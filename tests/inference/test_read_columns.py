"""Rows need the columns that the model reads, and no others."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from raw_clicks import FinishedRun
from test_predict import predict, scored
from test_recommend import lists, recommend

from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.predict import predictions
from glassrec.inference.rows import encode_frame, read_rows
from glassrec.models.dlrm import DLRM
from glassrec.models.lstm import LSTM
from glassrec.models.ncf import NeuMF

SIDE = ["brand", "tags", "price"]


@pytest.fixture(scope="module")
def neumf(finished: FinishedRun) -> OpenedRun:
    """A run of clicks whose model reads the user and the item alone."""
    opened = OpenedRun.open(finished.directory)
    opened.__dict__["model"] = NeuMF(opened.schema).eval()
    return opened


def test_a_model_of_user_and_item_reads_two_columns(
    finished: FinishedRun, neumf: OpenedRun, tmp_path: Path
) -> None:
    own = neumf.model.predict(finished.batch)[:, 0].double().tolist()
    two = finished.test[["sku", "user_id"]]
    odd = two.assign(price="cheap", city="Atlantis", age=999)  # which the model does not read
    for frame in (finished.test, two, odd):
        frame.to_csv(tmp_path / "rows.csv", index=False)
        (rows,) = read_rows(neumf, tmp_path / "rows.csv")
        found = predictions(neumf, rows)
        assert found["logit"].tolist() == own
        assert (found["unseen"] == "").all()
        assert [*rows.values] == ["user_id", "sku"]
    with pytest.raises(ValueError, match=r"no column 'sku'; did you mean 'skus'"):
        encode_frame(neumf, two.rename(columns={"sku": "skus"}))


def test_columns_of_the_item_come_from_the_catalogue(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = finished.logits[:, 0].double().tolist()
    for absent in (SIDE, ["price"], ["tags", "brand"]):
        rows = finished.test.drop(columns=[*absent, "clicked", "title", "clicked_at"])
        assert scored(finished, rows, tmp_path)["logit"].tolist() == own
    reasons = scored(finished, rows, tmp_path, "attributions=true")
    everything = scored(finished, finished.test, tmp_path, "attributions=true")
    values = reasons.filter(like="attribution/")
    assert values.equals(everything.filter(like="attribution/"))
    rows.iloc[:3].assign(sku=["sku-0001", "sku-0002", "new"]).to_csv(tmp_path / "new.csv")
    capsys.readouterr()
    (tmp_path / "out.csv").unlink()
    assert predict(finished, tmp_path / "new.csv", f"out={tmp_path / 'out.csv'}") == 1
    message = capsys.readouterr().err
    assert "new.csv, line 4: the catalogue has no item 'new'" in message
    assert "columns brand and tags" in message
    assert not (tmp_path / "out.csv").exists()
    rows.drop(columns="sku").to_csv(tmp_path / "new.csv")
    assert predict(finished, tmp_path / "new.csv") == 1
    assert "new.csv, line 1: no column 'sku'" in capsys.readouterr().err


def test_a_history_takes_the_place_of_the_user(sequential: FinishedRun) -> None:
    opened = OpenedRun.open(sequential.directory)
    assert isinstance(opened.model, LSTM)
    items = sequential.log["sku"].unique()[:9]
    past = ["|".join(items[:k]) for k in range(9)]
    frame = pd.DataFrame({"sku": items[::-1], "history": past})
    whole = sequential.test.iloc[:9].drop(columns=SIDE).assign(**frame.to_dict("list"))
    side = sequential.log.drop_duplicates("sku").set_index("sku")[SIDE]
    whole = whole.join(side, on="sku")
    found, expected = (encode_frame(opened, each).batch for each in (frame, whole))
    assert opened.model.predict(found).tolist() == opened.model.predict(expected).tolist()
    assert found.history.any()
    with pytest.raises(ValueError, match="no column 'user_id'"):
        encode_frame(opened, frame.drop(columns="history"))


def test_a_model_without_a_past_needs_none(sequential: FinishedRun) -> None:
    opened = OpenedRun.open(sequential.directory)
    opened.__dict__["model"] = DLRM(opened.schema, 4, [8], [12, 6]).eval()
    frame = sequential.test.iloc[:9]
    rows = encode_frame(opened, frame.drop(columns=["clicked_at", *SIDE]))
    own = sequential.batch.slice(0, 9)
    assert opened.model.predict(rows.batch).tolist() == opened.model.predict(own).tolist()


def test_lists_need_the_context_that_the_model_reads(
    finished: FinishedRun, sequential: FinishedRun, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = lists(sequential, tmp_path, "user=nobody")
    assert len(found) == 10
    assert "context" not in found
    assert recommend(sequential, "user=nobody", "context.city=Paris") == 2
    assert "the model reads no column 'city'" in capsys.readouterr().err
    assert recommend(finished, "user=nobody") == 1
