"""Recommenders that can search all items at once."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from glassrec.models.base import Inputs, Recommender


class Retriever(Recommender):
    """A recommender that can look for an item among all items at once.

    The logit of a retrieval task is `query · candidate`, up to a constant that all rows share, so
    that all pairs of rows are one matrix product. A candidate depends on the item's side alone.
    """

    @abstractmethod
    def query(self, inputs: Inputs) -> Tensor:
        """(B, V): the query vector of each row's user."""

    @abstractmethod
    def candidate(self, inputs: Inputs) -> Tensor:
        """(B, V): the vector of each row's item."""


def as_retriever(model: Recommender) -> Retriever:
    """The model itself; ValueError if it is no retriever."""
    if not isinstance(model, Retriever):
        raise ValueError(
            f"{type(model).__name__} cannot retrieve: it has no vectors of users and of items "
            "apart; take another model (two_tower), or data without a retrieval task"
        )
    return model
