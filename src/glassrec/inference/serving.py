"""Lists for one user at a time, in milliseconds: all that does not depend on the user is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import OUTPUTS
from glassrec.explain.explainer import Explainer
from glassrec.explain.methods import Method
from glassrec.explain.methods.deeplift import DeepLift
from glassrec.explain.methods.dlrm_deeplift import DLRMDeepLift
from glassrec.inference.list_inputs import context_columns, rankable, typed_rows, with_context
from glassrec.inference.ranking import Ranker
from glassrec.inference.reasons import reasons_in_words, value_text
from glassrec.inference.recommend import check_context
from glassrec.inference.rows import RawRows
from glassrec.inference.users_and_items import plain_index
from glassrec.models.dlrm import DLRM
from glassrec.models.item_scorer import DLRMItemScorer, ItemScorer


class BestItems(NamedTuple):
    """The k best items for one user, best first."""

    places: Tensor
    """(k,) among all items"""
    logits: Tensor
    """(k,)"""
    attributions: Tensor
    """(k, P) of the logits to the features, against the explainer's baseline"""


class ItemLists:
    """Scores n encoded items for one encoded user, and explains the best ones.

    The explainer's task ranks the items. Without a `method`, attributions are by DeepLIFT, which
    takes one backward pass and is complete up to rounding, where it has a rule for all functions of
    the model; else they are by the explainer's own method.
    """

    def __init__(self, explainer: Explainer, items: Batch, method: Method | None = None) -> None:
        self.explainer, self.model = explainer, (model := explainer.model)
        dlrm = model if type(model) is DLRM and model.rectified else None
        if dlrm is not None and not model.schema.item_dense:
            self.scorer: ItemScorer = DLRMItemScorer(dlrm, items)
        else:
            self.scorer = ItemScorer(model, items)
        self.all = torch.arange(items.rows)
        self.method = method or (DeepLift() if dlrm is None else DLRMDeepLift())
        try:
            self.method.check(model, explainer.feature_mask, explainer.bases.rows)
        except ValueError:
            if method is not None:
                raise
            self.method = explainer.settings.method

    @torch.no_grad()
    def scores(self, user: Batch, places: Tensor) -> Tensor:
        """The logits (N,) of the items at `places` (N,) for one user (1 row)."""
        return self.scorer.logits(self.model.embed(user), places)[:, self.explainer.task]

    def best(self, user: Batch, k: int, places: Tensor) -> BestItems:
        """The k best of the items at `places` (N,); of equal ones, the first comes first."""
        logits, order = self.scores(user, places).sort(descending=True, stable=True)
        places, explainer = places[order[:k]], self.explainer
        with torch.no_grad():
            rows = self.scorer.inputs(self.model.embed(user), places)
        view = explainer.view_of(rows, 0, explainer.feature_mask)
        found = explainer.averaged(self.method.attribute(view, explainer.seed))
        return BestItems(places, logits[:k], found.detach())


@dataclass(frozen=True)
class Server:
    """The lists of a finished run for one user at a time; see `TrainedRun.serve`."""

    ranker: Ranker
    method: Method | None = None

    @cached_property
    def lists(self) -> ItemLists:
        """The same on tensors: the candidates, encoded and embedded."""
        run, items, model = self.ranker.run, self.ranker.items, self.ranker.model
        explainer = run.explainer(
            items.slice(0, 1), model, run.schema.targets[self.ranker.target].name
        )
        return ItemLists(explainer, items, self.method)

    def user(self, user: Any, context: Mapping[str, Any] | None = None) -> RawRows:
        """One encoded user, for any number of lists, with the context as in `recommend`."""
        run, given = self.ranker.run, {name: [str(cell)] for name, cell in (context or {}).items()}
        check_context({name: text for name, (text,) in given.items()}, context_columns(run))
        fixed = typed_rows(run, given, "the context").frame if given else pd.DataFrame()
        some = typed_rows(run, {rankable(run)[0]: [str(user)]}, "the user")
        return self.ranker.user_rows(with_context(run, some, fixed), some.place)

    def recommend(
        self, user: RawRows, k: int = 10, *, reasons: int = 3, items: Sequence[Any] | None = None
    ) -> pd.DataFrame:
        """The best items: user, rank, item, name, `probability` and the like, logit, reasons.

        Args:
            user: see `user`.
            k: the length of the list; it is shorter where fewer candidates are left.
            reasons: how many columns of reasons an item gets.
            items: raw values of candidates, such as a search has found; all if None.

        Raises:
            ValueError: one of the items is no candidate.
        """
        ranker, (user_name, item_name) = self.ranker, rankable(self.ranker.run)
        places, own = self._places(items), user.values[user_name]
        places = places[ranker.allowed(own)[0, places]]
        found = self.lists.best(user.batch, k, places)
        listed = ranker.candidates.frame[item_name].iloc[found.places.numpy()]
        target, logits = ranker.run.schema.targets[ranker.target], found.logits.double()
        shown = logits.sigmoid() if target.kind == "click" else logits
        columns = {
            "user": own.iloc[0], "rank": range(1, 1 + len(listed)), "item": listed.array,
            "name": ranker.run.items.names_of(listed), OUTPUTS[target.kind]: shown.numpy(),
            "logit": logits.numpy(),
        }  # fmt: skip
        texts = self._texts(user, found.places.tolist())
        return pd.DataFrame(columns).join(reasons_in_words(found.attributions, texts, reasons))

    def _places(self, items: Sequence[Any] | None) -> Tensor:
        """(N,) where the items are among the candidates."""
        if items is None:
            return self.lists.all
        found = self._candidates.get_indexer(pd.Index(items))
        if (found < 0).any():
            wrong = items[int((found < 0).argmax())]
            raise ValueError(f"items: {wrong!r} is no candidate of this server; leave it out")
        return torch.from_numpy(found)

    @cached_property
    def _candidates(self) -> pd.Index:
        return plain_index(self.ranker.candidates.frame[rankable(self.ranker.run)[1]])

    def _texts(self, user: RawRows, places: list[int]) -> dict[str, Callable[[int], str]]:
        """For each feature, the text of its value beside each listed item; see `value_text`."""
        run, kept = self.ranker.run, self._item_texts

        def beside(name: str) -> Callable[[int], str]:
            if name in kept:
                return lambda row: kept[name](places[row])
            text = value_text(run, user, name)
            return lambda row: text(0)

        return {name: beside(name) for name in self.lists.explainer.feature_mask.features}

    @cached_property
    def _item_texts(self) -> dict[str, Callable[[int], str]]:
        schema, rows = self.ranker.run.schema, self.ranker.item_rows
        side = {*schema.item_side, *schema.item_dense} & {*rows.values}
        return {name: value_text(self.ranker.run, rows, name) for name in side}
