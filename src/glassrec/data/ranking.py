"""Ranking lists: a held-out row, followed by the same row with items that the user never chose."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from glassrec.data.columns import Columns, Part
from glassrec.data.negatives import draw_candidates


def ranking_lists(
    log: pd.DataFrame, held: np.ndarray, columns: Columns, count: int, generator: torch.Generator
) -> Part:
    """A list for each held-out row: the row itself (label 1), then `count` candidates (label 0).

    Candidates are distinct items that the user chose in no row of `log`. They bring the columns of
    their side along; all other columns are those of the held-out row.

    Args:
        log: every known positive, of all splits.
        held: (Q,) the positions in `log` of the held-out rows.
        columns: the roles of the columns; user and item must be there.
        count: the number of candidates of a list.
        generator: fixes the candidates.

    Raises:
        ValueError: a user has fewer than `count` items left.
    """
    users, _ = pd.factorize(log[columns.user])
    items, values = pd.factorize(log[columns.item])  # numbered as they appear
    first = np.flatnonzero(~log[columns.item].duplicated())
    positives = torch.from_numpy(users * len(values) + items).unique()
    candidates = draw_candidates(
        positives, torch.from_numpy(users[held]), len(values), count, generator
    )
    rows = np.repeat(held, count + 1)
    shown = np.column_stack([held, first[candidates.numpy()]]).ravel()
    labels = np.zeros((len(held), count + 1), np.float32)
    labels[:, 0] = 1
    frame = log.iloc[rows].assign(
        **{
            name: log[name].array.take(shown)
            for name in (*columns.item_fields, *columns.item_dense)
        }
    )
    return Part(frame, labels.ravel(), np.repeat(np.arange(len(held)), count + 1))
