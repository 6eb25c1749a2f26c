"""Retrieval as classification among the items of a batch (Yi et al., RecSys 2019)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.data.batch import Batch
from glassrec.data.catalogue import Catalogue
from glassrec.data.schema import UNSEEN, Schema
from glassrec.models.base import Inputs
from glassrec.models.retriever import Retriever


class InBatchSoftmax:
    """The cross-entropy of each row's item among the items of the batch.

    An item stands in a batch as often as in the training rows, so popular ones would be pushed down
    for being common: log q, with q the item's share of training rows, is taken off every logit.
    Where the same item stands in a batch more than once, a row is not set against the others.

    Args:
        catalogue: what gives q.
        schema: the columns of the batches.
        temperature: what dot products are divided by.
    """

    def __init__(self, catalogue: Catalogue, schema: Schema, temperature: float) -> None:
        assert schema.item is not None, "a catalogue is one of items"
        self.column = catalogue.columns[0]
        self.temperature = temperature
        place = schema.field_index(schema.item)
        self.first = schema.offsets[place] + UNSEEN
        share = catalogue.counts / catalogue.counts.sum()
        self.log_q = torch.zeros(schema.fields[place].size)
        self.log_q[catalogue.rows[:, 0] - self.first] = share.log()

    def __call__(self, model: Retriever, inputs: Inputs, batch: Batch, truth: Tensor) -> Tensor:
        """The mean over the rows of `truth` (B,) 1; all rows are candidates for each other.

        Args:
            model: gives query and candidate.
            inputs: the batch, embedded.
            batch: B rows.
            truth: whether the row's item is one that its user is to be shown.
        """
        items = batch.ids[:, self.column]
        self.log_q = self.log_q.to(items.device)  # moves it once
        products = model.query(inputs) @ model.candidate(inputs).T
        logits = products / self.temperature - self.log_q[items - self.first]
        twice = (items.unsqueeze(1) == items).fill_diagonal_(False)
        own = torch.arange(len(items), device=items.device)
        losses = F.cross_entropy(logits.masked_fill(twice, -torch.inf), own, reduction="none")
        return (losses * truth).sum() / truth.sum().clamp_min(1)
