"""The published files, where they are at hand: sizes and facts that their owners state."""

from pathlib import Path

import pytest

from glassrec.data.criteo import Criteo
from glassrec.data.movielens import MovieLens1M, MovieLens100K
from glassrec.data.ncf_files import NCF
from glassrec.data.splits import Random

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def folder(name):
    path = REAL / name
    if not path.is_dir():
        pytest.skip(f"the real data is not at {path}")
    return path


def test_ncf_has_the_authors_rows_and_one_epoch_hits_no_positive():
    data = NCF(folder("ncf-ml-1m")).load(seed=0)
    assert data.train.batch.rows == 994_169 - 6_040
    assert data.validation.batch.rows == 6_040 * 100
    assert data.test.batch.rows == 6_040 * 100 - 156
    assert data.test.query.unique().numel() == 6_040
    epoch = data.epoch(seed=0, epoch=0)
    assert epoch.rows == 5 * data.train.batch.rows
    keys = epoch.ids[:, 0] * data.schema.num_ids + epoch.ids[:, 1]
    positive = epoch.targets[:, 0] == 1
    apart = [keys[rows].unique().numel() for rows in (positive, ~positive)]
    assert sum(apart) == keys.unique().numel()


def test_movielens_has_every_user_s_held_out_rows():
    data = MovieLens100K(folder("ml-100k")).load(seed=0)
    assert data.train.batch.rows == 100_000 - 2 * 943
    assert data.test.query.max() == 942
    sizes = {field.name: field.size - 1 for field in data.schema.fields}
    assert sizes["user"] == 943
    assert sizes["gender"] == 2
    assert sizes["age"] == 7
    assert sizes["occupation"] == 21


def test_movielens_1m_labels_high_ratings():
    data = MovieLens1M(folder("ml-1m"), split=Random()).load(seed=0)
    assert sum(split.batch.rows for split in data.splits.values()) == 1_000_209
    positives = sum(split.batch.targets.sum() for split in data.splits.values())
    assert positives == 226_310 + 348_971  # the ratings 5 and 4 of the edition


def test_criteo_tests_on_the_last_rows():
    data = Criteo(folder("criteo-kaggle-head")).load(seed=0)
    assert [split.batch.rows for split in data.splits.values()] == [7_000, 1_000, 2_000]
    rate = sum(split.batch.targets.sum() for split in data.splits.values()) / 10_000
    assert rate == pytest.approx(0.2182)
