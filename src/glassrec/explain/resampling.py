"""Random weights of rows that follow from a row's number alone.

So a bootstrap can be taken while rows stream by, in any order and in chunks of any size, and a row
weighs the same wherever it is seen.
"""

from __future__ import annotations

from functools import cache
from math import exp, factorial

import torch
from torch import Tensor


def poisson(rows: Tensor, draws: int, seed: int) -> Tensor:
    """How often each draw of a streaming bootstrap takes each row: Poisson(1), (draws, B) float64.

    Counts of rows that are drawn with replacement are nearly independent and Poisson, and these
    need not know how many rows there are (Chamandy et al., "Estimating uncertainty for massive data
    streams", Google, 2012).

    Args:
        rows: (B,) int64, the number of each row.
        draws: how many draws.
        seed: other seeds give other counts.
    """
    counts = torch.bucketize(_random(rows, draws, seed), _poisson_bounds(rows.device), right=True)
    return counts.T.double()


def parts(rows: Tensor, count: int, seed: int) -> Tensor:
    """1 where a row is in a part, else 0: (count, B) float64. Parts are random and disjoint."""
    part = _random(rows, 1, seed)[:, 0] % count
    return (part == torch.arange(count, device=rows.device).unsqueeze(1)).double()


@cache  # copied to a device once
def _poisson_bounds(device: torch.device) -> Tensor:
    """The int32 numbers from which on a uniform one means at least 1, 2, ... events."""
    shares = [exp(-1) / factorial(events) for events in range(12)]
    below = torch.tensor(shares, dtype=torch.float64).cumsum(0)
    return ((below - 0.5) * 2**32).long().clamp_max(2**31 - 1).to(device, torch.int32)


def _random(rows: Tensor, count: int, seed: int) -> Tensor:
    """(B, count) int32, uniform: the SplitMix64 generator (Steele, Lea and Flood, OOPSLA 2014).

    It is a hash of a counter, so that any row's numbers can be had without those before it, on any
    device. Every 64 bits make two numbers.
    """
    steps = torch.arange(1, (count + 1) // 2 + 1, device=rows.device)
    start = _mix(rows + _mix(torch.full_like(rows, seed) + _STEP)).unsqueeze(1)
    return _mix(start + _STEP * steps).view(torch.int32)[:, :count].contiguous()


def _mix(bits: Tensor) -> Tensor:
    """Each bit of the result depends on all bits; int64 wraps around."""
    bits = (bits ^ _right(bits, 30)) * _FIRST
    bits = (bits ^ _right(bits, 27)) * _SECOND
    return bits ^ _right(bits, 31)


def _right(bits: Tensor, by: int) -> Tensor:
    """Shifted right without the sign."""
    return (bits >> by) & (2 ** (64 - by) - 1)


# The published constants, as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
