"""Statistics over rows against pandas, intervals against their meaning, and how they stream."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import Tensor

from glassrec.explain.statistics import PARTS, RunningStatistics, part_weights, poisson_weights

INTERVALS = ["mean_abs_low", "mean_abs_high", "rank_low", "rank_high"]


def _spread(
    values: Tensor, draws: int = 200, seed: int = 0, chunk: int = 1_000_000
) -> RunningStatistics:
    spread = RunningStatistics(draws, seed)
    for part in values.split(chunk):
        spread.update(part.unsqueeze(0))
    return spread


def _normal(rows: int, scale: list[float], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, len(scale), generator=generator) * torch.tensor(scale)


def test_statistics_against_values_by_hand() -> None:
    values = torch.tensor([[1.0, 0, -2], [-1, 0, 4], [3, 0, 0]])
    expected = pd.DataFrame(
        {
            "mean_abs": [5 / 3, 0, 2],
            "max_abs": [3.0, 0, 4],
            "mean": [1.0, 0, 2 / 3],
            "cancellation": [1 - 3 / 5, 0, 1 - 2 / 6],
            "zero_share": [0, 1, 1 / 3],
            "negative_share": [1 / 3, 0, 1 / 3],
            "positive_share": [2 / 3, 0, 1 / 3],
            "rank": [2.0, 3, 1],
        }
    )
    frame = _spread(values, chunk=1).frame()
    assert tuple(frame) == RunningStatistics.COLUMNS
    pd.testing.assert_frame_equal(frame[list(expected)], expected)


def test_statistics_are_of_the_last_emission_but_the_largest_is_of_all() -> None:
    spread = RunningStatistics()
    spread.update(torch.tensor([[[9.0, 0], [0, 0]], [[1, 0], [-3, 0]]]))
    frame = spread.frame()
    assert frame["mean_abs"].tolist() == [2, 0]
    assert frame["mean"].tolist() == [-1, 0]
    assert frame["max_abs"].tolist() == [9, 0]
    assert frame["zero_share"].tolist() == [0, 1]


def test_without_draws_there_are_no_intervals_and_all_else_is_the_same() -> None:
    values = _normal(50, [1, 2, 3])
    without, drawn = _spread(values, draws=0), _spread(values)
    assert without.frame()[INTERVALS].isna().all(axis=None)
    rest = [name for name in RunningStatistics.COLUMNS if name not in INTERVALS]
    pd.testing.assert_frame_equal(without.frame()[rest], drawn.frame()[rest])
    assert without.stability == drawn.stability


def test_equal_units_share_the_best_of_their_ranks() -> None:
    frame = _spread(torch.tensor([[0.0, 2, 2, 1, 0]])).frame()
    assert frame["rank"].tolist() == [4, 1, 1, 3, 4]


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_results_do_not_depend_on_chunks_or_on_the_order_of_rows(chunk: int) -> None:
    values = _normal(100, [1, 1.1, 0, 3])
    whole = _spread(values)
    pd.testing.assert_frame_equal(_spread(values, chunk=chunk).frame(), whole.frame(), rtol=1e-12)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    shuffled = RunningStatistics()
    for index in order.split(chunk):
        shuffled.update(values[index].unsqueeze(0), index)
    pd.testing.assert_frame_equal(shuffled.frame(), whole.frame(), rtol=1e-12)
    assert shuffled.stability == pytest.approx(whole.stability, rel=1e-12)


def test_another_seed_draws_others() -> None:
    values = _normal(100, [1, 2])
    assert not np.allclose(_spread(values).bootstrap(), _spread(values, seed=1).bootstrap())
    assert np.array_equal(_spread(values).bootstrap(), _spread(values).bootstrap())


def test_a_stop_on_the_way_changes_nothing(tmp_path: Path) -> None:
    values = _normal(90, [1, 2, 0])
    first, never = _spread(values[:40], draws=20, seed=3), _spread(values, 20, 3, chunk=40)
    save_file(first.state(), tmp_path / "state.safetensors")
    again = RunningStatistics.from_state(load_file(tmp_path / "state.safetensors"))
    for part in values[40:].split(40):
        again.update(part.unsqueeze(0))
    pd.testing.assert_frame_equal(again.frame(), never.frame(), check_exact=True)
    assert again.stability == never.stability


def test_what_was_saved_stays_as_it_was() -> None:
    spread = _spread(_normal(10, [1, 2]))
    saved = spread.state()
    before = {name: tensor.clone() for name, tensor in saved.items()}
    spread.update(_normal(10, [1, 2], seed=1).unsqueeze(0))
    assert all(torch.equal(saved[name], before[name]) for name in before)
    assert not torch.equal(spread.state()["sums"], before["sums"])


def test_the_draws_are_those_of_a_bootstrap_by_hand() -> None:
    values = _normal(30, [1, 2]).double()
    counts = poisson_weights(torch.arange(30), 200, seed=0)
    by_hand = [np.average(values.abs(), axis=0, weights=count) for count in counts]
    np.testing.assert_allclose(_spread(values).bootstrap(), by_hand, rtol=1e-12)


def test_the_interval_has_the_width_of_the_normal_one() -> None:
    frame = _spread(_normal(4000, [1, 5]), draws=2000).frame()
    # |·| of a standard normal has the variance 1 − 2/π.
    error = np.array([1, 5]) * np.sqrt((1 - 2 / np.pi) / 4000)
    width = (frame["mean_abs_high"] - frame["mean_abs_low"]) / error
    np.testing.assert_allclose(width, 2 * 1.96, rtol=0.07)


def test_the_interval_holds_the_true_mean_in_95_of_100_cases() -> None:
    # 400 units with the same true mean of |·|, so each is a case.
    frame = _spread(_normal(500, [1.0] * 400), draws=200).frame()
    true = np.sqrt(2 / np.pi)
    held = ((frame["mean_abs_low"] < true) & (true < frame["mean_abs_high"])).mean()
    assert 0.91 < held < 0.98


def test_ranks_are_sure_where_units_differ_and_unsure_where_they_do_not() -> None:
    frame = _spread(_normal(300, [9, 1, 1, 0])).frame()
    assert frame["rank_low"].tolist() == [1, 2, 2, 4]
    assert frame["rank_high"].tolist() == [1, 3, 3, 4]


def test_one_row_has_itself_as_interval() -> None:
    frame = _spread(torch.tensor([[2.0, -1]])).frame()
    assert frame[["mean_abs_low", "mean_abs_high"]].to_numpy().tolist() == [[2, 2], [1, 1]]


def test_stability_is_the_mean_rank_correlation_of_disjoint_parts() -> None:
    values = _normal(400, [1, 1.1, 1.2, 1.3, 1.4])
    members = part_weights(torch.arange(400), PARTS, seed=0).bool()
    found = [values[part].abs().mean(0) for part in members]
    expected = np.mean([stats.spearmanr(a, b).statistic for a, b in combinations(found, 2)])
    assert _spread(values, chunk=33).stability == pytest.approx(expected)


def test_stability_is_high_for_units_apart_and_none_for_units_alike() -> None:
    assert _spread(_normal(2000, [1, 2, 4, 8])).stability == 1
    alike = _spread(_normal(2000, [1.0] * 300)).stability
    assert abs(alike) < 0.1
    assert np.isnan(_spread(torch.zeros(50, 3)).stability)


def test_counts_are_poisson_and_independent() -> None:
    counts = poisson_weights(torch.arange(2000), 100, seed=5)
    assert counts.shape == (100, 2000)
    observed = np.bincount(counts.long().flatten(), minlength=6)[:6]
    expected = stats.poisson(1).pmf(range(6)) * counts.numel()
    assert stats.chisquare([*observed, counts.numel() - observed.sum()],
                           [*expected, counts.numel() - expected.sum()]).pvalue > 0.01  # fmt: skip
    for between in (np.corrcoef(counts), np.corrcoef(counts.T[:200])):
        off = between[np.triu_indices_from(between, 1)]
        assert np.abs(off).max() < 5 * off.std()
    assert off.std() == pytest.approx(1 / np.sqrt(100), rel=0.05)


def test_parts_hold_each_row_once_and_are_of_like_size() -> None:
    members = part_weights(torch.arange(10_000), 10, seed=0)
    assert (members.sum(0) == 1).all()
    assert stats.chisquare(members.sum(1)).pvalue > 0.01


def test_counts_of_a_row_are_the_same_beside_any_others() -> None:
    rows = torch.tensor([5, 10**12, 0])
    counts = poisson_weights(rows, 7, seed=2)
    for at, row in enumerate(rows):
        assert torch.equal(poisson_weights(row[None], 7, seed=2)[:, 0], counts[:, at])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same() -> None:
    values = _normal(1000, [1, 2, 3])
    on_gpu = RunningStatistics()
    for part in values.cuda().split(300):
        on_gpu.update(part.unsqueeze(0))
    pd.testing.assert_frame_equal(on_gpu.frame(), _spread(values).frame(), rtol=1e-12)
    assert torch.equal(
        poisson_weights(torch.arange(99).cuda(), 9, 1).cpu(),
        poisson_weights(torch.arange(99), 9, 1),
    )
