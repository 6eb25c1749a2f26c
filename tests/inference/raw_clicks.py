"""A generated CSV of clicks with string ids, unicode, missing numbers, tags and dates, and runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from glassrec.__main__ import main
from glassrec.artifacts.file_list import WEIGHTS
from glassrec.config.build import build
from glassrec.config.compose import prepare
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from small_run import QUICK

ROLES = """\
label: clicked
user: user_id
item: sku
item_name: title
categorical: [city, device, brand, tags]
item_side: [brand, tags, price]
several: [tags]
dense: [price, age, views]
log: [views]
missing_ok: [age]
ranges: {age: [0, 120]}
time: clicked_at
"""

CITIES = ("Paris", "Łódź", "São Paulo", "東京", 'the "Big" Apple', "Köln, Altstadt", "")
TAGS = ("new", "sale", "größe", "🎁 gift", "xxl")
HISTORY = 4


def clicks(rows: int, seed: int = 0) -> pd.DataFrame:
    """A log: clicks depend on the city, the price, the first tag and the user."""
    random = np.random.default_rng(seed)
    users, items = max(20, rows // 40), max(15, rows // 100)
    user, item = random.integers(users, size=rows), random.integers(items, size=rows)
    city = random.integers(len(CITIES), size=rows)
    price = np.round(np.exp(random.normal(3, 0.6, items)), 2)
    tags = [TAGS[: 1 + k % len(TAGS)][::-1][: 1 + k % 3] for k in range(items)]
    age = random.integers(18, 90, users).astype(object)
    logit = 0.8 * (city % 3 - 1) + 0.05 * (20 - price[item]) + (user % 5 - 2) / 2
    return pd.DataFrame(
        {
            "user_id": [f"u_{k:05}" for k in user],
            "sku": [f"sku-{k:04}" for k in item],
            "title": [f"Item №{k}" for k in item],
            "city": [CITIES[k] for k in city],
            "device": random.choice(["phone", "tablet", "desk top"], rows),
            "brand": [f"brand {k % 7}" for k in item],
            "tags": ["|".join(tags[k]) for k in item],
            "price": price[item],
            "age": ["" if k % 6 == 0 else age[k] for k in user],
            "views": random.poisson(20, rows) ** 2,
            "clicked_at": [
                f"{moment:%Y-%m-%dT%H:%M:%S}"
                for moment in pd.Timestamp("2024-01-01")
                + pd.to_timedelta(np.sort(random.integers(10**7, size=rows)), "s")
            ],
            "clicked": (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )


def write_source(folder: Path, frame: pd.DataFrame) -> list[str]:
    """Write the log and the roles of its columns; the words that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "clicks.csv", index=False)
    (folder / "roles.yaml").write_text(ROLES, encoding="utf-8")
    return [f"data.path={folder / 'clicks.csv'}", f"data.columns={folder / 'roles.yaml'}"]


def new_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with new users, unknown categories, reordered and extra columns, and no label."""
    found = frame.drop(columns=["clicked", "title"]).copy()
    places = np.arange(len(found))
    found.loc[places % 5 == 0, "user_id"] = "nobody"
    found.loc[places % 7 == 0, "city"] = "Atlantis"
    found.loc[places % 11 == 0, "tags"] = "new|never seen"
    found["note"] = [f' a, "quoted" note {k}' for k in places]
    return found[[*reversed(found.columns)]]


ROWS = 2000


class FinishedRun(NamedTuple):
    directory: Path
    """moved, with the training data deleted"""
    log: pd.DataFrame
    """the training data as it was"""
    dataset: Dataset
    """as the training had it"""
    logits: Tensor
    """(rows of test, 1): the run's own predictions"""

    @property
    def test(self) -> pd.DataFrame:
        """The raw rows of the test split."""
        keys = self.dataset.row_keys
        assert keys is not None
        return self.log.iloc[keys.loc[keys["split"] == "test", "row"].to_numpy() - 1]

    @property
    def batch(self) -> Batch:
        """The test split as the training encoded it."""
        return self.dataset.test.batch


def finish(folder: Path, name: str, *words: str) -> FinishedRun:
    """Train a small run, then move it and delete its data."""
    log, directory = clicks(ROWS), folder / "runs" / name
    source = write_source(folder / "data", log)
    small = ["trainer=cpu", "trainer.max_epochs=1", "trainer.batch_size=128", "prune/curves=none"]
    assert main(["run", f"run.dir={directory}", "data=table", *source, *small, *words, *QUICK]) == 0
    dataset, logits = own_predictions(directory)
    moved = folder / "elsewhere" / name
    shutil.copytree(directory, moved)
    shutil.rmtree(folder / "data")
    shutil.rmtree(directory)
    return FinishedRun(moved, log, dataset, logits)


def own_predictions(directory: Path) -> tuple[Dataset, Tensor]:
    """The data of a run, as training had it, and the logits (rows of test, 1) of its model."""
    config = prepare("verify", [f"run.dir={directory}"])
    parts = build(config)
    dataset = parts["data"].load(0)
    own = parts["model"](dataset.schema)
    own.load(WEIGHTS.content.load(directory / WEIGHTS.name).tensors, "weights")
    return dataset, own.predict(dataset.test.batch)
