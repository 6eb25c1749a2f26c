"""Baselines: the inputs that an explanation compares a row with."""

from __future__ import annotations

from typing import Literal

import torch

from glassrec.models.base import Inputs, Recommender

BaselineKind = Literal["zero", "mean", "unseen", "background"]


@torch.no_grad()
def build_baseline(model: Recommender, kind: BaselineKind, background: Inputs) -> Inputs:
    """Baseline inputs: one row, or all of the `background`, which are embedded training rows.

    mean is that of the rows and of all of their steps; unseen has each field's unseen id, and dense
    columns at zero, which is their mean after scaling.
    """
    if kind == "background":
        return background
    zero = Inputs(*(torch.zeros_like(part[:1]) for part in background))
    if kind == "zero":
        return zero
    schema = model.schema
    if kind == "mean":
        mean = Inputs(*(part.mean(0, keepdim=True) for part in background))
        present = mean.steps.mean().clamp_min(torch.finfo(mean.steps.dtype).tiny)
        step = mean.history.mean(1, keepdim=True) / present  # the mean of the steps that exist
        return mean._replace(history=step.expand_as(mean.history))
    fields = model.unseen()
    if not schema.history_length:
        return zero._replace(fields=fields)
    assert schema.item is not None, "a history is one of items"
    step = fields[:, [schema.field_index(schema.item)]]
    return zero._replace(fields=fields, history=step.expand_as(zero.history))


def zero_row(model: Recommender) -> Inputs:
    """One row of zeros with a full history: enough to see whether a method supports the model."""
    schema, zeros = model.schema, model.table.weight.new_zeros
    return Inputs(
        zeros(1, len(schema.dense)),
        zeros(1, len(schema.fields), model.width),
        zeros(1, schema.history_length, model.width),
        zeros(1, schema.history_length) + 1,
    )
