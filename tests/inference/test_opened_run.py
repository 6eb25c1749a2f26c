"""A run opened from its directory alone gives back what training had in memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from raw_clicks import FinishedRun

from glassrec.artifacts.file_list import ATTRIBUTIONS, CATALOGUE, PRUNED, VOCABULARY, WEIGHTS
from glassrec.data.events import step_names, with_history
from glassrec.data.saved_encoder import describe_encoder
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.row_files import Place


def test_models_and_encoder_are_those_of_the_run(finished: FinishedRun, opened: OpenedRun) -> None:
    assert finished.dataset.encoder is not None
    assert describe_encoder(opened.encoder) == describe_encoder(finished.dataset.encoder)
    assert torch.equal(opened.model.predict(finished.batch), finished.logits)
    assert opened.pruned.parameter_count <= opened.model.parameter_count
    assert (opened.pruned.predict(finished.batch) - finished.logits).abs().max() < 1e-5


def test_items_have_their_names_and_sides(finished: FinishedRun, opened: OpenedRun) -> None:
    items, log = opened.items, finished.log.set_index("sku")
    assert (
        items.values[: items.known].tolist() == opened.encoder.vocabularies["sku"].values.tolist()
    )
    assert items.names_of(pd.Series(["sku-0003", "never"])).tolist() == ["Item №3", "never"]
    skus = pd.Series(["sku-0007", "sku-0001"])
    place = Place(Path("rows"), lines=range(2))
    rows = items.side_of(skus, ["brand", "tags", "price"], place)
    for sku, row in zip(skus, rows.itertuples(), strict=True):
        own = log.loc[sku].iloc[0]
        assert (row.brand, row.tags, row.price) == (own["brand"], own["tags"], own["price"])


def test_interactions_and_last_rows_are_those_of_the_log(
    finished: FinishedRun, opened: OpenedRun
) -> None:
    for user in finished.log["user_id"].unique()[:5]:
        own = finished.log[finished.log["user_id"] == user]
        log, last = opened.interactions.frame, opened.last_rows
        assert log[log["user"] == user]["item"].astype(str).tolist() == own["sku"].tolist()
        (context,) = last.context[last.users == user][["city", "device", "views"]].to_numpy()
        assert context.tolist() == own.iloc[-1][["city", "device", "views"]].tolist()


def test_histories_are_those_that_training_had(
    sequential: FinishedRun, opened_sequence: OpenedRun
) -> None:
    columns, log = opened_sequence.columns, sequential.log
    times = pd.to_datetime(log["clicked_at"], utc=True)
    length = opened_sequence.schema.history_length
    found = opened_sequence.interactions.histories(log["user_id"], times, length)
    frame = log.assign(clicked_at=times.astype("int64"))
    expected = with_history(frame, columns, length)[step_names(length)]
    assert found.astype(object).equals(expected.astype(object))
    now = opened_sequence.interactions.histories(pd.Index(["nobody", "u_00007"]), None, length)
    assert now.iloc[0].isna().all()
    assert now.iloc[1].tolist() == log[log["user_id"] == "u_00007"]["sku"].tolist()[-length:]


def test_explanations_are_those_of_the_run(finished: FinishedRun, opened: OpenedRun) -> None:
    own = next(opened.run.read(ATTRIBUTIONS).pieces())
    explainer = opened.explainer(finished.dataset.validation.batch.select(own.rows))
    found = explainer.explained(opened.explain_settings.method, torch.arange(len(own.rows)))
    assert found.features == own.features
    torch.testing.assert_close(found.values, own.values)
    torch.testing.assert_close(found.baseline_logits, own.baseline_logits)


@pytest.mark.parametrize("file", [VOCABULARY, WEIGHTS, PRUNED, CATALOGUE])
def test_a_missing_or_changed_file_is_refused(
    finished: FinishedRun, tmp_path: Path, file: object
) -> None:
    name = file.name  # type: ignore[attr-defined]
    shutil.copytree(finished.directory, tmp_path / "run")

    def use() -> None:
        opened = OpenedRun.open(tmp_path / "run")
        assert opened.pruned is not opened.model
        assert len(opened.items)

    content = (tmp_path / "run" / name).read_bytes()
    (tmp_path / "run" / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{name} has changed"):
        use()
    (tmp_path / "run" / name).unlink()
    stage = "prune" if file is PRUNED else "train"
    with pytest.raises(ValueError, match=f"{name} is missing; glassrec {stage} makes it"):
        use()


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run directory"):
        OpenedRun.open(tmp_path)
