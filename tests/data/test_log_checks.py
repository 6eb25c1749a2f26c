"""A raw log of a user's own source: what does not suit a column's role is refused by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from glassrec.data.columns import Columns
from glassrec.data.dataset import build_dataset
from glassrec.data.log_checks import FRAME, check_log
from glassrec.data.splits import ByTime

COLUMNS = Columns(
    label="bought", user="who", item="sku", categorical=("maker",), item_side=("maker",),
    dense=("age",), time="at",
)  # fmt: skip


def log(**changed: Any) -> pd.DataFrame:
    rows = 40
    random = np.random.default_rng(0)
    sku = random.integers(8, size=rows)
    whole = {
        "bought": random.integers(2, size=rows), "who": [f"u{n % 5}" for n in range(rows)],
        "sku": sku, "maker": [f"m{n % 3}" for n in sku], "age": random.random(rows),
        "at": pd.date_range("2024-12-20", periods=rows, freq="D"),
    }  # fmt: skip
    return pd.DataFrame(whole | changed)


def test_times_order_rows_whatever_their_type() -> None:
    dates = log()["at"]
    frames = {
        "dates": log(),
        "zoned": log(at=dates.dt.tz_localize("Europe/Paris")),
        "text": log(at=dates.dt.strftime("%Y-%m-%dT%H:%M:%S")),
        "numbers": log(at=dates.astype("int64")),
    }
    last = {
        name: build_dataset(frame, COLUMNS, ByTime(), 0).test.batch.dense
        for name, frame in frames.items()
    }
    assert all(each.equal(last["numbers"]) for each in last.values())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"at": log()["at"].dt.strftime("%d/%m/%Y")}, r"row 1: at is '20/12/2024', not a time"),
        ({"at": log()["at"].where(lambda at: at.dt.day != 21)}, r"row 2: at .* needs a time"),
        ({"age": [*["3.5"] * 39, "old"]}, r"row 40: age is 'old', not a number"),
        ({"age": [np.nan, *[1.0] * 39]}, r"row 1: age is nan.*missing_ok"),
        ({"bought": [1, 2] * 20}, r"row 2: bought is 2; a label must be 0 or 1"),
        ({"who": [*["a"] * 39, None]}, r"row 40: who is empty"),
        ({"maker": [[each] for each in log()["maker"]]}, r"row 1: maker is \['m.'\].*several"),
        ({"maker": [f"m{n}" for n in range(40)]}, r"maker is 'm\d+' for sku"),
    ],
)
def test_wrong_values_are_refused_by_row(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"the data frame, {message}|{message}"):
        build_dataset(log(**changed), COLUMNS, ByTime(), 0)


def test_missing_columns_and_policies_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the data frame: no column 'maker'"):
        build_dataset(log().drop(columns="maker"), COLUMNS, ByTime(), 0)
    with pytest.raises(ValueError, match=r"duplicates: 'kep' is neither"):
        build_dataset(log(), COLUMNS, ByTime(), 0, duplicates="kep")  # type: ignore[arg-type]


def test_whole_numbers_stay_exact() -> None:
    times = 2**60 + np.arange(40)  # nanoseconds, which float64 would round
    found = check_log(log(at=times), COLUMNS, FRAME)["at"]
    assert found.dtype == np.int64
    assert found.tolist() == times.tolist()


def test_a_log_stays_as_it_was() -> None:
    frame = log(age=[str(n) for n in range(40)])
    before = frame.copy()
    build_dataset(frame, COLUMNS, ByTime(), 0)
    pd.testing.assert_frame_equal(frame, before)
