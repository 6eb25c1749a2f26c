"""The differences of the logits of two models, and the summary of them, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.prune.guarantees.ranges import logits


class Compared(NamedTuple):
    """Some rows: their |Δlogit| (n, K) and the largest |logit| (K,) that is finite; on the CPU."""

    differences: Tensor
    size: Tensor


def compared(
    large: Recommender, small: Recommender, batches: Iterable[Batch]
) -> Iterator[Compared]:
    """The comparison of each batch, in the precision of the models."""
    for batch in batches:
        there = batch.to(large.device)
        before = logits(large, there)
        difference = (before - logits(small, there)).abs()
        size = before.abs().nan_to_num(0, 0, 0).amax(0)
        yield Compared(difference.cpu(), size.cpu())


def p999(parts: Iterable[Tensor], count: int) -> float:
    """The smallest of `count` values that 99.9 % of them do not exceed: of the highest, the last.

    NaN is the highest, as for `kthvalue`.
    """
    places = count - ceil(0.999 * count) + 1
    highest = torch.empty(0, dtype=torch.float64)
    for part in parts:
        together = torch.cat([highest, part])
        highest = together.topk(min(places, len(together))).values
    return highest[-1].item()
