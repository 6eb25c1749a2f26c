"""What users chose is random here, so that nothing can rank it: no rule of one line may seem to.

A list has the held-out item and 99 others, and chance puts it among the first ten in .10 of lists.
Whatever configuration is accepted, rules that know the training rows and one column must stay
near that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.data.splits import LeaveOneOut
from glassrec.data.table import Table

USERS, ITEMS, EACH = 250, 300, 8

LIMIT = 0.15


def random_log(seed: int, *, twice: bool, ties: bool) -> pd.DataFrame:
    """Random items; columns of the item, of the user and of the moment."""
    random = np.random.default_rng(seed)
    n = USERS * EACH
    user, item = np.repeat(np.arange(USERS), EACH), random.integers(ITEMS, size=n)
    day = random.integers(360, size=n)
    price = 3 + item * 37 % 101
    frame = pd.DataFrame(
        {
            "user": [f"u{u}" for u in user],
            "item": [f"i{i}" for i in item],
            "day": day // 30 * 30 if ties else day + random.random(n),
            "month": [f"m{d // 30:02d}" for d in day],
            "when": day,
            "city": [f"c{u % 11}" for u in user],
            "hour": random.integers(24, size=n),
            "brand": [f"b{i % 20}" for i in item],
            "tags": [f"t{i % 7}|t{7 + i % 5}" for i in item],
            "price": price,
            "offer": price * random.uniform(0.9, 1.1, n),
        }
    )
    if twice:
        frame = pd.concat([frame, frame], ignore_index=True)
    return frame.sample(frac=1, random_state=seed)


ROLES = """
user: user
item: item
categorical: [month, city, hour, {fields}]
several: [{several}]
dense: [when, {dense}]
item_side: [{side}]
"""


def load(root: Path, log: pd.DataFrame, time: bool, names: str, side: str, **settings) -> Dataset:
    """The dataset with these further columns, those of the item's side among them."""
    chosen = names.split()
    lists = {
        "fields": [name for name in chosen if name in ("brand", "tags")],
        "several": [name for name in chosen if name == "tags"],
        "dense": [name for name in chosen if name in ("price", "offer")],
        "side": side.split(),
    }
    text = ROLES.format(**{role: ", ".join(names) for role, names in lists.items()})
    (root / "columns.yaml").write_text(text + ("time: day\n" if time else ""))
    log.to_csv(root / "log.csv", index=False)
    return Table(root / "log.csv", root / "columns.yaml", split=LeaveOneOut(99), **settings).load(0)


def hit_rate(scores: Tensor, batch: Batch) -> float:
    """HR@10 of the first of each list of 100, in expectation over random order among ties."""
    lists = scores.double().view(-1, 100)
    assert batch.targets.view(-1, 100)[:, 0].eq(1).all()
    above = (lists > lists[:, :1]).sum(1)
    tied = (lists == lists[:, :1]).sum(1)
    return ((10 - above) / tied).clamp(0, 1).mean().item()


def rules(data: Dataset, batch: Batch) -> dict[str, Tensor]:
    """The scores (N,) of rules of one line."""
    train, size = data.train.batch, data.schema.num_ids
    item, known = batch.ids[:, 1], train.ids[:, 1]
    counts = known.bincount(minlength=size)
    found = {"popular": counts[item].double(), "unpopular": -counts[item].double()}
    seen = train.ids[:, 0] * size + known
    found["seen before"] = torch.isin(batch.ids[:, 0] * size + item, seen).double()
    for column in range(2, batch.ids.shape[1]):
        pairs, times = (known * (size + 1) + train.ids[:, column]).unique(return_counts=True)
        asked = item * (size + 1) + batch.ids[:, column]
        at = torch.searchsorted(pairs, asked).clamp(max=len(pairs) - 1)
        same = times[at].where(pairs[at] == asked, 0) / counts[item].clamp(min=1)
        found[f"the item's usual value of column {column}"] = same
    for column, name in enumerate(data.schema.dense):
        values = train.dense[:, column].double()
        total = torch.zeros(size).double().index_add(0, known, values)
        usual = total / counts.clamp(min=1)
        found[f"near the item's usual {name}"] = -(batch.dense[:, column] - usual[item]).abs()
        latest = torch.full((size,), -torch.inf).double().scatter_reduce(0, known, values, "amax")
        found[f"greatest {name}"] = latest[item].clamp(min=-9)
    if batch.history.shape[1]:
        found["in the history"] = (batch.history == item[:, None]).any(1).double()
        found["last in the history"] = (batch.history[:, -1] == item).double()
    return found


def worst(data: Dataset) -> tuple[float, str]:
    """The best rule, over the lists of both splits: its HR@10 and its name."""
    rates = [
        {name: hit_rate(scores, split.batch) for name, scores in rules(data, split.batch).items()}
        for split in (data.validation, data.test)
    ]
    assert all(split.batch.rows > 100 * 0.9 * USERS for split in (data.validation, data.test))
    return max((sum(rate[name] for rate in rates) / 2, name) for name in rates[0])


POLICIES = [
    (False, False, "drop", "drop", 0),
    (False, True, "drop", "keep", 3),
    (True, False, "keep", "drop", 0),
    (True, True, "drop", "drop", 3),
    (True, True, "keep", "keep", 0),
    (True, True, "keep", "keep", 3),
]


@pytest.mark.parametrize(("twice", "ties", "duplicates", "repeats", "history"), POLICIES)
def test_no_rule_ranks_random_choices(
    tmp_path: Path, twice: bool, ties: bool, duplicates: str, repeats: str, history: int
) -> None:
    log = random_log(history + 2 * ties, twice=twice, ties=ties)
    side = "brand tags price"
    data = load(
        tmp_path, log, True, side, side, duplicates=duplicates, repeats=repeats, history=history
    )
    rate, rule = worst(data)
    assert rate <= LIMIT, rule


@pytest.mark.parametrize("repeats", ["drop", "keep"])
def test_nor_without_a_time(tmp_path: Path, repeats: str) -> None:
    log = random_log(5, twice=True, ties=False)
    rate, rule = worst(load(tmp_path, log, False, "brand", "brand", history=3, repeats=repeats))
    assert rate <= LIMIT, rule


def test_copies_that_cannot_be_told_from_repeats_are_refused(tmp_path: Path) -> None:
    log = random_log(5, twice=True, ties=False)
    with pytest.raises(ValueError, match=r"data\.duplicates=keep: without a time.*=drop"):
        load(tmp_path, log, False, "brand", "brand", duplicates="keep")


@pytest.mark.parametrize("names", ["brand", "tags", "price", "offer"])
def test_what_would_let_a_rule_rank_them_is_refused(tmp_path: Path, names: str) -> None:
    log = random_log(9, twice=False, ties=False)
    with pytest.raises(ValueError, match=f"{names} follows from item"):
        load(tmp_path, log, True, names, "")
    free = log.assign(**{names: np.random.default_rng(0).permutation(log[names])})
    rate, rule = worst(load(tmp_path, free, True, names, ""))
    assert rate <= LIMIT, rule
    # As context it is accepted, and the rules do find it.
    text = f"user: user\nitem: item\ntime: day\ncontext: [{names}]\n"
    role = "dense" if names in ("price", "offer") else "categorical"
    (tmp_path / "columns.yaml").write_text(text + f"{role}: [{names}]\n")
    log.to_csv(tmp_path / "log.csv", index=False)
    data = Table(tmp_path / "log.csv", tmp_path / "columns.yaml", split=LeaveOneOut(99)).load(0)
    assert worst(data)[0] > 0.5
