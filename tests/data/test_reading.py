import bz2
import gzip
import hashlib
import io
import pickle
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glassrec.data.cells import INTEGER, LIST_MARK, NUMBER, TEXT
from glassrec.data.content import fingerprint
from glassrec.data.parquet import read_parquet
from glassrec.data.text_file import Format, Origin, TextFile, read_text

PAIR = {"user": INTEGER, "item": INTEGER}
CSV = Format(",", quotes=True, header=True)


def written(tmp_path, text, name="rows.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
    return path


def read_csv(path, types, form=CSV):
    return TextFile.open(path, form).read(types)


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
    frame = read_csv(path, {"b": TEXT})
    assert frame.to_dict("list") == {"b": ["x,y"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t2\n3\n", r"rows.txt, line 2: 1 cells where there should be 2 \(user, item\)"),
        ("1\t2\n3\t4\t5\n", "rows.txt, line 2: 3 cells where there should be 2"),
        ("1\t2\n3\tx\n", "rows.txt, line 2: item is 'x', not a whole number"),
        ("1\t2\n3\t4.5\n", "rows.txt, line 2: item is '4.5', not a whole number"),
        ("1\t2\n3\t4\n\t6\n", "rows.txt, line 3: user is empty"),
        ("\n1\t2\n\n \n\t4\n", "rows.txt, line 5: user is empty"),
        ("", "rows.txt: the file is empty"),
    ],
)
def test_a_malformed_file_is_refused_by_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_text(written(tmp_path, text), PAIR)


def test_the_line_is_right_deep_in_a_large_file_with_a_header(tmp_path):
    lines = [f"{row}\t{row}" for row in range(120_000)]
    lines[99_999] = "7\tseven"
    path = written(tmp_path, "\n".join(["user\titem", *lines]))
    with pytest.raises(ValueError, match="line 100001: item is 'seven'"):
        read_csv(path, PAIR, Format(header=True))


def test_text_in_another_encoding_is_refused_by_line(tmp_path):
    with pytest.raises(ValueError, match="line 2: name is not UTF-8 text"):
        read_text(written(tmp_path, "ok\ncaf\xe9\n"), {"name": TEXT})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone.txt: no such file"):
        read_text(tmp_path / "gone.txt", PAIR)


def test_a_header_alone_is_no_data(tmp_path):
    with pytest.raises(ValueError, match="holds no rows"):
        read_csv(written(tmp_path, "user\titem\n"), PAIR, Format(header=True))


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
    with pytest.raises(ValueError, match=r"row 2: price is 'cheap', not a number"):
        read_parquet(path, {"price": NUMBER})


def test_what_is_not_parquet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a readable parquet file"):
        read_parquet(written(tmp_path, "a,b\n1,2\n", "rows.parquet"), {"a": TEXT})


# --- lines and quotes -------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 60_000])  # Arrow reads blocks of a MiB
def test_line_breaks_in_quotes_are_read_in_files_of_any_size(tmp_path, rows):
    titles = [f'one, of {row}\ntwo "{"x" * (row % 9)}"' for row in range(rows)]
    frame = pd.DataFrame({"user": range(rows), "title": titles})
    frame.to_csv(tmp_path / "rows.txt", index=False)
    found = read_csv(tmp_path / "rows.txt", {"user": INTEGER, "title": TEXT})
    assert found["user"].tolist() == list(range(rows))
    assert found["title"].tolist() == titles


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_the_line_of_a_row_is_the_one_an_editor_shows(tmp_path, newline, bom):
    lines = ["", 'a,"b\n"', "", "1,2", '"x\ny",3', " ", "4,5", '"6",', '7,"""8"', '9,5" pipe']
    text = newline.join("\n".join(lines).split("\n"))
    path = written(tmp_path, bom + text.encode())
    assert read_csv(path, {"a": TEXT, "b": TEXT})["b"].tolist() == [
        *("2", "3", "5", "", '"8', '5" pipe')
    ]
    origin = Origin(path, CSV)
    assert [origin.at(row).split()[-1] for row in range(6)] == ["5", "6", "9", "10", "11", "12"]
    with pytest.raises(ValueError, match="line 6: a is 'x"):
        read_csv(path, {"a": NUMBER})


def test_a_file_that_is_gone_leaves_the_row(tmp_path):
    assert Origin(tmp_path / "gone.csv").at(4) == f"{tmp_path / 'gone.csv'}, row 5"


STRAY = "user,city,click\n" + "".join(f"u{n},{'{}'},{n % 2}\n" for n in range(40))


def with_cells(cells):
    return STRAY.format(*(cells.get(n, "a") for n in range(40)))


@pytest.mark.parametrize(
    ("cells", "line", "message"),
    [
        ({5: '"big', 30: '"big'}, 7, "text follows the next quote, in line 32"),
        ({5: '"big'}, 7, "never closed"),
        ({5: '"big', 30: 'big"'}, 7, "goes on to line 32, and each of these lines reads as a row"),
        ({5: '"big', 6: 'big"'}, 7, "goes on to line 8"),
        ({5: '"12" pipe"'}, 7, "text follows the next quote, in line 7"),
    ],
)
def test_stray_quotes_are_refused_by_line(tmp_path, cells, line, message):
    path = written(tmp_path, with_cells(cells))
    types = {"user": TEXT, "city": TEXT, "click": NUMBER}
    with pytest.raises(ValueError, match=f"rows.txt, line {line}: .*{message}.*data.quotes"):
        read_csv(path, types)
    plain = read_csv(path, types, Format(",", header=True))
    assert len(plain) == 40
    assert plain["city"][5] == cells[5]


def test_cells_of_several_lines_with_separators_are_no_stray_quotes(tmp_path):
    cells = {5: '"good,\nbut small, not red,\n"', 6: '"a\nb,c,d\n""e"" "', 7: '5" pipe', 8: '""'}
    frame = read_csv(written(tmp_path, with_cells(cells)), {"city": TEXT, "click": NUMBER})
    assert frame["city"][5:9].tolist() == [
        *("good,\nbut small, not red,", 'a\nb,c,d\n"e"', '5" pipe', "")
    ]


def test_a_line_of_blanks_is_an_empty_cell_where_there_is_one_column(tmp_path):
    frame = read_csv(written(tmp_path, 'a\n\nx\n  \n""\n'), {"a": TEXT})
    assert frame["a"].tolist() == ["x", "", ""]


def test_very_long_lines_are_read(tmp_path):
    path = written(tmp_path, f"a,b\n1,{'x' * 5_000_000}\n2,y\n")
    assert read_csv(path, {"b": TEXT})["b"].str.len().tolist() == [5_000_000, 1]


def test_separators_of_several_characters_and_quotes(tmp_path):
    path = written(tmp_path, 'a::b\n1::"x::y"\n')
    assert read_csv(path, {"b": TEXT}, Format("::", True, True))["b"].tolist() == ["x::y"]
    with pytest.raises(ValueError, match=r"U\+001F"):
        read_text(written(tmp_path, "1\x1f2::3\n"), {"a": TEXT, "b": TEXT}, separator="::")


# --- cells ------------------------------------------------------------------------------------


def test_blanks_around_cells_and_names_are_removed(tmp_path):
    text = ' user ,"city "\nu1, rome\nu1 ," rome "\n\xa0u1\t,rome\n'.encode()
    frame = read_csv(written(tmp_path, text), {"user": TEXT, "city": TEXT})
    assert frame["user"].cat.categories.tolist() == ["u1"]
    assert frame["city"].cat.categories.tolist() == ["rome"]
    pd.DataFrame({"user": ["u1", " u1", "u1\xa0"]}).to_parquet(tmp_path / "rows.parquet")
    frame = read_parquet(tmp_path / "rows.parquet", {"user": TEXT})
    assert frame["user"].cat.categories.tolist() == ["u1"]


def test_truth_values_are_numbers(tmp_path):
    path = written(tmp_path, "a{b},x\nTrue,1\nfalse, 2\nFALSE,+3\ntrue ,\n1,\xa04\n".encode())
    frame = read_csv(path, {"a{b}": NUMBER, "x": NUMBER})
    assert frame["a{b}"].tolist() == [1, 0, 0, 1, 1]
    np.testing.assert_array_equal(frame["x"], [1, 2, 3, np.nan, 4])
    with pytest.raises(ValueError, match=r"line 2: a\{b\} is 'True', not a whole number"):
        read_csv(path, {"a{b}": INTEGER})


@pytest.mark.parametrize("large", ["1e308", "-1e39"])
def test_numbers_too_large_to_scale_are_refused(tmp_path, large):
    path = written(tmp_path, f"x\n1\n\n{large}\n")
    with pytest.raises(ValueError, match=rf"line 4: x is {large[:2]}.*too large"):
        read_csv(path, {"x": NUMBER})
    pd.DataFrame({"x": [1.0, float(large)]}).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=rf"row 2: x is {large[:2]}.*too large"):
        read_parquet(tmp_path / "rows.parquet", {"x": NUMBER})


