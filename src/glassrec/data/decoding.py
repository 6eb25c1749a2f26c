"""The raw values of encoded rows, for figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.data.raw_tables import DISPLAY_NAME
from glassrec.data.schema import ABSENT, UNSEEN


def decode(dataset: Dataset, batch: Batch) -> pd.DataFrame:
    """(N rows) a column for each dense column, field, and step `history[-1]` of a batch.

    Dense columns are float64 in their own unit, NaN at the mean where values may be missing, as
    these are encoded so. Others are text: items by their display names, several values joined by
    commas, `(unknown)` where training has no such value, None for a step that the user did not
    have. Data without an encoder has scaled numbers, and ids.
    """
    if dataset.decoder is not None:
        return dataset.decoder(batch)
    schema, encoder, found = dataset.schema, dataset.encoder, dict[str, np.ndarray]()
    for name, column in zip(schema.dense, batch.dense.double().unbind(1), strict=True):
        found[name] = scaled = column.numpy()
        if encoder is not None:
            missing = (scaled == 0) & (name in encoder.columns.missing_ok)
            found[name] = np.where(missing, np.nan, encoder.scalers[name].invert(scaled))
    for name in schema.field_names:
        ids = batch.ids[:, [*schema.id_columns(name)]]
        found[name] = raw_texts(dataset, name, ids, ids != ABSENT)
    for at in range(-schema.history_length, 0):
        ids = batch.history[:, [at]]
        found[f"history[{at}]"] = raw_texts(dataset, schema.item or "", ids, ids != 0)
    return pd.DataFrame(found)


def raw_texts(dataset: Dataset, field: str, ids: Tensor, there: Tensor) -> np.ndarray:
    """(N,) the joined names of global ids (N, K), of those that are `there`; None without any."""
    schema, encoder, raw = dataset.schema, dataset.encoder, dataset.raw
    numbers = ids - schema.unseen_id(field)
    if encoder is None:
        names = {n: f"id {n}" for n in numbers.unique().tolist()}
    elif field == schema.item and raw is not None and raw.catalogue is not None:
        names = dict(enumerate(raw.catalogue[DISPLAY_NAME], 1))
    else:
        names = dict(enumerate(encoder.vocabularies[field].values.astype(str), 1))
    if schema.unseen:
        names[UNSEEN] = "(unknown)"
    rows = zip(numbers.tolist(), there.tolist(), strict=True)
    texts = [
        ", ".join(names[i] or "(empty)" for i, r in zip(*row, strict=True) if r) for row in rows
    ]
    return np.array([text or None for text in texts], object)
