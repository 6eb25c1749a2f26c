import hashlib

import numpy as np
import pandas as pd
import pytest

from glassrec.data.reading import INTEGER, NUMBER, TEXT, fingerprint, read_parquet, read_text

PAIR = {"user": INTEGER, "item": INTEGER}


def written(tmp_path, text, name="rows.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    return path


def test_columns_have_the_types_asked_for(tmp_path):
    path = written(tmp_path, "7\t1.5\tx\n8\t\t\n")
    frame = read_text(path, {"a": INTEGER, "b": NUMBER, "c": TEXT})
    assert frame["a"].tolist() == [7, 8]
    np.testing.assert_array_equal(frame["b"], [1.5, np.nan])
    assert frame["c"].tolist() == ["x", ""]


def test_two_character_separators_and_latin_1_are_read(tmp_path):
    path = written(tmp_path, "1::Misérables, Les: 1995\n")
    frame = read_text(path, {"id": INTEGER, "title": TEXT}, separator="::", encoding="latin-1")
    assert frame["title"].tolist() == ["Misérables, Les: 1995"]


def test_a_header_and_quotes_are_understood_and_other_columns_skipped(tmp_path):
    path = written(tmp_path, 'a,b,c\n1,"x,y",2\n')
    frame = read_text(path, {"b": TEXT}, names=["a", "b", "c"], separator=",", quote='"')
    assert frame.to_dict("list") == {"b": ["x,y"]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1\t2\n3\n", r"rows.txt, line 2: 1 cells where there should be 2 \(user, item\)"),
        ("1\t2\n3\t4\t5\n", "rows.txt, line 2: 3 cells where there should be 2"),
        ("1\t2\n3\tx\n", "rows.txt, line 2: item is 'x', not a whole number"),
        ("1\t2\n3\t4.5\n", "rows.txt, line 2: item is '4.5', not a whole number"),
        ("1\t2\n3\t4\n\t6\n", "rows.txt, line 3: user is empty"),
        ("1\t2\n\n3\t4\n", "rows.txt, line 2: user is empty"),
        ("", "rows.txt: the file is empty"),
    ],
)
def test_a_malformed_file_is_refused_by_line(tmp_path, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_text(written(tmp_path, text), PAIR)


def test_the_line_is_right_deep_in_a_large_file_with_a_header(tmp_path):
    lines = [f"{row}\t{row}" for row in range(300_000)]
    lines[249_999] = "7\tseven"
    path = written(tmp_path, "\n".join(["user\titem", *lines]))
    with pytest.raises(ValueError, match="line 250001: item is 'seven'"):
        read_text(path, PAIR, names=["user", "item"])


def test_text_in_another_encoding_is_refused_by_line(tmp_path):
    with pytest.raises(ValueError, match="line 2: name is not UTF-8 text"):
        read_text(written(tmp_path, "ok\ncaf\xe9\n"), {"name": TEXT})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone.txt: no such file"):
        read_text(tmp_path / "gone.txt", PAIR)


def test_a_header_alone_is_no_data(tmp_path):
    with pytest.raises(ValueError, match="holds no rows"):
        read_text(written(tmp_path, "user\titem\n"), PAIR, names=["user", "item"])


def test_parquet_gives_the_same_types_as_text(tmp_path):
    path = tmp_path / "rows.parquet"
    raw = {"a": [1, 2], "b": [True, False], "c": ["x", None], "d": [1, None]}
    pd.DataFrame(raw).to_parquet(path)
    frame = read_parquet(path, {"a": TEXT, "b": NUMBER, "c": TEXT, "d": NUMBER})
    assert frame["a"].tolist() == ["1", "2"]
    assert frame["b"].tolist() == [1.0, 0.0]
    assert frame["c"].tolist() == ["x", ""]
    np.testing.assert_array_equal(frame["d"], [1.0, np.nan])


def test_parquet_of_the_wrong_type_names_the_column(tmp_path):
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"price": ["1", "cheap"]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"column 'price' is not a number: .*cheap"):
        read_parquet(path, {"price": NUMBER})


def test_what_is_not_parquet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a readable parquet file"):
        read_parquet(written(tmp_path, "a,b\n1,2\n", "rows.parquet"), {"a": TEXT})


def test_the_fingerprint_is_the_sha256_by_name(tmp_path):
    path = written(tmp_path, "1\t2\n")
    assert fingerprint([path]) == {"rows.txt": hashlib.sha256(b"1\t2\n").hexdigest()}
    with pytest.raises(ValueError, match="no such file"):
        fingerprint([path, tmp_path / "gone.txt"])
