"""Counterfactuals: verified by scoring the changed raw rows, and as small as brute force finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from raw_clicks import FinishedRun
from test_predict import predict, scored
from test_recommend import by_hand, lists
from torch import Tensor

from glassrec.__main__ import main
from glassrec.data.planted import MAIN, PAIRS, Planted
from glassrec.data.schema import Target
from glassrec.inference.counterfactual import (
    CounterfactualSearch,
    list_counterfactuals,
    row_counterfactuals,
)
from glassrec.inference.list_inputs import CandidateItems, UserRows, with_context
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.ranking import Ranker, best
from glassrec.inference.row_changes import RowChanges, in_words, smallest_sets
from glassrec.inference.row_files import Place
from glassrec.inference.rows import encode_frame
from glassrec.models.dlrm import DLRM
from small_run import QUICK


@pytest.mark.parametrize("seed", range(20))
def test_sets_are_as_small_as_brute_force_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    gains = torch.from_numpy(random.normal(0.2, 1, 6))
    pairs = torch.from_numpy(random.normal(0, 1, (6, 6)))
    starts = torch.from_numpy(random.uniform(0, 6, 5))

    def margin(rows: Tensor, sets: Tensor) -> Tensor:
        on = sets.double()
        return starts[rows].unsqueeze(1) - on @ gains - ((on @ pairs) * on).sum(2)

    order = torch.from_numpy(np.array([random.permutation(6) for _ in starts]))
    counts = torch.full((len(starts),), 6)
    found, masks, complete = together = smallest_sets(margin, order, counts, 4)
    alone = [
        smallest_sets(
            lambda _, sets, row=row: margin(torch.tensor([row]), sets), order[[row]],
            torch.tensor([6]), 4,
        )
        for row in range(len(starts))
    ]  # fmt: skip
    for row in range(len(starts)):
        assert all(torch.equal(a[row], b[0]) for a, b in zip(together, alone[row], strict=True))
        sizes = [
            len(each)
            for count in range(1, 5)
            for each in combinations(range(6), count)
            if float(margin(torch.tensor([row]), of_places(each))) < 0
        ]
        assert bool(found[row]) == bool(sizes)
        if sizes:
            assert float(margin(torch.tensor([row]), masks[row].view(1, 1, -1))) < 0
            assert complete[row]
            assert int(masks[row].sum()) == min(sizes)


def of_places(places: Sequence[int]) -> Tensor:
    """(1, 1, 6): one set."""
    return torch.zeros(1, 1, 6, dtype=torch.bool).index_fill(2, torch.tensor(places), value=True)


def test_many_changes_are_tried_in_the_order_alone() -> None:
    def margin(rows: Tensor, sets: Tensor) -> Tensor:
        return 2.5 - sets[..., 500:].sum(2)

    order = torch.stack([torch.arange(999, -1, -1), torch.arange(1000)])
    found, sets, complete = smallest_sets(margin, order, torch.tensor([1000, 1000]), 4)
    assert found.tolist() == [True, False]
    assert sets[0].nonzero().flatten().tolist() == [997, 998, 999]
    assert not complete.any()
    none, _, _ = smallest_sets(margin, order[:, :0], torch.tensor([0, 0]), 4)
    assert not none.any()


def changed(frame: pd.DataFrame, changes: tuple[str, ...]) -> pd.DataFrame:
    """A raw row after changes such as `city = Paris`."""
    frame = frame.astype(object)
    for each in changes:
        name, value = each.split(" = ")
        frame[name] = "" if value == "(empty)" else value.replace("−", "-")
    return frame


def test_changed_raw_rows_fall_below_the_threshold(
    finished: FinishedRun, opened: OpenedRun
) -> None:
    frame = finished.test.iloc[:40].reset_index(drop=True)
    rows = encode_frame(opened, frame)
    before = opened.model.predict(rows.batch)[:, 0].sigmoid()
    threshold = float(before.median()) - 0.02
    found = row_counterfactuals(opened, rows, threshold)
    checked = 0
    for row, answer in enumerate(found):
        if before[row] < threshold:
            assert answer is not None
            assert answer.changes == ()
            assert answer.outcome == pytest.approx(float(before[row]))
        elif answer is not None:
            assert answer.outcome < threshold
            assert 1 <= len(answer.changes) <= 4
            if all(" = " in each for each in answer.changes):
                own = encode_frame(opened, changed(frame.iloc[[row]], answer.changes))
                after = float(opened.model.predict(own.batch)[0, 0].double().sigmoid())
                assert after == pytest.approx(answer.outcome, abs=1e-3)
                checked += 1
    assert checked > 5


def test_predict_adds_counterfactuals(
    finished: FinishedRun, opened: OpenedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = finished.test.iloc[:30].drop(columns="price").reset_index(drop=True)
    words = ("counterfactual=true", "changes=2", "threshold=.45", "chunk=11")
    found = scored(finished, frame, tmp_path, *words)
    rows = encode_frame(opened, frame)
    expected = row_counterfactuals(opened, rows, 0.45, 2)
    assert found["counterfactual"].tolist() == [in_words(each, 2) for each in expected]
    counts = ["" if each is None else str(len(each.changes)) for each in expected]
    assert found["counterfactual_changes"].astype(str).tolist() == counts
    below = found["probability"] < 0.45
    assert below.equals(found["counterfactual"].str.startswith("no change: "))
    assert "predict   price of the items from the run's catalogue" in capsys.readouterr().out
    assert predict(finished, tmp_path / "new.csv", "counterfactual=true", "threshold=2") == 1
    assert "threshold=2.0 of 'clicked'" in capsys.readouterr().err
    assert predict(finished, tmp_path / "new.csv", "counterfactual=true", "threshold=x") == 2
    assert "threshold: 'x'" in capsys.readouterr().err
    half = row_counterfactuals(opened, rows)
    assert half == row_counterfactuals(opened, rows, 0.5)


def test_rows_that_nothing_changes_have_none(opened: OpenedRun, finished: FinishedRun) -> None:
    rows = encode_frame(opened, finished.test.iloc[:3])
    assert row_counterfactuals(opened, rows, threshold=1e-9) == [None] * 3
    assert in_words(None) == "none with up to 4 changes"
    with pytest.raises(ValueError, match=r"threshold=1\.5"):
        row_counterfactuals(opened, rows, threshold=1.5)


def test_a_list_without_some_past_items_lacks_the_item(sequential: FinishedRun) -> None:
    opened = OpenedRun.open(sequential.directory)
    with torch.no_grad():  # one epoch has hardly taught the model to read a history
        for weight in opened.model.parameters():
            weight *= 6
    users = sequential.log["user_id"].unique()[:8]
    some = UserRows(pd.DataFrame({"user_id": users}), Place(Path("users"), lines=range(8)))
    ranker = Ranker(opened, CandidateItems.of_catalogue(opened), seen="keep")
    context = with_context(opened, some, pd.DataFrame())
    scores = ranker.scores(ranker.users(context, some.place))
    ranking = best(scores, 3)
    rows = ranker.rows_of(context, ranking)
    found = list_counterfactuals(ranker, rows, ranking, scores, 3)
    checked = 0
    for row, answer in enumerate(found):
        if answer is None or not answer.changes[0].startswith("without "):
            continue
        user, item = rows.frame[["user_id", "sku"]].iloc[row]
        own = sequential.log[sequential.log["user_id"] == user]["sku"]
        logits = by_hand(sequential, opened, user, past=[*own[~own.isin(answer.names)]])
        assert 1 + int((logits > logits[item]).sum()) == answer.outcome > 3
        assert answer.changes == tuple(f"without Item №{int(name[4:])}" for name in answer.names)
        assert by_hand(sequential, opened, user).index.get_loc(item) < 3
        checked += 1
    assert checked > 3


def test_many_histories_at_once_score_as_each_alone(
    sequential: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = OpenedRun.open(sequential.directory)
    rows = encode_frame(opened, sequential.test.iloc[:9])
    search = CounterfactualSearch(opened, "trained", 0, 4)
    past = search.past_items(rows.values, rows.batch, search.orders(rows))
    assert past is not None
    sets = torch.tensor([[False] * 4, [True] + [False] * 3, [True, False, True, False]])
    alone = past.logits(torch.arange(9), sets.expand(9, -1, -1))
    own = opened.model.predict(rows.batch)
    torch.testing.assert_close(alone[:, 0], own)
    assert (alone[:, 1:] != own.unsqueeze(1)).any()
    for _ in range(2):
        for row in range(9):
            others = rows.batch._replace(history=rows.batch.history[[row]].expand(9, -1))
            together = past.of_row(row, others).logits(torch.tensor([0]), sets.unsqueeze(0))
            torch.testing.assert_close(together[0, :, row], alone[row, :, 0])
        monkeypatch.setattr(torch, "vmap", fail)  # as for an operation that it does not know


def fail(*_: object, **__: object) -> None:
    raise RuntimeError


def test_an_estimate_falls_below_the_mean_rating(finished: FinishedRun) -> None:
    opened = OpenedRun.open(finished.directory)
    encoder, target = opened.encoder, Target("clicked", "rating", 3.0, 2.0)
    schema = replace(encoder.schema, targets=(target,))
    opened.__dict__["encoder"] = replace(encoder, schema=schema)
    torch.manual_seed(5)  # some estimates above 3, and some below
    opened.__dict__["model"] = model = DLRM(schema, 4, [8], [12, 6]).eval()
    rows = encode_frame(opened, finished.test.iloc[:20])
    estimates = model.predict(rows.batch)[:, 0]
    found = row_counterfactuals(opened, rows)
    assert found == row_counterfactuals(opened, rows, 3.0)
    assert any(estimates >= 3)
    for estimate, answer in zip(estimates.tolist(), found, strict=True):
        if answer is not None:
            assert (answer.changes == ()) == (estimate < 3)
            assert answer.outcome < 3


def test_a_list_of_another_context_lacks_the_item(
    finished: FinishedRun, opened: OpenedRun, tmp_path: Path
) -> None:
    users = finished.log["user_id"].unique()[:6]
    pd.DataFrame({"user_id": users}).to_csv(tmp_path / "users.csv", index=False)
    found = lists(
        finished, tmp_path, f"users={tmp_path / 'users.csv'}", "seen=keep", "k=2",
        "counterfactual=true", "changes=2",
    )  # fmt: skip
    checked = 0
    for row in found.itertuples():
        changes, _, rank = row.counterfactual.rpartition(": rank ")
        parts = changes.split(" and ")
        if not changes or not all(" = " in each for each in parts):
            continue
        context = dict(each.split(" = ") for each in parts)
        if {*context} & {"user_id", "brand", "tags", "price", "age"}:
            continue  # not the moment
        context = {k: float(v) if k == "views" else v for k, v in context.items()}
        logits = by_hand(finished, opened, row.user, **context)
        assert 1 + int((logits > logits[row.item]).sum()) == int(rank) > 2
        checked += 1
    assert checked or not found["counterfactual"].str.startswith(("city", "device", "views")).any()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> OpenedRun:
    """A DLRM that has learnt most of the planted effects."""
    directory = tmp_path_factory.mktemp("planted") / "run"
    words = ["data.rows=30000", "data.users=30", "data.items=20", "trainer=cpu",
             "trainer.max_epochs=3", "trainer.batch_size=128", "optimizer.lr=0.005",
             "explain.select.rows=50", "explain.method.steps=8", *QUICK[2:]]  # fmt: skip
    for stage in ("train", "explain"):
        assert main([stage, f"run.dir={directory}", *words]) == 0
    return OpenedRun.open(directory)


@pytest.mark.long
def test_planted_counterfactuals_change_active_columns_and_few(planted: OpenedRun) -> None:
    frame, _ = Planted(rows=3000, users=30, items=20).generate()
    rows = encode_frame(planted, frame.drop(columns="click"))
    likely = torch.nonzero(planted.model.predict(rows.batch)[:, 0] > 0).flatten()[:100]
    rows = encode_frame(planted, frame.drop(columns="click").iloc[likely.numpy()])
    found = [each for each in row_counterfactuals(planted, rows) if each is not None]
    assert len(found) >= 0.95 * len(likely)
    active = {*MAIN, *(name for pair in PAIRS for name in pair)}
    share = np.mean([bool(active & {*each.names}) for each in found])
    assert share >= 0.95

    search, random = CounterfactualSearch(planted, "trained", 0, 4), np.random.default_rng(0)
    changes = search.columns(rows.batch, search.orders(rows), lambda found: found[..., 0])
    orders = changes.order, torch.from_numpy(random.permuted(changes.order.numpy(), axis=1))
    by_attribution, at_random = (_greedy(changes, order) for order in orders)
    print(f"active columns in {share:.1%} of {len(found)}")
    print(f"changes by attribution {by_attribution:.2f}, at random {at_random:.2f}")
    assert by_attribution < at_random


def _greedy(changes: RowChanges, order: Tensor) -> float:
    """How many changes in an order (R, P) a row takes, on average."""
    prefixes = order.argsort(1).unsqueeze(1) <= torch.arange(order.shape[1]).unsqueeze(1)
    below = changes.logits(torch.arange(len(order)), prefixes)[..., 0] < 0
    return float((below.cumsum(1) == 0).sum(1).double().mean()) + 1
