import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.cells import NUMBER
from glassrec.data.schema import Target
from glassrec.data.splits import ByTime, Given, LeaveOneOut
from glassrec.data.table import Table, read_columns
from glassrec.data.text_file import Format, TextFile

ROLES = """
label: clicked
user: who
item: sku
categorical: [city, brand]
item_side: [brand]
dense: [price, age]
missing_ok: [age]
time: at
split: fold
"""


@pytest.fixture
def frame():
    random = np.random.default_rng(0)
    n = 60
    sku = random.integers(12, size=n)
    return pd.DataFrame(
        {
            "at": [f"2024-01-{1 + row % 28:02d}T{row % 24:02d}:00:00" for row in range(n)],
            "clicked": random.integers(2, size=n),
            "who": [f"u{row % 6}" for row in range(n)],
            "sku": [f"00{item}" for item in sku],
            "brand": [f"b{item % 3}" for item in sku],
            "city": random.choice(["rome", "oslo", ""], n),
            "price": random.gamma(2.0, 10.0, n).round(3),
            "age": np.where(random.random(n) < 0.2, np.nan, random.integers(18, 80, n)),
            "fold": random.choice(["train", "train", "validation", "test"], n),
            "ignored": "x",
        }
    )


def source(root, frame, roles=ROLES, name="rows.csv", **settings):
    (root / "columns.yaml").write_text(roles)
    if name.endswith("parquet"):
        frame.to_parquet(root / name)
    else:
        frame.to_csv(root / name, index=False)
    return Table(root / name, root / "columns.yaml", **settings)


def without(role):
    return "".join(line + "\n" for line in ROLES.splitlines() if not line.startswith(role))


def test_csv_and_parquet_give_the_same_tensors(tmp_path, frame):
    text, binary = (
        source(tmp_path, frame, name=name, split=Given()).load(seed=0)
        for name in ("rows.csv", "rows.parquet")
    )
    assert text.schema == binary.schema
    for ours, theirs in zip(text.splits.values(), binary.splits.values(), strict=True):
        for column, other in zip(ours.batch, theirs.batch, strict=True):
            assert column.equal(other)


def test_roles_become_the_schema(tmp_path, frame):
    schema = source(tmp_path, frame).load(seed=0).schema
    assert schema.field_names == ("who", "sku", "city", "brand")
    assert schema.dense == ("price", "age")
    assert (schema.user, schema.item, schema.targets) == ("who", "sku", (Target("clicked"),))


def test_values_agree_with_a_reading_by_hand(tmp_path, frame):
    data = source(tmp_path, frame, split=Given()).load(seed=0)
    train, test = frame[frame["fold"] == "train"], frame[frame["fold"] == "test"]
    cities = sorted(set(train["city"]))
    ids = (data.test.batch.ids - torch.tensor(data.schema.offsets))[:, 2]
    assert ids.tolist() == [cities.index(city) + 1 for city in test["city"]]
    scaled = (test["age"] - train["age"].mean()) / train["age"].std(ddof=0)
    np.testing.assert_allclose(data.test.batch.dense[:, 1], scaled.fillna(0), atol=1e-6)
    assert data.test.batch.targets[:, 0].tolist() == test["clicked"].tolist()


@pytest.mark.parametrize("numbers", [False, True])
def test_time_may_be_dates_or_numbers(tmp_path, frame, numbers):
    if numbers:
        frame["at"] = np.random.default_rng(1).permutation(len(frame)) - 30.5
    data = source(tmp_path, frame, split=ByTime(0.2, 0.2)).load(seed=0)
    newest = frame.sort_values("at", kind="stable").tail(12)
    assert data.test.batch.targets[:, 0].tolist() == newest["clicked"].tolist()


def test_without_a_label_leave_one_out_ranks(tmp_path, frame):
    frame = frame.drop_duplicates(["who", "sku"])
    split = LeaveOneOut(candidates=2)
    data = source(tmp_path, frame, without("label"), split=split, negatives=3).load(seed=0)
    assert data.ranked
    assert data.schema.targets == (Target("label"),)
    assert data.test.batch.rows == 6 * 3
    assert data.negatives.per_positive == 3
    assert data.catalogue.columns == (1, 3)
    with pytest.raises(ValueError, match=r"every row as a positive.*'clicked'"):
        source(tmp_path, frame, split=split).load(seed=0)


