"""Every user beside every item: the largest change of a logit, and the lists that stay the same.

The vectors of users and of items pass `score` apart for as long as its operations are affine in
them, so that the first layer of a tower is computed once a user and once an item, not once a pair.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.artifacts import AllPairs
from glassrec.data.dataset import Dataset
from glassrec.data.decoding import raw_texts
from glassrec.models.base import Inputs, Recommender

NUMBERS, TOP = 1 << 21, 10
"""How many activations of a layer are computed at once, 16 MB; and the length of the lists."""


class PairSum(Tensor):
    """A tensor (U · I, ...) as the sum of one of each user (U, ...) and one of each item (I, ...).

    Affine maps and `_MOVING` operations act on both; all others get the tensor itself.
    """

    parts: tuple[Tensor, Tensor]

    def __new__(cls, users: Tensor, items: Tensor) -> PairSum:
        """A tensor of no shape of its own."""
        self = users.new_empty(0, device="meta").as_subclass(cls)
        self.parts = users, items
        return self

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if func is F.linear:
            x, weight, bias = (*args, *kwargs.values(), None)[:3]
            return PairSum(F.linear(x.parts[0], weight, bias), F.linear(x.parts[1], weight))
        if name in _MOVING or (name == "add" and all(isinstance(x, PairSum) for x in args)):
            users, items = (func(*_each(args, side), **kwargs) for side in (0, 1))
            if isinstance(users, Tensor):
                return PairSum(users, items)
            return tuple(map(PairSum, users, items))
        return func(*_each(args, None), **kwargs)

    def whole(self) -> Tensor:
        """(U · I, ...)."""
        return (self.parts[0].unsqueeze(1) + self.parts[1]).flatten(0, 1)


_MOVING = ("unbind", "flatten", "tensor_split", "split", "index_select", "cat", "__getitem__")


def _each(value: Any, side: int | None) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_each(element, side) for element in value)
    if not isinstance(value, PairSum):
        return value
    return value.whole() if side is None else value.parts[side]


class _Scorer:
    """The logits of a model that reads a user and an item."""

    def __init__(self, model: Recommender) -> None:
        self.model, self.sides, self.apart = model, list[Tensor](), False
        for name in (str(model.schema.user), str(model.schema.item)):
            table = model.table.vectors(name)
            self.sides.append(table.new_zeros(len(table), 2, model.width))
            self.sides[-1][:, model.schema.field_index(name)] = table
        few = self.sides[0][:2]
        plain, same, self.apart = self.logits(few), False, True
        with suppress(Exception):  # some other `score` may do with rows what parts do not allow
            same = torch.allclose(self.logits(few), plain)
        self.apart = same

    def logits(self, users: Tensor) -> Tensor:
        """(U, I, K) from the vectors of users (U, 2, E)."""
        items, fields = self.sides[1], PairSum(users, self.sides[1])
        none = users.new_zeros(len(users) * len(items), 0)
        dense = PairSum(users[:, 0, :0], items[:, 0, :0])
        inputs = Inputs(dense, fields, none.unsqueeze(2), none)
        found = self.model.task_logits(inputs if self.apart else Inputs(*_each([*inputs], None)))
        return cast(Tensor, _each(found, None)).view(len(users), len(items), -1)


@torch.no_grad()
def all_pairs(large: Recommender, small: Recommender, dataset: Dataset) -> AllPairs:
    """The comparison of both models, in float64 and evaluation mode, on every user and item.

    Unseen ids are among the pairs, and not in the lists. Of items with equal logits the first is
    ranked first; the items of a user's past are ranked, too.
    """
    both = _Scorer(large), _Scorer(small)
    users, items = map(len, both[0].sides)
    at_once = max(1, NUMBERS // (items * large.width))
    worst, same = (-1.0, 0, 0), torch.zeros(2)
    kinds = [target.kind for target in large.schema.targets]
    task = kinds.index("retrieval") if "retrieval" in kinds else 0
    for start in range(0, users, at_once):
        before, after = (each.logits(each.sides[0][start : start + at_once]) for each in both)
        difference = (before - after).abs().amax(2).nan_to_num(inf)
        user, item = divmod(int(difference.argmax()), items)
        worst = max(worst, (difference[user, item].item(), start + user, item))
        lists = [_top(scores[start == 0 :, 1:, task]) for scores in (before, after)]
        equal = [a == b for a, b in (lists, [each.sort(1).values for each in lists])]
        same += torch.stack([each.all(1).sum() for each in equal]).cpu()
    names = list[str]()
    for field, place in zip((large.schema.user, large.schema.item), worst[1:], strict=True):
        ids = torch.tensor([[dataset.schema.unseen_id(str(field)) + place]])
        names += raw_texts(dataset, str(field), ids, ids >= 0).tolist()
    order, members = (same / max(1, users - 1)).tolist()
    return AllPairs(users, items, worst[0], names[0], names[1], members, order)


def _top(scores: Tensor) -> Tensor:
    """(U, k): the places of the `TOP` highest scores (U, n), of equal ones the first."""
    values, places = scores.topk(min(TOP + 1, scores.shape[1]))
    tied = (values.diff() == 0).any(1)
    whole = scores[tied].sort(dim=1, descending=True, stable=True).indices
    places[tied] = whole[:, : places.shape[1]]
    return places[:, :TOP]