def test_whole_numbers_have_64_bits(tmp_path):
    ends = [str(-(2**63)), str(2**63 - 1)]
    assert read_text(written(tmp_path, "\n".join(ends)), {"a": INTEGER})["a"].tolist() == [
        *map(int, ends)
    ]
    with pytest.raises(ValueError, match="line 2: a is '9223372036854775808'"):
        read_text(written(tmp_path, f"1\n{2**63}\n"), {"a": INTEGER})


# --- content ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, pa.Codec("zstd").compress])
def test_compressed_text_is_recognised_by_content(tmp_path, pack):
    packed = bytes(pack(b"1\t2\n3\t4\n"))
    assert read_text(written(tmp_path, packed, "rows.csv"), PAIR)["item"].tolist() == [2, 4]
    with pytest.raises(ValueError, match=r"rows.csv.*(damaged|empty)"):
        read_text(written(tmp_path, packed[:-9], "rows.csv"), PAIR)


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", "1\t2\n")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("1\t2\n".encode("utf-16"), "UTF-16 text; save"),
        ("1\t2\n".encode("utf-16-le"), "UTF-16"),
        ("1\t2\n".encode("utf-32"), "UTF-32 text; save"),
        (zipped(), "a zip archive or an Excel workbook"),
        (pickle.dumps([1]), "a pickle"),
        (b"SQLite format 3\0\x10", "an SQLite database"),
        (b"\x89PNG\r\n\x1a\n\0", "an image"),
        (b"1\t2\n3\t4\0\n", "line 2: there is a NUL byte"),
        (b"1\t2\n\x93\xfa\x02\x03\t4\n", "line 2: user is not UTF-8 text"),
    ],
)
def test_what_is_not_utf_8_text_is_refused_without_raw_bytes(tmp_path, content, kind):
    with pytest.raises(ValueError, match=kind) as refusal:
        read_text(written(tmp_path, content), {"user": TEXT, "item": TEXT})
    assert str(refusal.value).isprintable()
    assert "rows.txt" in str(refusal.value)


