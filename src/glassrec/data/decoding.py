"""The raw values of encoded rows, for figures: numbers in their unit, and names."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.data.raw_tables import DISPLAY_NAME
from glassrec.data.schema import ABSENT

UNKNOWN, EMPTY = "(unknown)", "(empty)"
"""Names of a value that training does not have, and of empty text."""


def decode(dataset: Dataset, batch: Batch) -> pd.DataFrame:
    """(N rows) a column for each dense column, field, and step `history[-1]` of a batch.

    Dense columns are float64 in their own unit; a missing value was encoded as the mean, which it
    is here. Other columns are text: items by their display names, several values joined by commas,
    None for a step that the user did not have. Data without an encoder has scaled numbers, and ids.
    """
    schema, encoder, found = dataset.schema, dataset.encoder, dict[str, np.ndarray]()
    for name, column in zip(schema.dense, batch.dense.unbind(1), strict=True):
        scaled = column.double().numpy()
        found[name] = scaled if encoder is None else encoder.scalers[name].invert(scaled)
    for name, offset in zip(schema.field_names, schema.offsets, strict=True):
        columns, names = schema.id_columns(name), _names(dataset, name)
        ids = batch.ids[:, columns.start : columns.stop]
        found[name] = _texts(ids - offset, ids != ABSENT, names)
    if schema.history_length:
        item = schema.item or ""
        names, offset = _names(dataset, item), schema.offsets[schema.field_index(item)]
        for at in range(-schema.history_length, 0):
            ids = batch.history[:, [at]]
            found[f"history[{at}]"] = _texts(ids - offset, ids != 0, names)
    return pd.DataFrame(found)


def _names(dataset: Dataset, field: str) -> list[str]:
    """The name of each id of a field."""
    schema, encoder, raw = dataset.schema, dataset.encoder, dataset.raw
    if encoder is None:
        size = schema.fields[schema.field_index(field)].size
        return [UNKNOWN, *(f"id {number}" for number in range(1, size))]
    names = encoder.vocabularies[field].values.astype(str)
    if field == schema.item and raw is not None and raw.catalogue is not None:
        names = pd.Index(raw.catalogue[DISPLAY_NAME].iloc[: len(names)])
    return [UNKNOWN, *(name or EMPTY for name in names)]


def _texts(ids: Tensor, there: Tensor, names: list[str]) -> np.ndarray:
    """(N,) the joined names of ids (N, K), of those that are `there` (N, K); None without any."""
    rows = zip(ids.tolist(), there.tolist(), strict=True)
    texts = [", ".join(names[i] for i, real in zip(*row, strict=True) if real) for row in rows]
    return np.array([text or None for text in texts], object)
