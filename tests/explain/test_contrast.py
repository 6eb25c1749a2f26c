"""Differences between two selections, against a bootstrap by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from glassrec.explain.statistics import RunningStatistics, compare_selections, poisson_weights


def _spread(values: Tensor, rows: Tensor) -> RunningStatistics:
    spread = RunningStatistics()
    spread.update(values[rows].unsqueeze(0), rows)
    return spread


def _normal(rows: int, *scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, len(scale), generator=generator) * torch.tensor(scale)


def test_differences_and_their_intervals_against_numpy() -> None:
    values = _normal(60, 1, 2, 3).double()
    one, other = torch.arange(20, 60), torch.arange(40)
    frame = compare_selections("abc", _spread(values, one), _spread(values, other))
    frame = frame.set_index("player").loc[list("abc")]
    size, counts = values.abs().numpy(), poisson_weights(torch.arange(60), 200, 0).numpy()
    drawn = np.array(
        [
            np.average(size[one], axis=0, weights=count[one])
            - np.average(size[other], axis=0, weights=count[other])
            for count in counts
        ]
    )
    np.testing.assert_allclose(frame["difference"], size[one].mean(0) - size[other].mean(0))
    np.testing.assert_allclose(frame["mean_against"], values[other].mean(0))
    ends = np.quantile(drawn, [0.025, 0.975], axis=0, method="inverted_cdf")
    np.testing.assert_allclose(frame[["difference_low", "difference_high"]].T, ends)


def test_the_largest_difference_comes_first_and_ranks_are_of_each_selection() -> None:
    values = _normal(2000, 1, 5)
    values[1000:] *= torch.tensor([4.0, 0.2])
    late, early = _spread(values, torch.arange(1000, 2000)), _spread(values, torch.arange(1000))
    frame = compare_selections(["up", "down"], late, early)
    assert frame["player"].tolist() == ["down", "up"]
    assert frame["rank"].tolist() == [2, 1]
    assert frame["rank_against"].tolist() == [1, 2]
    assert frame["difference_high"][0] < 0 < frame["difference_low"][1]


def test_a_selection_does_not_differ_from_itself() -> None:
    values, rows = _normal(50, 1, 2), torch.arange(50)
    frame = compare_selections("ab", _spread(values, rows), _spread(values, rows))
    assert (frame[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)


def test_rows_of_both_selections_narrow_the_interval() -> None:
    values = _normal(2000, 1, 1)
    one, same, apart = torch.arange(1000), torch.arange(50, 1050), torch.arange(1000, 2000)
    widths = []
    for other in (same, apart):
        frame = compare_selections("ab", _spread(values, one), _spread(values, other))
        widths.append((frame["difference_high"] - frame["difference_low"]).mean())
    assert widths[0] == pytest.approx(widths[1] * np.sqrt(0.05), rel=0.25)
