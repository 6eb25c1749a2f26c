"""Metrics of retrieval: how well a model finds the items of its users among all known items.

All of it is in float64, users by the chunk; ties count in expectation over random order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.data.batch import Batch
from glassrec.data.catalogue import Catalogue
from glassrec.data.dataset import Dataset
from glassrec.metrics.evaluation import DEFAULT, Evaluation
from glassrec.metrics.grouped import grouped_metrics
from glassrec.models.base import Inputs, Recommender
from glassrec.models.retriever import as_retriever
from glassrec.progress import with_progress

PLACES = (10, 100)
"""How many places of a list count."""

SCORES_PER_CHUNK = 2**22
"""Pairs of user and item that are ranked at once: 32 MiB for a tensor of float64."""

EARLIER: dict[str, tuple[str, ...]] = {"train": (), "val": ("train",), "test": ("train", "val")}
"""The splits whose items are left out of the lists."""


class Users(NamedTuple):
    """The users of a split and the items to find for each of them, of n known items.

    A pair is the number `user * n + item`, where user is below U and item below n; pairs are sorted
    and distinct.
    """

    first: Tensor
    """(U,) the user's first row in the split"""
    wanted: Tensor
    """(P,) pairs to find"""
    hidden: Tensor
    """(H,) pairs of earlier splits, which are in no list"""
    counts: Tensor
    """(U,) how many there are to find, with those that training does not know"""


def each_user(
    model: Recommender, dataset: Dataset, name: str, task: int, *,
    further: Evaluation = DEFAULT, cells: int = SCORES_PER_CHUNK,
) -> dict[str, Tensor]:  # fmt: skip
    """`recall@k`, `ndcg@k` and `hr@k` (U,) for each k of `PLACES`, of users with items to find.

    Those of `further` come on top: other k, and with `extra` also `mrr` and `map`.

    A user's list is all items of the training data but those that the user has in an earlier split,
    in rows of target 1: in training, and when testing in validation, too. To find are the other
    items of the user in this split. An item unseen in training is in no list and so is missed. The
    query is that of the user's first row; a row of an unseen user is a user of its own.

    With h of a user's w items in the first k places, recall is h / w, HR whether h > 0, and NDCG
    the sum of 1 / log2(place + 1) over them, divided by its value where they come first. Only rows
    of 1 of the target `task` are to be found; `cells` pairs are ranked at once.

    Raises:
        ValueError: the model is no retriever, or there is nothing to find.
    """
    users, chunks = _scored(model, dataset, name, task, cells)
    found = []
    for start, scores in chunks:
        items, device = scores.shape[1], scores.device
        wanted = torch.zeros_like(scores, dtype=torch.bool)
        pairs = _within(users.wanted, start * items, start * items + scores.numel())
        wanted.view(-1)[pairs.to(device)] = True
        counts = users.counts[start : start + len(scores)].to(device)
        metrics = retrieval_metrics(scores, wanted, counts, sorted({*PLACES, *further.k}))
        if further.extra:
            shown = (scores > -torch.inf).cpu()
            rows = scores.cpu()[shown], wanted.cpu()[shown], shown.nonzero()[:, 0]
            means = grouped_metrics(*rows, counts.cpu())
            metrics |= {metric: means[metric][0] for metric in ("mrr", "map")}
        found.append({metric: each.cpu() for metric, each in metrics.items()})
    some = users.counts > 0
    return {metric: torch.cat([each[metric] for each in found])[some] for metric in found[0]}


def unseen_users(dataset: Dataset, name: str, task: int) -> Tensor:
    """(U,) bool: whether training lacks each of the users that `each_user` gives metrics of."""
    assert dataset.catalogue is not None, "retrieval is of a user's items"
    users = _users(dataset, dataset.catalogue, name, task)
    who, _ = known_pairs(dataset, dataset.catalogue, dataset.splits[name].batch.select(users.first))
    return (who < 0)[users.counts > 0]


