"""A key of each raw row, by which other runs know whether their rows are the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from glassrec.data.columns import Columns, Part, Parts

SPLITS = ("train", "val", "test")


def row_keys(parts: Parts, columns: Columns) -> pd.DataFrame:
    """The keys of all rows but drawn candidates.

    Args:
        parts: raw rows, under the index that they have in the file.
        columns: the roles of their columns.

    Returns:
        a frame with the columns `row` (the number of the row in its file, from 1, header and
        empty lines not counted), `key` (uint64: a hash of the values of all columns that are read,
        by name, but for the split column and the history) and `split` (train, val or test).
    """
    there = {*parts.train.frame} & {*columns.all}
    names = sorted(there - {columns.split})
    frames = [_keys(part, names) for part in parts]
    rows = pd.concat(frames, ignore_index=True)
    split = np.repeat(np.arange(len(SPLITS)), [len(frame) for frame in frames])
    return rows.assign(split=pd.Categorical.from_codes(split, pd.Index(SPLITS)))


def _keys(part: Part, names: list[str]) -> pd.DataFrame:
    frame = part.frame[names]
    if part.query is not None:  # a ranking list: one row happened, the others are candidates
        frame = frame[part.labels.reshape(len(frame), -1)[:, 0] == 1]
    keys = pd.util.hash_pandas_object(frame, index=False).to_numpy(np.uint64)
    return pd.DataFrame({"row": frame.index.to_numpy(np.int64) + 1, "key": keys})


def overlap(rows: pd.DataFrame, trained: np.ndarray) -> Iterator[tuple[str, int, int, int]]:
    """How many of the held-out rows have the key of a row that was trained on.

    Args:
        rows: the keys of a dataset, see `row_keys`.
        trained: (M,) uint64 keys of the rows that a model was trained on.

    Yields:
        of each held-out split: its name, the number of its rows, how many of them are in `trained`,
        and how many are in the training split of `rows` itself.
    """
    own = rows.loc[rows["split"] == "train", "key"].to_numpy()
    for name in SPLITS[1:]:
        keys = rows.loc[rows["split"] == name, "key"].to_numpy()
        yield name, len(keys), int(np.isin(keys, trained).sum()), int(np.isin(keys, own).sum())
