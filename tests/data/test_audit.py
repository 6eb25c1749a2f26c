"""What the audit finds in logs that were spoilt in one known way, and that others are clean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.audit import Audit, audit_log, with_parts
from glassrec.data.columns import Columns, Parts
from glassrec.data.dataset_metadata import anomaly_lines, collect_metadata, repeats_line
from glassrec.data.splits import ByTime, LeaveOneOut, Random
from glassrec.data.table import Table

COLUMNS = Columns(
    label="click", user="user", item="item", time="time", dense=("price", "views"), log=("views",),
    categorical=("city", "tags"), several=("tags",),
)  # fmt: skip

TEXTS = ("user", "item", "city", "tags")


@pytest.fixture
def log() -> pd.DataFrame:
    """400 clean rows of 20 users and 30 items; no two of one user at one time."""
    random = np.random.default_rng(0)
    n = 400
    return typed(
        pd.DataFrame(
            {
                "user": random.integers(20, size=n).astype(str),
                "item": [f"i{item}" for item in random.integers(30, size=n)],
                "time": random.permutation(n).astype(float),
                "click": random.integers(2, size=n),
                "price": random.normal(40, 10, n),
                "views": random.lognormal(3, 2, n),
                "city": random.choice(["oslo", "rome", "lima"], n),
                "tags": random.choice(["a|b", "b", "c|d|a", ""], n),
            }
        )
    )


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts as they are read."""
    return frame.astype(dict.fromkeys(TEXTS, "category"))


def found(frame: pd.DataFrame, columns: Columns = COLUMNS) -> dict[str, tuple[int, str]]:
    """The anomalies: count and message by check; each check finds one."""
    findings = [
        each for each in audit_log(frame, columns, duplicates="drop")[1].findings if each.anomaly
    ]
    assert len({each.check for each in findings}) == len(findings)
    return {each.check: (each.count, each.message) for each in findings}


def test_a_clean_log_has_no_anomaly(log: pd.DataFrame) -> None:
    assert found(log) == {}
    recorded = {
        each.check: each.count for each in audit_log(log, COLUMNS, duplicates="drop")[1].findings
    }
    taken, again = set(), 0
    for user, item, click in log.sort_values("time")[["user", "item", "click"]].to_numpy():
        again += (user, item) in taken
        taken |= {(user, item)} if click else set()
    assert recorded == {"repeats": again}


def test_duplicates_and_ties_are_counted(log: pd.DataFrame) -> None:
    twice = pd.concat([log, log[:25]], ignore_index=True)
    assert found(twice)["duplicate events"][0] == 25
    assert "25 of 425 rows" in found(twice)["duplicate events"][1]
    log["time"] = log["time"] // 40
    ties = {
        each.check: each.count for each in audit_log(log, COLUMNS, duplicates="drop")[1].findings
    }
    assert ties["timestamp ties"] == log.duplicated(["user", "time"]).sum()


@pytest.mark.parametrize(
    ("other", "message_part"),
    [
        (lambda user: user + ".0", "'.0'"),
        (lambda user: user.str.zfill(5), "leading zeros"),
        (lambda user: user + " ", "blanks"),
        (lambda user: user.replace({str(u): f"{u}A" for u in range(9)}), "case"),
    ],
)
def test_ids_that_differ_in_how_they_are_written_are_counted(
    log: pd.DataFrame, other, message_part: str
) -> None:
    user = log["user"].astype(str)
    if message_part == "case":
        user = user.replace({str(u): f"{u}a" for u in range(9)})
    users, late = set(user[:200]), set(other(log["user"].astype(str)[200:]))
    frame = log.assign(user=[*user[:200], *other(log["user"].astype(str)[200:])])
    count, message = found(typed(frame))["ids that may be one"]
    assert count == 9 if message_part == "case" else 20
    assert message_part in message
    assert f"of {len(users | late)} values of user" in message


