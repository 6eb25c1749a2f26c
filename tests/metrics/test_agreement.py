"""Agreement of the first places against loops over lists, and against all orders of ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassrec.data.schema import Target
from glassrec.metrics.agreement import agreement, shared_top


def _slow(before, after, lists, k):
    """List by list; scores are all different."""
    shares = []
    for name in set(lists.tolist()):
        rows = [row for row in range(len(lists)) if lists[row] == name]
        if len(rows) > k:
            large, small = (sorted(rows, key=lambda row: -s[row])[:k] for s in (before, after))
            shares.append(len({*large} & {*small}) / k)
    return sum(shares) / len(shares)


def _scores(count, seed=0):
    rng = np.random.default_rng(seed)
    before = rng.normal(size=count)
    return before, before + 0.7 * rng.normal(size=count)


def test_lists_of_any_size_agree_with_a_loop(pair_of):
    before, after = _scores(600)
    sizes = [1, 10, 11, 40, 200, 338]
    query = torch.arange(6).repeat_interleave(torch.tensor(sizes))
    truth = (torch.arange(600) == torch.searchsorted(query, query)).float()
    expected = _slow(before, after, query, 10)
    assert 0.2 < expected < 0.9
    found = agreement(pair_of(before, after, truth, query=query))
    assert found == {"top10_agreement": pytest.approx(expected, abs=1e-12)}


def test_without_lists_the_rows_of_a_known_user_are_one_and_without_users_all_are(pair_of):
    before, after = _scores(300, 1)
    users = torch.tensor(np.random.default_rng(2).integers(0, 12, 300))
    truth = np.zeros(300)
    found = agreement(pair_of(before, after, truth, users=users))
    known = (users > 0).numpy()
    expected = _slow(before[known], after[known], users[known], 10)
    assert found["top10_agreement"] == pytest.approx(expected, abs=1e-12)
    found = agreement(pair_of(before, after, truth))
    expected = _slow(before, after, torch.zeros(300), 10)
    assert found["top10_agreement"] == pytest.approx(expected, abs=1e-12)


def test_where_no_list_has_more_than_ten_there_is_nothing_to_tell(pair_of):
    before, after = _scores(60)
    users = torch.arange(60) // 10 + 1
    assert agreement(pair_of(before, after, np.zeros(60), users=users)) == {}


def test_equal_models_agree_though_scores_are_tied():
    score = torch.tensor(np.random.default_rng(3).integers(0, 3, 400))
    lists = torch.arange(400) // 20
    assert shared_top(score, score, lists, 10, seed=0) == 1


def test_ties_favour_no_row():
    """One model ranks rows as they come, the other does not rank: they agree by chance."""
    lists = torch.arange(2000 * 20) // 20
    tied, by_place = torch.zeros(len(lists)), -(torch.arange(len(lists)) % 20).double()
    for before, after in ((tied, by_place), (tied, -by_place)):
        assert shared_top(before, after, lists, 10, seed=1) == pytest.approx(0.5, abs=0.01)


def test_each_task_has_its_own(pair_of):
    clicks, stars = _scores(100), _scores(100, 5)[0]
    logits = [np.column_stack([click, stars]) for click in clicks]
    truth = np.zeros((100, 2))
    found = agreement(pair_of(*logits, truth, Target("click"), Target("stars", "rating")))
    assert found["stars/top10_agreement"] == 1
    assert found["click/top10_agreement"] < 1
