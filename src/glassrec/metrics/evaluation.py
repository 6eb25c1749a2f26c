"""The settings of an evaluation beyond the metrics that every run has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge


@dataclass(frozen=True)
class Evaluation:
    """Further metrics on validation and test, before and after pruning.

    Args:
        k: places of a list that HR, NDCG and recall count, beside 10 (and 100 for retrieval).
        extra: GAUC, MRR and MAP of users; with full lists, coverage and novelty of the first k.
        full_ranking: whether held-out items are also ranked among all items new to their users.
        segments: columns, `user_activity` or `item_popularity`, by which quality is divided.
    """

    k: Sequence[Annotated[int, Ge(1)]] = ()
    extra: bool = False
    full_ranking: bool = False
    segments: Sequence[str] = ()

    @property
    def ks(self) -> list[int]:
        """All places that lists count."""
        return sorted({TOP, *self.k})

    def adds(self, metric: str) -> bool:
        """Whether a metric is one of these: `full/ndcg@5`, `gauc`; no end of an interval is."""
        *groups, last = metric.split("/")
        name, _, place = last.partition("@")
        further = name in ("gauc", "mrr", "map", "coverage", "novelty") or "full" in groups
        return not last.endswith(("_low", "_high")) and (further or place in map(str, self.k))


DEFAULT = Evaluation()

TOP = 10
"""How many places of a list are shown and counted, unless others are asked for."""
