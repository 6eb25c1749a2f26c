"""The paired bootstrap against resampling row by row, scikit-learn's weights, and known truths.

Agreement of the first places against loops over lists, and against all orders of ties.
"""

from __future__ import annotations

from math import erf

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from glassrec.data.schema import Target
from glassrec.metrics import bootstrap as drawing
from glassrec.metrics.bootstrap import bootstrap, mean
from glassrec.metrics.metadata import primary_metrics
from glassrec.metrics.model_pair import agreement, metric_changes, shared_top
from glassrec.metrics.pointwise import AUROC
from glassrec.metrics.quality import quality


@pytest.mark.parametrize("levels", [3, 20, 10**6])
def test_weighted_areas_are_those_of_scikit_learn(levels):
    rng = np.random.default_rng(levels)
    label = rng.random(300) < 0.3
    score = rng.integers(0, levels, 300) + 0.2 * levels * label
    weights = rng.poisson(1, (7, 300))
    area = AUROC(torch.tensor(score), torch.tensor(label)).weighted()
    found = area(torch.tensor(weights).double())
    expected = [sk.roc_auc_score(label, score, sample_weight=each) for each in weights]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_an_area_without_a_row_of_a_class_is_not_defined():
    of = AUROC(torch.tensor([1.0, 2, 3]), torch.tensor([True, False, False])).weighted()
    assert of(torch.tensor([[0.0, 1, 1], [1, 0, 0]])).isnan().all()
    alone = AUROC(torch.tensor([1.0, 2]), torch.tensor([False, False])).weighted()
    assert alone(torch.ones(1, 2)).isnan().all()


def test_counts_of_a_draw_are_poisson():
    (weights,) = drawing._weights(1000, 1000, 0)
    counts = torch.bincount(weights.flatten().long()).double() / weights.numel()
    expected = [0.36788, 0.36788, 0.18394, 0.06131, 0.01533, 0.00307]
    assert counts[:6].tolist() == pytest.approx(expected, abs=0.002)
    assert np.corrcoef(weights[:2]).round(1).tolist() == [[1, 0], [0, 1]]


def test_a_seed_fixes_the_draws_and_few_at_once_are_as_good(monkeypatch):
    change = {"mean": mean(torch.linspace(-1, 2, 50, dtype=torch.float64) ** 3)}
    whole = bootstrap(change, 50, seed=3)
    assert bootstrap(change, 50, seed=3) == whole
    assert bootstrap(change, 50, seed=4) != whole
    monkeypatch.setattr(drawing, "WEIGHTS_PER_CHUNK", 200)
    assert bootstrap(change, 50, seed=3)["mean"] == pytest.approx(whole["mean"], abs=1e-12)


def _drawn(rng, units, of):
    """The middle 95 % of a number of rows that are drawn with replacement, one draw at a time."""
    draws = [of(rng.integers(0, units, units)) for _ in range(2000)]
    return np.percentile(draws, [2.5, 97.5])


def _agrees(found, name, change, interval):
    """Two bootstraps agree up to a share of the interval's width, which their draws leave open."""
    low, high = interval
    assert found[f"{name}_change"] == pytest.approx(change, abs=1e-6), name
    assert found[f"{name}_change_low"] == pytest.approx(low, abs=0.1 * (high - low)), name
    assert found[f"{name}_change_high"] == pytest.approx(high, abs=0.1 * (high - low)), name


def _area(truth, score):
    """scikit-learn's is slow where it is asked for thousands of times."""
    positive, negative = score[truth], np.sort(score[~truth])
    return np.searchsorted(negative, positive).mean() / len(negative)


def test_changes_of_clicks_and_their_intervals_are_those_of_drawn_rows(pair_of):
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.3
    before = rng.normal(size=400) + 1.5 * truth
    after = 0.8 * before + 0.4 * rng.normal(size=400)
    pair = pair_of(before, after, truth)
    found = metric_changes(pair)
    old, new = (quality(model, pair.dataset, "test") for model in (pair.large, pair.small))
    metrics = {
        "auroc": _area,
        "accuracy": lambda y, s: ((s >= 0) == y).mean(),
        "log_loss": lambda y, s: np.logaddexp(0, np.where(y, -s, s)).mean(),
    }
    assert metrics.keys() == {*primary_metrics(old), "log_loss"}
    for name, of in metrics.items():

        def change(rows, of=of):
            return of(truth[rows], after[rows]) - of(truth[rows], before[rows])

        _agrees(found, name, new[name] - old[name], _drawn(rng, 400, change))
    assert len(found) == 9