@pytest.mark.parametrize(
    ("name", "separator", "character"),
    [
        ("rows.tsv", None, "\t"),
        ("rows.inter", None, "\t"),
        ("rows.csv", "tab", "\t"),
        ("rows.csv", "\\t", "\t"),
        ("rows.csv", "semicolon", ";"),
        ("rows.tsv", "|", "|"),
    ],
)
def test_another_separator(tmp_path, frame, name, separator, character):
    (tmp_path / "columns.yaml").write_text(ROLES)
    frame.to_csv(tmp_path / name, sep=character, index=False)
    data = Table(tmp_path / name, tmp_path / "columns.yaml", separator=separator).load(seed=0)
    assert data.test.batch.rows == 6


@pytest.mark.parametrize(("character", "word"), [("\t", "tab"), (";", "semicolon"), ("|", "pipe")])
def test_a_header_with_another_separator_is_recognised(tmp_path, frame, character, word):
    (tmp_path / "columns.yaml").write_text(ROLES)
    frame.to_csv(tmp_path / "rows.csv", sep=character, index=False)
    with pytest.raises(ValueError, match=rf"one cell.*did you mean data.separator={word}$"):
        Table(tmp_path / "rows.csv", tmp_path / "columns.yaml").load(seed=0)


def test_column_names_of_several_lines_are_shown_in_one(tmp_path, frame):
    table = source(tmp_path, frame.rename(columns={"ignored": "two\nlines", "price": "prize"}))
    with pytest.raises(ValueError, match=r"no column 'price'.*two\\nlines") as refusal:
        table.load(seed=0)
    assert str(refusal.value).isprintable()
    path = tmp_path / "rows.csv"
    path.write_text('"two\nlines",clicked\n1\n')
    with pytest.raises(ValueError, match=r"line 3: 1 cells .*\(two\\nlines, clicked\)"):
        TextFile.open(path, Format(",", True, True)).read({"clicked": NUMBER})


@pytest.mark.parametrize(
    ("separator", "message"), [("", "write data.separator=tab"), ("tabs", "did you mean 'tab'")]
)
def test_a_separator_that_is_none_is_refused(separator, message):
    with pytest.raises(ValueError, match=f"data.separator: {separator!r} .*{message}"):
        Table("rows.csv", "columns.yaml", separator=separator)


@pytest.mark.parametrize(("given", "separator"), [("[tags]", "|"), ('{tags: ";"}', ";")])
def test_several_values_of_text_and_of_lists_are_the_same(tmp_path, frame, given, separator):
    tags = [["a", "b"], ["c"], [], ["b", "a", "c"]] * 15
    roles = f"categorical: [tags]\nseveral: {given}\nlabel: clicked\n"
    text = frame.assign(tags=[separator.join(each) for each in tags])
    ids = [
        source(tmp_path, rows, roles, name=name).load(seed=0).train.batch.ids
        for rows, name in ((text, "rows.csv"), (frame.assign(tags=tags), "rows.parquet"))
    ]
    assert ids[0].equal(ids[1])
    assert ids[0].shape[1] == 3


def test_values_of_a_list_may_hold_the_separator(tmp_path, frame):
    roles = "categorical: [tags]\nseveral: [tags]\nlabel: clicked\n"
    rows = frame.assign(tags=[["a|b"], ["a", "b"]] * 30)
    schema = source(tmp_path, rows, roles, name="rows.parquet").load(seed=0).schema
    assert schema.fields[0].size == 4


def test_a_number_too_far_from_the_training_rows_is_refused(tmp_path, frame):
    frame["price"] = np.where(frame["fold"] == "train", frame["price"] * 1e-100, 1.0)
    with pytest.raises(ValueError, match=r"price: 1.0 cannot be scaled; .* deviation .*e-99"):
        source(tmp_path, frame, split=Given()).load(seed=0)


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("clicked", 2, "clicked is 2.0; a label must be 0 or 1"),
        ("price", np.nan, "price is nan, not a finite number.*missing_ok"),
        ("age", np.inf, "age is inf"),
        ("sku", "", "sku is empty"),
        ("at", "yesterday", "at is 'yesterday', not a time"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, frame, name, column, value, message):
    frame.loc[10, column] = value
    where = f"{name}, line 12: " if name == "rows.csv" else f"{name}, row 11: "
    with pytest.raises(ValueError, match=where + message):
        source(tmp_path, frame, name=name).load(seed=0)


