"""The differences of the logits of two models on all rows, which processes share by chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.processes import gather, share
from glassrec.prune.guarantees.ranges import logits


class LogitDifferences:
    """|Δlogit| of K tasks, in the precision of the models; each process holds those of its share.

    `counts` are the rows of each split, `largest` (K,) the largest differences, NaN where there is
    one, and `size` (K,) the largest |logit| of the large model that is finite.
    """

    def __init__(
        self, large: Recommender, small: Recommender, rows: Mapping[str, Iterable[Batch]]
    ) -> None:
        tasks, counts = len(large.schema.targets), dict.fromkeys(rows, 0)
        self._parts = list[Tensor]()
        largest, size = torch.zeros(2, tasks, dtype=torch.float64)
        for split, batches in rows.items():
            for batch in share(batches):
                there = batch.to(large.device)
                before = logits(large, there)
                self._parts.append((before - logits(small, there)).abs().cpu())
                counts[split] += batch.rows
                largest = largest.maximum(self._parts[-1].amax(0))
                size = size.maximum(before.abs().nan_to_num(0, 0, 0).amax(0).cpu())
        each = gather((counts, largest, size))
        self.counts = {split: sum(one[split] for one, _, _ in each) for split in rows}
        self.largest = torch.stack([one for _, one, _ in each]).amax(0)
        self.size = torch.stack([one for _, _, one in each]).amax(0)

    def changed(self, tolerances: Tensor) -> int:
        """The rows with a difference above the tolerance (K,) of its task; NaN counts as one."""
        own = (int((~(part <= tolerances)).any(1).sum()) for part in self._parts)
        return sum(gather(sum(own)))

    def p999(self) -> float:
        """The difference that 99.9 % of the rows do not exceed; a row has the largest of its tasks.

        NaN is the highest, as for `kthvalue`.
        """
        count = sum(self.counts.values())
        own = torch.empty(0, dtype=torch.float64)
        for part in self._parts:
            own = highest_permille(torch.cat([own, part.amax(1)]), count)
        return highest_permille(torch.cat(gather(own)), count)[-1].item()


def highest_permille(values: Tensor, count: int) -> Tensor:
    """The highest of `values` down to the one that 99.9 % of `count` numbers do not exceed.

    `values` (n,) are all of the numbers, or the highest of some of them.
    """
    places = count - ceil(0.999 * count) + 1
    return values.topk(min(places, len(values))).values
