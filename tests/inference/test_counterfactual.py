"""Counterfactuals: verified by scoring the changed raw rows, and as small as brute force finds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from raw_clicks import FinishedRun
from test_recommend import by_hand, lists
from torch import Tensor

from glassrec.__main__ import main
from glassrec.data.planted import MAIN, PAIRS, Planted
from glassrec.inference.counterfactual import (
    CounterfactualSearch,
    below,
    list_counterfactuals,
    row_counterfactuals,
)
from glassrec.inference.list_inputs import CandidateItems, UserRows, with_context
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.ranking import Ranker, best
from glassrec.inference.row_changes import in_words, masks_of, smallest_set
from glassrec.inference.row_files import Place
from glassrec.inference.rows import encode_frame
from small_run import QUICK


@pytest.mark.parametrize("seed", range(20))
def test_a_set_is_as_small_as_brute_force_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    gains = torch.from_numpy(random.normal(0.2, 1, 6))
    pairs = torch.from_numpy(random.normal(0, 1, (6, 6)))
    start = random.uniform(0, 6)

    def margin(sets: Tensor) -> Tensor:
        on = sets.double()
        return start - on @ gains - ((on @ pairs) * on).sum(1)

    sizes = [
        len(each)
        for count in range(1, 5)
        for each in combinations(range(6), count)
        if float(margin(masks_of([each], 6))) < 0
    ]
    found = smallest_set(margin, random.permutation(6).tolist(), 6, 4)
    if found is None:
        assert not sizes
        return
    places, smallest = found
    assert float(margin(masks_of([places], 6))) < 0
    assert smallest
    assert len(places) == min(sizes)


def test_many_changes_are_tried_in_the_order_alone() -> None:
    def margin(sets: Tensor) -> Tensor:
        return 2.5 - sets[:, 500:].sum(1)

    found = smallest_set(margin, [*range(999, -1, -1)], 1000, 4)
    assert found == ((999, 998, 997), False)
    assert smallest_set(margin, [*range(1000)], 1000, 4) is None
    assert smallest_set(margin, [], 1000, 4) is None


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


def test_planted_counterfactuals_change_active_columns_and_few(planted: OpenedRun) -> None:
    frame, _ = Planted(rows=3000, users=30, items=20).generate()
    rows = encode_frame(planted, frame.drop(columns="click"))
    likely = torch.nonzero(planted.model.predict(rows.batch)[:, 0] > 0).flatten()[:100]
    rows = encode_frame(planted, frame.drop(columns="click").iloc[likely.numpy()])
    found = [each for each in row_counterfactuals(planted, rows) if each is not None]
    assert len(found) >= 0.95 * len(likely)
    active = {*MAIN, *(name for pair in PAIRS for name in pair)}
    assert np.mean([bool(active & {*each.names}) for each in found]) >= 0.95

    search, random = CounterfactualSearch(planted, "trained", 0, 4), np.random.default_rng(0)
    orders, lengths = search.orders(rows), []
    for row in range(len(likely)):
        case = below(rows.batch.slice(row, row + 1), 0.0)
        changes = search.columns(rows, row, case, orders[row])
        lengths.append(
            [
                _greedy(
                    lambda sets, case=case, changes=changes: case.margin(changes(case.batch, sets)),
                    order,
                    orders.shape[1],
                )
                for order in (changes.order, random.permutation(changes.order).tolist())
            ]
        )
    by_attribution, at_random = np.mean(lengths, 0)
    print(f"changes by attribution {by_attribution:.2f}, at random {at_random:.2f}")
    assert by_attribution < at_random


def _greedy(margin: Callable[[Tensor], Tensor], order: list[int], size: int) -> int:
    """How many changes of an order it takes."""
    prefixes = [tuple(order[: 1 + count]) for count in range(len(order))]
    hits = (margin(masks_of(prefixes, size)) < 0).nonzero().flatten().tolist()
    return hits[0] + 1 if hits else len(order) + 1