def test_ranking_lists_are_drawn_whole(pair_of):
    rng = np.random.default_rng(1)
    sizes = rng.integers(5, 40, 150)
    query = torch.tensor(np.repeat(np.arange(150), sizes))
    truth = np.concatenate([np.eye(size)[0] for size in sizes])
    before = rng.normal(size=len(truth)) + 1.2 * truth
    after = before + 0.7 * rng.normal(size=len(truth))
    pair = pair_of(before, after, truth, query=query)
    found = metric_changes(pair)
    old, new = (quality(model, pair.dataset, "test") for model in (pair.large, pair.small))
    assert {n.removesuffix("_change") for n in found if n.endswith("_change")} == {
        *primary_metrics(old)
    }  # fmt: skip
    hits = []
    for score in (before, after):
        lists = np.split(score, sizes.cumsum()[:-1])
        hits.append(np.array([(each[1:] > each[0]).sum() < 10 for each in lists], float))
    for name in ("hr@10", "ndcg@10"):
        assert found[f"{name}_change"] == pytest.approx(new[name] - old[name], abs=1e-12)
    change = hits[1] - hits[0]
    interval = _drawn(rng, 150, lambda lists: change[lists].mean())
    _agrees(found, "hr@10", change.mean(), interval)


def test_changes_of_ratings_and_their_intervals_are_those_of_drawn_rows(pair_of):
    rng = np.random.default_rng(2)
    truth = rng.integers(1, 6, 300)
    before = truth + rng.normal(size=300)
    after = before + 0.3 * rng.normal(size=300)
    pair = pair_of(before, after, truth, Target("stars", "rating"))
    found = metric_changes(pair)
    errors = np.stack([after, before]) - truth
    for name, of in {
        "rmse": lambda errors: np.sqrt(np.square(errors).mean(1)),
        "mae": lambda errors: np.abs(errors).mean(1),
    }.items():

        def change(rows, of=of):
            return np.subtract(*of(errors[:, rows]))

        _agrees(found, name, change(np.arange(300)), _drawn(rng, 300, change))


def test_equal_models_change_nothing(pair_of):
    rng = np.random.default_rng(3)
    score, truth = rng.normal(size=60), rng.random(60) < 0.5
    assert set(metric_changes(pair_of(score, score, truth)).values()) == {0.0}


def test_tasks_are_told_apart_by_name(pair_of):
    rng = np.random.default_rng(4)
    truth = np.column_stack([rng.random(60) < 0.5, rng.integers(1, 6, 60)])
    targets = Target("click"), Target("stars", "rating")
    found = metric_changes(
        pair_of(rng.normal(size=(60, 2)), rng.normal(size=(60, 2)), truth, *targets)
    )
    assert {name.rpartition("/")[0] for name in found} == {"click", "stars"}
    assert "stars/rmse_change_low" in found


def test_one_class_leaves_the_area_undefined_and_the_rest_defined(pair_of):
    found = metric_changes(pair_of([1, 2, 3], [3, 2, 0.5], [0, 0, 0]))
    undefined = {name for name, value in found.items() if value != value}
    assert undefined == {"auroc_change", "auroc_change_low", "auroc_change_high"}
    assert found["accuracy_change"] == 0


def test_intervals_cover_the_truth_as_often_as_they_claim(monkeypatch):
    """Two scores of normals that share most of their noise: their areas are known."""
    monkeypatch.setattr(drawing, "DRAWS", 200)
    rng = np.random.default_rng(5)
    label = torch.arange(200) < 80
    truth = (erf(0.8 / 2) - erf(1 / 2)) / 2
    covered = 0
    for _ in range(400):
        noise = rng.normal(size=200)
        other = 0.8 * noise + 0.6 * rng.normal(size=200)
        before = AUROC(torch.tensor(noise) + label, label).weighted()
        after = AUROC(torch.tensor(other) + 0.8 * label, label).weighted()
        change = {"auroc": lambda weights, a=after, b=before: a(weights) - b(weights)}
        _, low, high = bootstrap(change, 200, seed=0)["auroc"]
        covered += low <= truth <= high
    assert 0.92 < covered / 400 < 0.98


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


def test_hit_rate_and_gain_have_the_interval_of_their_mean(pair_of):
    """Against the normal approximation of the mean over lists, and a plain bootstrap of numpy."""
    generator = np.random.default_rng(0)
    lists, length = 400, 30
    query = torch.arange(lists).repeat_interleave(length)
    score = generator.normal(size=lists * length)
    truth = np.zeros(lists * length)
    truth[::length] = 1
    score[::length] += 1
    pair = pair_of(score, score, truth, query=query)
    found = quality(pair.large, pair.dataset, "test", groups=True)
    ranks = (score.reshape(lists, length) > score[::length, None]).sum(1)
    values = {"hr@10": ranks < 10, "ndcg@10": (ranks < 10) / np.log2(ranks + 2)}
    for name, each in values.items():
        assert found[name] == pytest.approx(each.mean())
        means = each[generator.integers(0, lists, (4000, lists))].mean(1)
        width = 2 * 1.96 * each.std() / lists**0.5
        for end, share in (("low", 0.025), ("high", 0.975)):
            value = pytest.approx(np.quantile(means, share), abs=0.1 * width)
            assert found[f"{name}_{end}"] == value, (name, end)
        reach = found[f"{name}_high"] - found[f"{name}_low"]
        assert reach == pytest.approx(width, rel=0.15)
    assert not [n for n in quality(pair.large, pair.dataset, "test") if n.startswith("hr@10_")]
