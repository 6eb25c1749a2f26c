"""Held-out items among all items, after leave-one-out; coverage and novelty of the first places.

Sampled candidates can order models differently than all items do (Krichene and Rendle 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import nan

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.catalogue import Catalogue
from glassrec.data.dataset import Dataset
from glassrec.metrics.retrieval import known_pairs
from glassrec.models.base import Recommender
from glassrec.progress import with_progress

IDS_PER_CHUNK = 2**22
"""Ids of pairs of user and item that are scored at once: 32 MiB."""


def full_ranks(
    model: Recommender, dataset: Dataset, name: str, task: int, k: int, ids: int = IDS_PER_CHUNK
) -> tuple[Tensor, Tensor, Tensor]:
    """The places of L held-out items among all items of the training data.

    Left out are the items that the user has in rows of target 1 of any split, but the held-out one,
    and the id of items too rare for one of their own. Other columns are those of the held-out row.
    Given are `higher` and `ties` (L,), see `place_metrics`, and the numbers of the first items of
    each list (L, k), −1 where it has fewer.
    """
    split, catalogue = dataset.splits[name], dataset.catalogue
    assert catalogue is not None, "ranking lists are of a user's items"
    held = split.batch.select((split.batch.targets[:, task] == 1).nonzero().flatten().cpu())
    users, own = known_pairs(dataset, catalogue, held)
    alone = model.predict(held)[:, task]  # the score of an item that training does not know
    found = []
    width = held.ids.shape[1] + held.history.shape[1]
    scored = _scores(model, catalogue, held, task, max(1, ids // width // len(catalogue)))
    seen = _seen(dataset, catalogue, task)
    hidden = catalogue.rows[:, 0] == dataset.schema.unseen_id(dataset.schema.item or "")
    for start, scores in scored:
        part = slice(start, start + len(scores))
        item, best = own[part], alone[part, None]
        lists = (item >= 0).nonzero().flatten()
        at = lists, item[lists]
        best[lists, 0] = scores[at]
        scores[_pairs(seen, users[part], len(catalogue))] = -torch.inf
        scores[:, hidden] = -torch.inf
        scores[at] = -torch.inf
        higher, ties = (scores > best).sum(1), (scores == best).sum(1)
        scores[at] = best[lists, 0]
        top = scores.topk(min(k, len(catalogue)))
        found.append((higher, ties, top.indices.where(top.values > -torch.inf, -1)))
    higher, ties, places = (torch.cat(parts) for parts in zip(*found, strict=True))
    return higher, ties, places


def _scores(
    model: Recommender, catalogue: Catalogue, held: Batch, task: int, chunk: int
) -> Iterator[tuple[int, Tensor]]:
    """All logits (C, n) of some held-out rows with each item in the place of theirs."""
    n = len(catalogue)
    parts = ((min(chunk, held.rows - at), at) for at in range(0, held.rows, chunk))
    for start in with_progress(parts, held.rows, unit="users"):
        few = held.slice(start, start + chunk)
        rows = Batch(*(column.repeat_interleave(n, 0) for column in few))
        catalogue.insert(rows, 0, torch.arange(n).repeat(few.rows))
        yield start, model.predict(rows)[:, task].view(few.rows, n)


def _seen(dataset: Dataset, catalogue: Catalogue, task: int) -> Tensor:
    """The sorted pairs `user * n + item` of rows of target 1 of all splits."""
    pairs = [catalogue.chosen]
    for split in (dataset.validation, dataset.test):
        positive = (split.batch.targets[:, task] == 1).nonzero().flatten().cpu()
        users, items = known_pairs(dataset, catalogue, split.batch.select(positive))
        pairs.append((users * len(catalogue) + items)[(users >= 0) & (items >= 0)])
    return torch.cat(pairs).unique()


def _pairs(seen: Tensor, users: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The rows and the items of the pairs of some users (C,); unseen users (−1) have none."""
    start, stop = (torch.searchsorted(seen, (users + more) * n) for more in (0, 1))
    counts = (stop - start).where(users >= 0, 0)
    rows = torch.arange(len(users)).repeat_interleave(counts)
    offset = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
    return rows, seen[start[rows] + offset] % n


def coverage_and_novelty(
    places: Tensor, catalogue: Catalogue, ks: Sequence[int]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """`coverage@k`, the share of all items that any list shows, and `novelty@k` of each list (L,).

    Novelty is the mean of −log2 of each shown item's share of the training rows, in bits (Vargas
    and Castells 2011). `places` (L, K) are the first items of each list; −1 is none.
    """
    bits = -(catalogue.counts / catalogue.counts.sum()).double().log2()
    coverage, novelty = {}, {}
    for k in ks:
        first = places[:, :k]
        shown = first >= 0
        coverage[f"coverage@{k}"] = len(first[shown].unique()) / len(catalogue)
        sums = bits[first.clamp(min=0)].where(shown, 0).sum(1)
        novelty[f"novelty@{k}"] = sums / shown.sum(1).where(shown.any(1), nan)
    return coverage, novelty
