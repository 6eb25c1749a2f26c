import numpy as np
import pandas as pd
import pytest

from glassrec.data.columns import Columns, check_names, check_values
from glassrec.data.text_file import Format, Origin

CLICKS = Columns(label="click", categorical=("x",))


def test_user_and_item_come_first_among_the_fields(tmp_path):
    columns = Columns(categorical=("city", "brand"), user="who", item="what", item_side=("brand",))
    assert columns.fields == ("who", "what", "city", "brand")
    assert columns.item_fields == ("what", "brand")


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"label": "x", "dense": ("x",)}, "named twice: x"),
        ({"label": "x"}, "no column to learn from"),
        (
            {"dense": ("price",), "log": ("prise",)},
            "log: no such column 'prise'; did you mean 'price'",
        ),
        ({"dense": ("price",), "missing_ok": ("age",)}, "missing_ok: no such column 'age'"),
        (
            {"dense": ("price",), "ranges": {"prise": (0, 1)}},
            "ranges: no such column 'prise'; did you mean 'price'",
        ),
        ({"dense": ("age",), "ranges": {"age": (9, 0)}}, r"age is \[9, 0\]; write the lower"),
        ({"dense": ("age",), "ranges": {"age": (0, np.nan)}}, r"ranges: age is \[0, nan\]"),
        ({"categorical": ("brand",), "item_side": ("brand",)}, "item_side needs an item"),
        (
            {"item": "i", "categorical": ("a",), "item_side": ("b",)},
            "item_side: no such column 'b'",
        ),
    ],
)
def test_roles_that_contradict_each_other_are_refused(roles, message):
    with pytest.raises(ValueError, match=message):
        Columns(**roles)


def test_unknown_and_duplicate_names_are_refused():
    with pytest.raises(ValueError, match=r"t.csv: no column 'prise'.*did you mean 'price'"):
        check_names(["prise"], ["label", "price"], "t.csv")
    with pytest.raises(ValueError, match="2 columns are called 'price'"):
        check_names(["price"], ["price", "price"], "t.csv")
    check_names(["label"], ["label", "price", "price"], "t.csv")


def origin_of(path, column):
    """Of a CSV file that holds the column, an empty cell as the word nan."""
    column.to_csv(path, index=False, na_rep="nan")
    return Origin(path, Format(",", header=True))


@pytest.mark.parametrize("wrong", [2, -1, 0.5, np.nan])
def test_a_label_other_than_0_or_1_is_refused_by_line(tmp_path, wrong):
    labels = pd.Series([0, 1, wrong, 7], name="click")
    with pytest.raises(ValueError, match=r"t.csv, line 4: click is"):
        check_values(labels.to_frame(), CLICKS, origin_of(tmp_path / "t.csv", labels))


def test_labels_may_be_numbers_or_truth_values(tmp_path):
    for labels in ([0, 1], [0.0, 1.0], [False, True]):
        check_values(pd.DataFrame({"click": labels}), CLICKS, Origin(tmp_path))


def test_dense_values_must_be_finite_and_may_be_missing_where_allowed(tmp_path):
    frame = pd.DataFrame({"age": [1.0, np.nan, np.inf]})
    origin = origin_of(tmp_path / "t.csv", frame["age"])
    with pytest.raises(ValueError, match=r"line 3: age is nan.*list 'age' under missing_ok"):
        check_values(frame, Columns(dense=("age",)), origin)
    allowed = Columns(dense=("age",), missing_ok=("age",))
    with pytest.raises(ValueError, match="line 4: age is inf"):
        check_values(frame, allowed, origin)
    check_values(frame.head(2), allowed, origin)


@pytest.mark.parametrize("outside", [-0.5, 120.5])
def test_a_number_outside_its_declared_range_is_refused_by_line(tmp_path, outside):
    frame = pd.DataFrame({"age": [0.0, np.nan, 120.0, outside], "price": 1e9})
    columns = Columns(
        dense=("age", "price"),
        missing_ok=("age",),
        ranges={"age": (0, 120), "price": (0, np.inf)},
    )
    origin = origin_of(tmp_path / "t.csv", frame["age"])
    message = rf"t.csv, line 5: age is {outside}, outside its range \[0, 120\].*under ranges"
    with pytest.raises(ValueError, match=message):
        check_values(frame, columns, origin)
    check_values(frame.head(3), columns, origin)