def test_text_in_a_dense_column_and_ragged_rows_are_named(tmp_path, frame):
    table = source(tmp_path, frame)
    path = tmp_path / "rows.csv"
    good = path.read_text().splitlines()
    price = str(frame["price"][3])
    path.write_text("\n".join([*good[:4], good[4].replace(price, "cheap"), *good[5:]]))
    with pytest.raises(ValueError, match=r"rows.csv, line 5: price is 'cheap', not a number"):
        table.load(seed=0)
    path.write_text("\n".join([*good[:4], good[4] + ",more", *good[5:]]))
    with pytest.raises(ValueError, match=r"rows.csv, line 5: 11 cells where there should be 10"):
        table.load(seed=0)


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_unknown_missing_and_empty_are_refused(tmp_path, frame, name):
    roles = ROLES.replace("[price, age]", "[prise, age]")
    with pytest.raises(ValueError, match=rf"{name}: no column 'prise'.*did you mean 'price'"):
        source(tmp_path, frame, roles, name=name).load(seed=0)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{name}: the file is empty"):
        Table(tmp_path / name, tmp_path / "columns.yaml").load(seed=0)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: no such file"):
        Table(tmp_path / name, tmp_path / "columns.yaml").load(seed=0)


def test_a_column_that_is_there_twice_is_refused(tmp_path, frame):
    table = source(tmp_path, frame.rename(columns={"ignored": "price"}))
    with pytest.raises(ValueError, match="2 columns are called 'price'"):
        table.load(seed=0)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("lable: clicked", "no role 'lable'.*did you mean 'label'"),
        ("dense: price", "dense: .*'price'"),
        ("label: [a, b]", "label: .*string"),
        ("label: a\ndense: [a]", "named twice: a"),
        ("- label", "a mapping of roles to columns"),
        ("label: [", "not YAML"),
    ],
)
def test_a_wrong_columns_file_is_refused(tmp_path, roles, message):
    path = tmp_path / "columns.yaml"
    path.write_text(roles)
    with pytest.raises(ValueError, match=r"columns.yaml: .*" + message):
        read_columns(path)


def test_the_fingerprint_covers_both_files(tmp_path, frame):
    assert set(source(tmp_path, frame).fingerprint()) == {"rows.csv", "columns.yaml"}


def test_rare_categories_share_the_unseen_id(tmp_path, frame):
    frame.loc[frame.index[frame["fold"] == "train"][0], "city"] = "lima"
    sizes = [
        source(tmp_path, frame, split=Given(), min_count=n).load(0).schema.fields[2].size
        for n in (1, 2)
    ]
    assert sizes == [5, 4]


def test_declared_ranges_are_scaled_and_hold_every_row(tmp_path, frame):
    roles = ROLES + "ranges: {age: [0, 120], price: [0, .inf]}\n"
    data = source(tmp_path, frame, roles, split=Given()).load(seed=0)
    train = frame[frame["fold"] == "train"]
    ages = train["age"].dropna()
    price, age = data.schema.ranges
    expected = [(end - ages.mean()) / ages.std(ddof=0) for end in (0, 120)]
    assert age == pytest.approx(expected, rel=1e-6)
    assert price[0] == pytest.approx(-train["price"].mean() / train["price"].std(ddof=0), rel=1e-6)
    assert price[1] == np.inf
    for split in data.splits.values():
        for column, (low, high) in zip(split.batch.dense.T, data.schema.ranges, strict=True):
            assert low <= column.min() <= column.max() <= high


def test_a_row_outside_a_declared_range_is_refused_by_line(tmp_path, frame):
    frame.loc[7, "price"] = 5000.0
    roles = ROLES + "ranges: {price: [0, 1000]}\n"
    with pytest.raises(ValueError, match=r"rows.csv, line 9: price is 5000.0, outside its range"):
        source(tmp_path, frame, roles).load(seed=0)


@pytest.mark.parametrize("wrong", ["[0]", "120", "[0, old]"])
def test_a_range_that_is_no_pair_of_numbers_is_refused(tmp_path, frame, wrong):
    with pytest.raises(ValueError, match=r"columns.yaml: ranges.age"):
        source(tmp_path, frame, ROLES + f"ranges: {{age: {wrong}}}\n").load(seed=0)
