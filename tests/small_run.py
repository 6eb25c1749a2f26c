"""The words of a run so small that each of its stages takes about a second, or less."""

from typing import Any

import pandas as pd

SMALL = [
    "data.rows=600", "data.users=12", "data.items=8", "model.embedding=4", "model.bottom=[8]",
    "model.top=[12,6]", "trainer=cpu", "trainer.max_epochs=1", "trainer.batch_size=128",
]  # fmt: skip
"""A DLRM of planted clicks."""

QUICK = [
    "explain.select.rows=50", "explain.method.steps=4", "explain.neurons.steps=4",
    "explain.tolerance=1", "explain/compare=none", "explain.pair_rows=0",
    "explain.faithfulness.rows=20", "explain.faithfulness.steps=4",
    "explain.faithfulness.subsets=10", "explain.faithfulness.points=1",
    "explain.faithfulness.models=1",
]  # fmt: skip
"""An explanation of it that only says the least."""


def read_exactly(source: Any) -> pd.DataFrame:
    """A CSV file with the very numbers that were written, which pandas 2 rounds by default."""
    exact = {"float_precision": "round_trip"} if pd.__version__.startswith("2.") else {}
    return pd.read_csv(source, keep_default_na=False, **exact)
