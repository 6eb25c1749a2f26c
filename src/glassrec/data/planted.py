"""Generated clicks whose true effects are known, so that an explanation can be scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge

from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, GroundTruth, Source, assemble
from glassrec.data.encoding import NO_SCALERS, Scalers
from glassrec.data.splits import Random

CONTEXTS = {"device": 4, "daypart": 6, "placement": 10, "region": 8, "browser": 6, "weekday": 7}
"""The small fields, with the number of their values."""

DENSE = {
    "price": (40.0, 12.0),
    "recency": (30.0, 9.0),
    "discount": (0.2, 0.05),
    "load": (0.5, 0.1),
    "latency": (120.0, 25.0),
}
"""The dense columns, each normal with this mean and deviation."""

MAIN = {"item": 1.0, "price": 0.72, "device": 0.52, "user": 0.37, "recency": 0.26}
"""The strength of each main effect: its standard deviation in logits."""

PAIRS = {
    ("user", "item"): 0.8,
    ("device", "daypart"): 0.6,
    ("price", "recency"): 0.44,
    ("discount", "placement"): 0.31,
}
"""The strength of each pair effect. Dead, since named in neither table: the fields region, browser
and weekday, and the dense columns load and latency."""

RANK = 2
"""How many latent tastes the interaction of two fields has."""

INTERCEPT = -1.3

COLUMNS = Columns(
    label="click", dense=tuple(DENSE), categorical=tuple(CONTEXTS), user="user", item="item"
)


@dataclass(frozen=True)
class Planted(Source):
    """A click model: logit = intercept + main effects + pair effects, label ~ Bernoulli.

    All columns are independent, categories uniform and dense columns normal. A pair effect is pure:
    averaged over one of its columns it is zero whatever the other is, so that it holds no main
    effect in disguise. Each effect's standard deviation over the rows is exactly its strength.

    About 30 % of the rows are clicks. Scoring by the true logits gives an AUC of about .85, the
    most that any model can reach.

    Attributes:
        rows: N, how many rows, of which 80 % train, 10 % validate and 10 % test.
        users: how many users.
        items: how many items.
        generator_seed: fixes the rows and the effects; the run's seed fixes the split only.
    """

    rows: Annotated[int, Ge(100)] = 60_000
    users: Annotated[int, Ge(2)] = 120
    items: Annotated[int, Ge(2)] = 80
    generator_seed: Annotated[int, Ge(0)] = 0

    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """The generated rows, divided at random by `seed`, with their truth."""
        frame, _ = self.generate()
        parts = Random().split(frame, COLUMNS, torch.Generator().manual_seed(seed))
        return replace(
            assemble(parts, COLUMNS, scalers=scalers),
            ground_truth=GroundTruth(dict(MAIN), dict(PAIRS)),
        )

    def generate(self) -> tuple[pd.DataFrame, dict[str | tuple[str, str], np.ndarray]]:
        """The raw rows, and each effect (N,) in logits by the column or the pair it is of."""
        random = np.random.default_rng(self.generator_seed)
        sizes = {"user": self.users, "item": self.items, **CONTEXTS}
        fields = {name: random.integers(size, size=self.rows) for name, size in sizes.items()}
        normal = {name: random.standard_normal(self.rows) for name in DENSE}

        def factor(name: str, rank: int) -> np.ndarray:
            """A function of one column with mean zero, (N, rank) or (N, 1)."""
            if name in normal:
                return normal[name][:, None]
            table = random.standard_normal((sizes[name], rank))
            return (table - table.mean(axis=0))[fields[name]]

        effects: dict[str | tuple[str, str], np.ndarray] = {}
        for name, strength in MAIN.items():
            effects[name] = _scaled(factor(name, 1), strength)
        for pair, strength in PAIRS.items():
            # Columns are independent, so a product of factors of mean zero holds no main effect.
            effects[pair] = _scaled(factor(pair[0], RANK) * factor(pair[1], RANK), strength)
        raw = {name: mean + spread * normal[name] for name, (mean, spread) in DENSE.items()}
        click = random.random(self.rows) < probabilities(effects)
        return pd.DataFrame(fields | raw | {"click": click}), effects


def probabilities(effects: Mapping[str | tuple[str, str], np.ndarray]) -> np.ndarray:
    """The true click probabilities (N,) of rows with these effects (N,)."""
    return 1 / (1 + np.exp(-INTERCEPT - sum(effects.values())))


def _scaled(parts: np.ndarray, strength: float) -> np.ndarray:
    effect = parts.sum(axis=1)
    return (effect - effect.mean()) * (strength / effect.std())
