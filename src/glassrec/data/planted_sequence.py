"""Generated sequences in which one step of the history decides, so that it can be looked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge, Gt

from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, GroundTruth, Source, assemble
from glassrec.data.encoding import NO_SCALERS, Scalers
from glassrec.data.events import EARLIER, with_history
from glassrec.data.raw_tables import RowLog
from glassrec.data.splits import ByTime

COLUMNS = Columns(label="click", user="user", item="item", time="time")


@dataclass(frozen=True)
class PlantedSequence(Source):
    """A click model of pairs: logit = strength if candidate and step are of one kind, else its
    negative; label ~ Bernoulli.

    Each user sees `lag + events` items, drawn uniformly and independently, and every row's history
    holds those before it, clicked or not. The first `lag` rows of a user, which have no such step,
    are only history. The rows divide by time: 70 % train, 10 % validate, 20 % test.

    At the default strength 95 % of the labels follow the rule, and the true logits have an AUC of
    .95, the most that any model can reach.

    Attributes:
        users: how many users.
        events: how many rows a user has.
        items: how many items, half of them of each kind.
        history: T, how many steps a row shows.
        lag: which step matters: 1 is the newest, and the default is the third-last.
        strength: the size of every logit.
        generator_seed: fixes all rows.
    """

    users: Annotated[int, Ge(1)] = 3000
    events: Annotated[int, Ge(10)] = 10
    items: Annotated[int, Ge(4)] = 20
    history: Annotated[int, Ge(1)] = 6
    lag: Annotated[int, Ge(1)] = 3
    strength: Annotated[float, Gt(0)] = 3.0
    generator_seed: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        if self.lag > self.history:
            raise ValueError(
                f"lag {self.lag} lies beyond the history of {self.history} steps; raise history"
            )

    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """The generated rows; `seed` changes nothing, as time divides them."""
        log = self.generate()
        rows = with_history(log, COLUMNS, self.history)
        rows = rows[rows[EARLIER] >= self.lag].reset_index(drop=True)
        parts = ByTime().split(rows, COLUMNS, torch.Generator())
        truth = GroundTruth({}, {(f"history[-{self.lag}]", "item"): self.strength})
        return replace(
            assemble(parts, COLUMNS, history=self.history, scalers=scalers, log=RowLog(log)),
            ground_truth=truth,
        )

    def generate(self) -> pd.DataFrame:
        """All rows: user, item, time, and click, which a user's first `lag` rows lack (NaN)."""
        random = np.random.default_rng(self.generator_seed)
        shape = (self.users, self.lag + self.events)
        item = random.integers(self.items, size=shape)
        alike = item[:, self.lag :] % 2 == item[:, : self.events] % 2
        chance = 1 / (1 + np.exp(np.where(alike, -self.strength, self.strength)))
        click = np.full(shape, np.nan)
        click[:, self.lag :] = random.random(chance.shape) < chance
        user, time = (axis.ravel() for axis in np.indices(shape))
        return pd.DataFrame({"user": user, "item": item.ravel(), "time": time}).assign(
            click=click.ravel()
        )