def test_lists_that_are_not_read_as_such_are_named(log: pd.DataFrame) -> None:
    unlisted = Columns(label="click", user="user", item="item", categorical=("tags",))
    count, message = found(log, unlisted)["multi-value columns"]
    assert count == 2
    assert "2 of 3 values of tags" in message
    assert "under several" in message
    commas = typed(log.assign(tags=log["tags"].astype(str).str.replace("|", ",")))
    assert "no cell of tags holds '|'" in found(commas)["multi-value columns"][1]


def test_a_pile_of_texts_of_the_greatest_length_may_be_truncated(log: pd.DataFrame) -> None:
    random = np.random.default_rng(2)
    texts = ["".join(random.choice([*"abcdef"], random.integers(5, 60))) for _ in range(400)]
    assert "truncated cells" not in found(typed(log.assign(city=texts)))
    count, message = found(typed(log.assign(city=[text[:40] for text in texts])))["truncated cells"]
    assert count == len({text[:40] for text in texts if len(text) >= 40})
    assert "exactly 40 characters" in message
    hashes = [f"{hash(text) % 2**64:016x}{n:016x}" for n, text in enumerate(texts)]
    assert "truncated cells" not in found(typed(log.assign(city=hashes)))


@pytest.mark.parametrize(
    ("changed", "message_part"),
    [
        ({"price": 7.5}, "price is 7.5"),
        ({"price": np.nan}, "price is missing in all rows"),
        ({"city": "oslo"}, "city is 'oslo' in all rows"),
        ({"city": ""}, "city is always empty"),
    ],
)
def test_columns_that_say_nothing_are_named(
    log: pd.DataFrame, changed: dict, message_part: str
) -> None:
    assert message_part in found(typed(log.assign(**changed)))["constant columns"][1]


def test_extreme_numbers_are_named_with_their_distance(log: pd.DataFrame) -> None:
    log.loc[[3, 77], "price"] = [5e4, 1e6]
    count, message = found(log)["extreme outliers"]
    spread = 1.4826 * (log["price"] - log["price"].median()).abs().median()
    distance = (1e6 - log["price"].median()) / spread
    assert count == 2
    assert f"1e+06 lies {distance:,.0f} robust" in message
    raw = Columns(label="click", dense=("views",))
    assert f"{log['views'].max():g} lies" in found(log, raw)["extreme outliers"][1]  # not as a log
    many_zeros = pd.DataFrame({"click": [0, 1] * 200, "views": [0.0] * 380 + [1.0] * 19 + [9e9]})
    assert found(many_zeros, raw)["extreme outliers"][0] == 1


def test_a_declared_context_that_follows_from_the_item_is_an_anomaly(log: pd.DataFrame) -> None:
    log["city"] = pd.Categorical("c" + log["item"].astype(str).str[-1])
    silent = audit_log(log, COLUMNS, duplicates="drop")[1].findings
    assert [each.columns for each in silent if "follow from" in each.check] == [("city",)]
    assert found(log) == {}
    declared = Columns(user="user", item="item", categorical=("city",), context=("city",))
    assert "city follows from item" in found(log, declared)["columns that follow from the item"][1]


def of_parts(parts: Parts, columns: Columns) -> dict[str, int]:
    findings = with_parts(Audit(0, 0), parts, columns).findings
    return {each.check: each.count for each in findings if each.anomaly}


def test_rows_of_two_splits_and_rare_classes_are_counted(log: pd.DataFrame) -> None:
    generator = torch.Generator().manual_seed(0)
    twice = pd.concat([log, log[:50]], ignore_index=True)
    parts = Random(0.2, 0.2).split(twice, COLUMNS, generator)
    train = set(parts.train.frame.itertuples(index=False))
    held = pd.concat([part.frame for part in parts[1:]]).itertuples(index=False)
    findings = with_parts(audit_log(twice, COLUMNS)[1], parts, COLUMNS).findings
    shared = sum(row in train for row in held)
    assert [each.count for each in findings if each.check == "rows in two splits"] == [shared]
    assert shared > 5
    log["click"] = (log["time"] > 395).astype(int)
    findings = with_parts(Audit(0, 0), ByTime().split(log, COLUMNS, generator), COLUMNS).findings
    small = [each.message for each in findings if each.check == "small splits"]
    assert [message.split(";")[0] for message in small] == [
        "train has 0 rows of click 1 and 280 of 0",
        "val has 0 rows of click 1 and 40 of 0",
        "test has 4 rows of click 1 and 76 of 0",
    ]