@pytest.mark.parametrize("name", ["ORCID", "PAR1", "BZh", "ARROW1", "%PDF-"])
def test_a_header_like_the_mark_of_another_format_is_text(tmp_path, name):
    frame = read_csv(written(tmp_path, f"{name},b\n1,2\n"), {name: NUMBER})
    assert frame[name].tolist() == [1.0]


def test_a_header_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(ValueError, match="line 1: not UTF-8 text"):
        read_csv(written(tmp_path, b"caf\xe9,b\n1,2\n"), {"b": TEXT})


# --- parquet ----------------------------------------------------------------------------------


def test_parquet_lists_keep_their_values(tmp_path):
    raw = {
        "words": pa.array([["a|b", " c"], [], None, ["d", None]], pa.list_(pa.string())),
        "ids": pa.array([[1, 2], [None], [3], []], pa.large_list(pa.int64())),
        "pair": pa.array([["a", "b"]] * 4, pa.list_(pa.string(), 2)),
    }
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(raw), path, row_group_size=3)
    frame = read_parquet(path, dict.fromkeys(raw, TEXT), lists=raw)
    cells = {name: [cell.split(LIST_MARK)[1:] for cell in frame[name]] for name in raw}
    assert cells == {
        "words": [["a|b", "c"], [], [], ["d", ""]],
        "ids": [["1", "2"], [""], ["3"], []],
        "pair": [["a", "b"]] * 4,
    }
    with pytest.raises(ValueError, match=r"'words' is not text but list.*several"):
        read_parquet(path, {"words": TEXT})


def test_parquet_ids_have_no_decimal_point_and_others_are_text(tmp_path):
    time = pd.Timestamp("2024-01-31 12:30")
    raw = pa.table(
        {
            "float": pa.array([12.0, None, float("nan")]),
            "large": pa.array([2**64 - 1, None, 0], pa.uint64()),
            "category": pa.array(["x", "y", "x"]).dictionary_encode(),
            "time": pa.array([time, None, time]),
        }
    )
    path = tmp_path / "rows"
    pq.write_table(raw, path)
    frame = read_parquet(path, dict.fromkeys(raw.column_names, TEXT)).astype(str)
    assert frame["float"].tolist() == ["12", "", ""]
    assert frame["large"].tolist() == [str(2**64 - 1), "", "0"]
    assert frame["category"].tolist() == ["x", "y", "x"]
    assert pd.Timestamp(frame["time"][0]) == time
    with pytest.raises(ValueError, match="'time' is not a number but timestamp"):
        read_parquet(path, {"time": NUMBER})


def test_the_fingerprint_is_the_sha256_by_name(tmp_path):
    path = written(tmp_path, "1\t2\n")
    assert fingerprint([path]) == {"rows.txt": hashlib.sha256(b"1\t2\n").hexdigest()}
    with pytest.raises(ValueError, match="no such file"):
        fingerprint([path, tmp_path / "gone.txt"])
