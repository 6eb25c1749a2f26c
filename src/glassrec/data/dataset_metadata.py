"""Metadata of a dataset as plain values: for readers of a run that do not load its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from glassrec.data.batch import Split
from glassrec.data.dataset import Dataset
from glassrec.data.schema import ABSENT, Field, Schema


def collect_metadata(dataset: Dataset) -> dict[str, Any]:
    """Rows, tasks, columns and known effects, under these names.

    rows, by split. lists, by split: the ranking lists of splits that have them. negatives: how many
    are drawn for each training row, which is a positive then; None where labels are as they come.
    tasks: name, kind and the mean of the label by split, or {}. fields: name, the `values` that
    training knows, how many of them a row has (`per_row`), and `unseen`, by split: the share of
    those that it does not know; None and {} where no id stands for such values. dense: names.
    history: its length and, by split, the mean number of items in it; None without one. user and
    item: the fields that identify them. truth: main and pairs, known effects as [name(s),
    strength]; None where nothing is known. repeats: of the positives that are ranked or retrieved,
    how many there are (`positives`) and how many of them their user has in training (`known`), by
    split; empty without such a task. audit: the number of raw rows and the findings on them, see
    `audit.Finding`; None where none are read.
    """
    schema, splits, truth = dataset.schema, dataset.splits, dataset.ground_truth
    judged = splits if dataset.labelled else {}
    lists = {name: split.query for name, split in splits.items() if split.query is not None}
    return {
        "rows": {name: split.batch.rows for name, split in splits.items()},
        "lists": {name: len(query.unique()) for name, query in lists.items()},
        "negatives": None if dataset.negatives is None else dataset.negatives.per_positive,
        "tasks": [
            {
                "name": target.name,
                "kind": target.kind,
                "mean": {n: _mean(split.batch.targets[:, at]) for n, split in judged.items()},
            }
            for at, target in enumerate(schema.targets)
        ],
        "fields": [_field(schema, field, splits) for field in schema.fields],
        "dense": [*schema.dense],
        "history": _history(schema, splits),
        "user": schema.user,
        "item": schema.item,
        "truth": truth
        and {
            "main": [[name, strength] for name, strength in truth.main.items()],
            "pairs": [[*names, strength] for names, strength in truth.pairs.items()],
        },
        "repeats": _repeats(dataset),
        "audit": None if dataset.audit is None else asdict(dataset.audit),
    }


def anomaly_lines(metadata: Mapping[str, Any], most: int = 8) -> list[str]:
    """The anomalies in the audit as lines; of more than `most`, the first ones."""
    findings = (metadata.get("audit") or {}).get("findings", [])
    found = [each["message"] for each in findings if each["anomaly"]]
    more = len(found) - most
    return found if more <= 0 else [*found[:most], f"and {more} more, see data.json"]


def repeats_line(metadata: Mapping[str, Any]) -> str | None:
    """How many held-out positives repeat a pair of training, as a line; None if none does."""
    found = metadata.get("repeats", {})
    if not any(each["known"] for each in found.values()):
        return None
    counts = [f"{n['known']:,} of {n['positives']:,} {name}" for name, n in reversed(found.items())]
    return f"{' and '.join(counts)} positives are items that their user has in training"


def _field(schema: Schema, field: Field, splits: Mapping[str, Split]) -> dict[str, Any]:
    if not schema.unseen:
        return {"name": field.name, "values": None, "per_row": field.values, "unseen": {}}
    columns, shares = [*schema.id_columns(field.name)], {}
    for name in ("val", "test"):
        ids = splits[name].batch.ids[:, columns]
        shares[name] = _mean(ids[ids != ABSENT] == schema.unseen_id(field.name))
    known = field.size - 1
    return {"name": field.name, "values": known, "per_row": field.values, "unseen": shares}


def _history(schema: Schema, splits: Mapping[str, Split]) -> dict[str, Any] | None:
    if not schema.history_length:
        return None
    means = {n: _mean((split.batch.history > 0).sum(1)) for n, split in splits.items()}
    return {"length": schema.history_length, "items": means}


def _repeats(dataset: Dataset) -> dict[str, dict[str, int]]:
    """How many held-out positives are pairs of training, beside their number."""
    schema, catalogue = dataset.schema, dataset.catalogue
    retrieved = [column for column, t in enumerate(schema.targets) if t.kind == "retrieval"]
    if catalogue is None or not (dataset.ranked or retrieved):
        return {}
    task = retrieved[0] if retrieved else 0
    unseen = torch.tensor([schema.unseen_id(name or "") for name in (schema.user, schema.item)])
    found, known = {}, torch.empty(0, dtype=torch.long)
    for name, split in dataset.splits.items():
        rows = split.batch.targets[:, task] == 1
        ids = split.batch.ids[rows][:, [catalogue.user, catalogue.columns[0]]].long()
        keys = (ids @ torch.tensor([schema.num_ids, 1]))[(ids != unseen).all(1)]
        if name == "train":
            known = keys
        else:
            found[name] = {"positives": len(ids), "known": int(torch.isin(keys, known).sum())}
    return found


def _mean(values: Tensor) -> float:
    return values.mean(dtype=torch.float64).item()