def first_places(
    model: Recommender,
    dataset: Dataset,
    name: str,
    task: int,
    k: int,
    *,
    cells: int = SCORES_PER_CHUNK,
) -> Tensor:
    """(U, k) the numbers of the items in the first places of each user's list; see `each_user`.

    Equal logits stand in the order of the catalogue. All are −1 where a list has no more than k.
    """
    _, chunks = _scored(model, dataset, name, task, cells)
    found = []
    for _, scores in chunks:
        places = scores.sort(stable=True, dim=1, descending=True).indices[:, :k]
        enough = (scores > -torch.inf).sum(1, keepdim=True) > k
        found.append(places.where(enough, -1).cpu())
    return torch.cat(found)


def _scored(
    model: Recommender, dataset: Dataset, name: str, task: int, cells: int
) -> tuple[Users, Iterator[tuple[int, Tensor]]]:
    """The users, and all logits (C, n) from the first user of each chunk on; −inf is in no list."""
    catalogue = dataset.catalogue
    assert catalogue is not None, "retrieval is of a user's items"
    retriever = as_retriever(model)
    batch = dataset.splits[name].batch
    users = _users(dataset, catalogue, name, task)
    if not users.counts.any():
        raise ValueError(f"no user has an item in {name} that is not in an earlier split")
    training = model.training
    model.eval()
    queries = _vectors(model, retriever.query, batch.select(users.first))
    candidates = _vectors(model, retriever.candidate, _items(catalogue, batch))
    model.train(training)
    return users, _products(queries, candidates, users.hidden, max(1, cells // len(catalogue)))


def _products(
    queries: Tensor, candidates: Tensor, hidden: Tensor, chunk: int
) -> Iterator[tuple[int, Tensor]]:
    items = len(candidates)
    parts = ((min(chunk, len(queries) - at), at) for at in range(0, len(queries), chunk))
    for start in with_progress(parts, len(queries), unit="users"):
        scores = queries[start : start + chunk] @ candidates.T
        pairs = _within(hidden, start * items, start * items + scores.numel())
        scores.view(-1)[pairs.to(scores.device)] = -torch.inf
        yield start, scores


def _users(dataset: Dataset, catalogue: Catalogue, name: str, task: int) -> Users:
    batch = dataset.splits[name].batch
    row = torch.arange(batch.rows)
    who, items = known_pairs(dataset, catalogue, batch)
    keys, owner = who.where(who >= 0, -1 - row).unique(return_inverse=True)
    first = torch.full_like(keys, batch.rows).scatter_reduce_(0, owner, row, "amin")
    hidden = _hidden(dataset, catalogue, name, task, keys)
    asked = batch.targets[:, task] == 1
    wanted = (owner * len(catalogue) + items)[asked & (items >= 0)].unique()
    wanted = wanted[~torch.isin(wanted, hidden)]
    owners = torch.cat([wanted // len(catalogue), owner[asked & (items < 0)]])
    return Users(first, wanted, hidden, owners.bincount(minlength=len(keys)))


def _hidden(dataset: Dataset, catalogue: Catalogue, name: str, task: int, keys: Tensor) -> Tensor:
    """The sorted pairs of earlier splits, of rows of target 1; `keys` (U,) are the joint rows."""
    pairs = [_nameless(dataset, catalogue, len(keys))]
    for earlier in EARLIER[name]:
        batch = dataset.splits[earlier].batch
        who, items = known_pairs(dataset, catalogue, batch)
        at = torch.searchsorted(keys, who).clamp_(max=len(keys) - 1)
        there = (keys[at] == who) & (who >= 0) & (items >= 0) & (batch.targets[:, task] == 1)
        pairs.append(at[there] * len(catalogue) + items[there])
    return torch.cat(pairs).unique()


def _nameless(dataset: Dataset, catalogue: Catalogue, users: int) -> Tensor:
    """The pairs with the unseen id, which stands for many items where training has rare ones."""
    unseen = catalogue.rows[:, 0] == dataset.schema.unseen_id(dataset.schema.item or "")
    return (torch.arange(users).unsqueeze(1) * len(catalogue) + unseen.nonzero().T).flatten()


def known_pairs(dataset: Dataset, catalogue: Catalogue, batch: Batch) -> tuple[Tensor, Tensor]:
    """(N,) the users' joint rows and (N,) the items' numbers; −1 for unknown ones."""
    users, items = (batch.ids[:, at].long() for at in (catalogue.user, catalogue.columns[0]))
    schema = dataset.schema
    return (
        users.where(users != schema.unseen_id(schema.user or ""), -1),
        catalogue.numbers(items).where(items != schema.unseen_id(schema.item or ""), -1),
    )


def _items(catalogue: Catalogue, batch: Batch) -> Batch:
    """Rows of all n items; columns beside the item's are those of the batch's first row."""
    rows = batch.select(torch.zeros(len(catalogue), dtype=torch.long))
    catalogue.insert(rows, 0, torch.arange(len(catalogue)))
    return rows


@torch.no_grad()
def _vectors(
    model: Recommender, side: Callable[[Inputs], Tensor], batch: Batch, chunk: int = 16384
) -> Tensor:
    """(N, V) float64: the queries or candidates of any number of rows."""
    parts = [side(model.embed(part.to(model.device))) for part in batch.chunks(chunk)]
    vectors = torch.cat(parts)
    # Apple's GPUs know no float64.
    return (vectors.cpu() if vectors.device.type == "mps" else vectors).double()


def _within(pairs: Tensor, first: int, last: int) -> Tensor:
    """Those of sorted `pairs` that lie in [first, last), from 0."""
    start, stop = torch.searchsorted(pairs, torch.tensor([first, last])).tolist()
    return pairs[start:stop] - first


def retrieval_metrics(
    scores: Tensor, wanted: Tensor, counts: Tensor, places: Sequence[int] = PLACES
) -> dict[str, Tensor]:
    """The metrics (U,) of lists of `scores` (U, n) float64, in expectation over random ties.

    A score of −inf is in no list. `wanted` (U, n) are the items to be found, none of them at −inf;
    `counts` (U,) how many there are, with those that no list has; where it is 0, so is nothing.
    """
    items = scores.shape[1]
    ordered, order = scores.sort(1)
    below = F.pad(wanted.gather(1, order).double().cumsum(1), (1, 0))  # in the lowest 0, 1, ... n
    top = ordered.flip(1)[:, : max(places)].contiguous()
    low, high = (torch.searchsorted(ordered, top, right=right) for right in (False, True))
    tied = below.gather(1, high) - below.gather(1, low)
    chance = tied / (high - low)  # (U, K) that a place holds what is wanted
    gain = 1 / torch.arange(2, top.shape[1] + 2, dtype=top.dtype, device=top.device).log2()
    best = F.pad(gain.cumsum(0), (1, 0))
    metrics = {}
    for k in places:
        last = min(k, items) - 1
        hits = chance[:, :k].sum(1)
        metrics[f"recall@{k}"] = hits / counts
        metrics[f"ndcg@{k}"] = (chance * gain)[:, :k].sum(1) / best[counts.clamp(max=last + 1)]
        above = below[:, -1] - below.gather(1, high)[:, last]
        group = (high - low)[:, last]
        open_places = last + 1 - (items - high[:, last])
        one = _any_of(group, tied[:, last], open_places)
        metrics[f"hr@{k}"] = one.where(above == 0, 1)
    return metrics


def _any_of(group: Tensor, wanted: Tensor, drawn: Tensor) -> Tensor:
    """The chance that `drawn` of a `group` hold any of those `wanted`: hypergeometric."""

    def choices(size: Tensor) -> Tensor:  # log of size! / (size − drawn)!
        return torch.lgamma(size + 1) - torch.lgamma(size - drawn + 1)

    return 1 - (choices(group - wanted) - choices(group.double())).exp()