def test_held_out_rows_that_are_last_by_file_order_are_counted(log: pd.DataFrame) -> None:
    columns = Columns(user="user", item="item", time="time")
    log = log.drop_duplicates(["user", "item"]).assign(time=lambda rows: rows["time"] // 150)
    parts = LeaveOneOut(5).split(log, columns, torch.Generator())
    ordered = log.sort_values("time", kind="stable").groupby("user", observed=True)["time"]
    tied = (ordered.nth(-1).to_numpy() == ordered.nth(-2).to_numpy()).sum()
    assert 0 < tied < 20
    assert of_parts(parts, columns)["simultaneous held-out rows"] == tied


def test_rows_in_no_split_are_counted() -> None:
    pairs = [("a", item) for item in (1, 2, 3, 9, 9, 9)] + [("b", item) for item in (1, 2, 3, 4)]
    log = pd.DataFrame(pairs, columns=["user", "item"])
    columns = Columns(user="user", item="item")
    parts = LeaveOneOut(1).split(log, columns, torch.Generator())
    findings = with_parts(audit_log(log, columns)[1], parts, columns).findings
    assert [each.count for each in findings if each.check == "rows in no split"] == [2]


def test_cells_wider_than_those_of_training_are_counted(log: pd.DataFrame) -> None:
    parts = ByTime().split(log, COLUMNS, torch.Generator())
    wide = parts.test.frame.assign(tags=pd.Categorical(["a|b|c|d"] * len(parts.test.frame)))
    parts = parts._replace(test=parts.test._replace(frame=wide))
    assert of_parts(parts, COLUMNS)["truncated cells"] == len(wide)


def test_repeats_among_held_out_positives_are_counted(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    rows = [
        (f"u{user}", f"i{item}", 100 * at + user)
        for user in range(40)
        for at, item in enumerate(random.choice(random.choice(90, 4, replace=False), 9))
    ]
    log = pd.DataFrame(rows, columns=["user", "item", "time"])
    log.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "columns.yaml").write_text("user: user\nitem: item\ntime: time\n")
    source = Table(tmp_path / "log.csv", tmp_path / "columns.yaml", split=LeaveOneOut(20))
    data = source.load(0)
    metadata = collect_metadata(data)
    train = {(int(u), int(i)) for u, i in data.train.batch.ids}
    for name in ("val", "test"):
        batch = data.splits[name].batch
        pairs = [(int(u), int(i)) for u, i in batch.ids[batch.targets[:, 0] == 1]]
        known = sum(pair in train for pair in pairs)
        assert metadata["repeats"][name] == {"positives": len(pairs), "known": known}
        assert known > len(pairs) / 2
    assert f"{known} of {len(pairs)} test" in repeats_line(metadata)
    new = Table(source.path, source.columns, split=LeaveOneOut(20), repeats="drop").load(0)
    assert repeats_line(collect_metadata(new)) is None
    assert {each["known"] for each in collect_metadata(new)["repeats"].values()} == {0}


def test_the_terminal_shows_eight_anomalies() -> None:
    findings = [{"message": f"finding {n}", "anomaly": n != 2} for n in range(12)]
    lines = anomaly_lines({"audit": {"rows": 1, "findings": findings}})
    assert lines[:3] == ["finding 0", "finding 1", "finding 3"]
    assert len(lines) == 9
    assert lines[-1] == "and 3 more, see data.json"
    assert anomaly_lines({"audit": {"rows": 1, "findings": findings[:3]}}) == [
        "finding 0",
        "finding 1",
    ]
    assert anomaly_lines({"audit": None}) == []
