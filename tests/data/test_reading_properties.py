"""Generated files are read as independent readers read them, or are refused with file and line.

The references are the `csv` module and the Python objects of a parquet file. GLASSREC_EXAMPLES sets
how many files of each kind are generated; `make fuzz` takes 10,000.
"""

import bz2
import csv
import datetime
import decimal
import gzip
import io
import math
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from glassrec.data.columns import Columns
from glassrec.data.table import Table

EXAMPLES = int(os.environ.get("GLASSREC_EXAMPLES", "60"))
FILES = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 1000,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

MISSING = {
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"),
}
FLOAT32 = 3.4028234663852886e38


# --- the reference for text ----------------------------------------------------------------------


def number(cell):
    """The number that a cell holds; ValueError if there is none."""
    cell = cell.strip()
    if cell in MISSING:
        return math.nan
    if cell.lower() in ("true", "false"):
        return float(cell.lower() == "true")
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    value = float(cell)
    if math.isfinite(value) and abs(value) > FLOAT32:
        raise ValueError(cell)
    return value


def rows_of(text, separator, quotes):
    """The line where each row begins, and its cells."""
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=separator, quoting=quoting)
    line, width = 1, 0
    for cells in reader:
        blank = len(cells) < 2 and not "".join(lines[line - 1 : reader.line_num]).strip()
        if cells and not (blank and width != 1):
            width = width or len(cells)
            yield line, cells
        line = reader.line_num + 1


def text_in(raw):
    """The text of the bytes; those that are no UTF-8 become surrogates."""
    return raw.decode(errors="surrogateescape")


def reference(text, separator, quotes, kinds):
    """The columns, and the lines of rows that cannot be read."""
    (_, header), *rows = rows_of(text, separator, quotes)
    names = [name.strip() for name in header]
    places = [names.index(name) for name in kinds]
    columns, faults = {name: [] for name in kinds}, []
    for line, cells in rows:
        try:
            if len(cells) != len(names):
                raise ValueError(cells)
            for at in places:
                cells[at].encode()  # ValueError where bytes were no UTF-8
            values = [
                number(cells[at]) if kind == "number" else cells[at].strip()
                for at, kind in zip(places, kinds.values(), strict=True)
            ]
        except ValueError:
            faults.append(line)
            continue
        for name, value in zip(kinds, values, strict=True):
            columns[name].append(value)
    return columns, faults


# --- generated text ------------------------------------------------------------------------------

SEPARATORS = [",", ";", "\t", "|"]
PLAIN = st.sampled_from(
    [
        "a",
        "b1",
        "12",
        "12.0",
        "007",
        " x ",
        "\xa0y",
        "z\t",
        "ü",
        "中",
        "# c",
        "'q'",
        "NA",
        "",
        "True",
    ]
)
AWKWARD = st.text(st.sampled_from('ab1 \t,;|"\n\r\xa0\x1fé#'), max_size=6)
NUMBERS = st.one_of(
    st.floats(allow_nan=False, width=32).map(str),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        ["", " 5", "5 ", "\xa05", "+5", ".5", "5.", "True", "FALSE", "false", "NA", "nan", "1e-400"]
    ),
)
BAD_NUMBERS = st.sampled_from(["x", "1e308", "-1e39", "1,5", "1_0", "0x1", "1 2", "yes", "٣", "1e"])
BREAKS = ["\n", "\r\n", "\r"]


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"'


@st.composite
def tables(draw):
    """Text, how it is delimited, the kinds of its columns, and whether it must be read."""
    quotes = draw(st.booleans() | st.just(True))
    separator = draw(st.sampled_from(SEPARATORS))
    names = [f"c{at}" for at in range(draw(st.integers(1, 5)))]
    kinds = {name: draw(st.sampled_from(["text", "number"])) for name in names}
    clean = True
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\r"], BREAKS]))
    bad = draw(st.sampled_from([0, 0, 0, 1]))

    def cell(kind):
        nonlocal clean
        if bad and draw(st.integers(0, 9)) == 0:
            clean = False
            return draw(BAD_NUMBERS | st.text(st.sampled_from(f'a1 {separator}"\n'), max_size=5))
        value = draw(NUMBERS if kind == "number" else PLAIN | AWKWARD if quotes else PLAIN)
        awkward = any(each in value for each in (separator, '"', "\n", "\r"))
        if quotes and (awkward or draw(st.integers(0, 4)) == 0):
            # a quoted cell of several lines can look like rows, which is refused
            clean = clean and not ("\n" in value or "\r" in value)
            return quoted(value) + draw(st.sampled_from(["", "", "  "]))
        return value.replace(separator, "_")

    rows = [[draw(st.sampled_from(["", " "])) + quoted(n) if 0 else n for n in names]]
    rows += [[cell(kinds[name]) for name in names] for _ in range(draw(st.integers(0, 8)))]
    text = ""
    for row in rows:
        if draw(st.integers(0, 5)) == 0:
            text += draw(st.sampled_from(["", "  " if len(names) > 1 else ""]))
            text += draw(st.sampled_from(ends))
        line = separator.join(row)
        text += line + draw(st.sampled_from(ends))
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    wanted = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    clean = clean and len(rows) > 1 and len(names) > 1
    return text, separator, quotes, {name: kinds[name] for name in wanted}, clean


def damaged(draw, data):
    """The bytes after an accident, and whether there was one."""
    accident = draw(st.sampled_from([None] * 6 + ["insert", "delete", "swap"]))
    if accident is None or not data:
        return data, False
    at = draw(st.integers(0, len(data) - 1))
    if accident == "insert":
        piece = draw(
            st.sampled_from([b'"', b'"', b"\n", b"\r", b",", b"\0", b"\xff", b"\xc3", b" "])
        )
        return data[:at] + piece + data[at:], True
    if accident == "delete":
        return data[:at] + data[at + 1 :], True
    other = draw(st.integers(0, len(data) - 1))
    start, end = sorted((at, other))
    return data[:start] + b'"' + data[start:end] + b'"' + data[end:], True


def same(ours, theirs):
    if isinstance(theirs, float):
        return ours == theirs or (math.isnan(ours) and math.isnan(theirs))
    return ours == theirs


def assert_same(frame, columns):
    assert list(frame.columns) == list(columns)
    for name, theirs in columns.items():
        ours = frame[name].tolist()
        assert len(ours) == len(theirs)
        assert all(map(same, ours, theirs)), (name, ours, theirs)


def roles(kinds):
    return Columns(
        categorical=tuple(name for name, kind in kinds.items() if kind != "number"),
        several=tuple(name for name, kind in kinds.items() if kind == "several"),
        dense=tuple(name for name, kind in kinds.items() if kind == "number"),
    )


@FILES
@given(st.data())
def test_text_is_read_as_by_the_csv_module_or_refused_with_its_line(data):
    text, separator, quotes, kinds, clean = data.draw(tables())
    raw, hurt = damaged(data.draw, text.encode())
    with TemporaryDirectory() as root:
        path = Path(root) / "rows.txt"
        bom = data.draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"]))
        packed = data.draw(st.sampled_from([bytes, bytes, gzip.compress, bz2.compress]))
        path.write_bytes(packed(bom + raw))
        columns = roles(kinds)
        kinds = {name: kinds[name] for name in columns.all}
        block = data.draw(st.sampled_from([2, 7, 1 << 20]))
        with patch("glassrec.data.content._BLOCK_BYTES", block):
            compare(path, raw, separator, quotes, kinds, columns, clean and not hurt)


def compare(path, raw, separator, quotes, kinds, columns, must_be_read):
    """The frame of a text file holds what the reference holds, or the refusal is right."""
    try:
        frame, origin = Table(path, path, separator=separator, quotes=quotes).read(columns)
    except ValueError as error:
        event("refused")
        check_refusal(str(error), path, raw, separator, quotes, kinds, must_be_read)
        return
    event("read")
    expected, faults = reference(text_in(raw), separator, quotes, kinds)
    assert not faults
    assert_same(frame, expected)
    check_lines(origin, text_in(raw), separator, quotes, len(frame))


def check_refusal(message, path, raw, separator, quotes, kinds, must_be_read):
    """A refusal names the file, and the line of a row that is indeed at fault."""
    assert not must_be_read, message
    assert message.startswith(str(path)), message
    assert message.isprintable(), message
    line = re.match(r", line (\d+): ", message[len(str(path)) :])
    if line is None:
        whole = (
            "no column",
            "columns are called",
            "holds no rows",
            "header is one cell",
            "is empty",
        )
        assert any(reason in message for reason in whole), message
        return
    line = int(line[1])
    lines = re.split(rb"\r\n|\r|\n", raw)
    if "quote" in message:
        assert quotes
        assert b'"' in lines[line - 1]
    elif "NUL" in message:
        assert b"\0" in lines[line - 1]
    elif ": not UTF-8 text" in message:
        header, *_ = rows_of(text_in(raw), separator, quotes)
        assert line == header[0]
    else:
        _, faults = reference(text_in(raw), separator, quotes, kinds)
        assert line in faults, (message, faults)


def check_lines(origin, text, separator, quotes, count):
    """Every row is at the line where the reference has it."""
    _, *rows = rows_of(text, separator, quotes)
    lines = [line for line, _ in rows]
    assert len(lines) == count
    for row in {0, count // 2, count - 1}:
        assert origin.at(row) == f"{origin.path}, line {lines[row]}"


# --- parquet -------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["a", "b|c", " x ", "\xa0y", "", "12", "12.0", "é\n", '"q"', "True"])
SMALL = st.integers(-(2**31), 2**31)
TYPES = {
    pa.string(): TEXTS,
    pa.large_string(): TEXTS,
    pa.dictionary(pa.int8(), pa.string()): TEXTS,
    pa.int64(): SMALL | st.just(2**53 + 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.float64(): st.sampled_from([1.0, 12.0, 0.5, math.nan, math.inf, -2.25]) | st.just(1e308),
    pa.float32(): st.sampled_from([1.0, 0.5, math.nan]),
    pa.bool_(): st.booleans(),
    pa.decimal128(9, 2): st.sampled_from([decimal.Decimal("1.50"), decimal.Decimal("-7.25")]),
    pa.date32(): st.dates(datetime.date(1970, 1, 1), datetime.date(2100, 1, 1)),
    pa.timestamp("us"): st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1)),
    pa.binary(): st.sampled_from([b"a", b"b ", b"", b"\xff"]),
    pa.null(): st.none(),
    pa.struct([("x", pa.int64())]): st.just({"x": 1}),
}
for _inner in (pa.string(), pa.int64(), pa.float64(), pa.struct([("x", pa.int64())])):
    _items = st.lists(TYPES[_inner] | st.none(), max_size=3)
    TYPES[pa.list_(_inner)] = TYPES[pa.large_list(_inner)] = _items
    TYPES[pa.list_(_inner, 2)] = st.lists(TYPES[_inner], min_size=2, max_size=2)


class UnreadableError(Exception):
    """The reference finds no such value."""


def text_of(value):
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return "" if math.isnan(value) else str(value).removesuffix(".0")
        case bytes():
            try:
                return value.decode().strip()
            except UnicodeDecodeError:
                raise UnreadableError from None
        case datetime.datetime():
            return value.isoformat(sep=" ", timespec="microseconds")
        case dict() | list():
            raise UnreadableError
    return str(value).strip()


def number_of(value):
    match value:
        case None:
            return math.nan
        case str():
            try:
                return number(value)
            except ValueError:
                raise UnreadableError from None
        case bytes():
            return number_of(text_of(value))
        case datetime.date() | dict() | list():
            raise UnreadableError
    if math.isfinite(value) and abs(float(value)) > FLOAT32:
        raise UnreadableError
    return float(value)


def several_of(value):
    if not isinstance(value, list):
        return text_of(value)
    return "".join("\x01" + text_of(each) for each in value)


CONVERTED = {"text": text_of, "number": number_of, "several": several_of}


@st.composite
def parquet_tables(draw):
    rows = draw(st.integers(0, 6))
    kinds, columns = {}, {}
    for at in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(list(TYPES)))
        cells = st.none() | TYPES[kind] if draw(st.booleans()) else TYPES[kind]
        values = draw(st.lists(cells, min_size=rows, max_size=rows))
        columns[f"c{at}"] = pa.array(values, kind)
        kinds[f"c{at}"] = draw(st.sampled_from(["text", "number", "several"]))
    return pa.table(columns), kinds


@FILES
@given(parquet_tables(), st.integers(1, 4), st.integers(0, 30))
def test_parquet_is_read_as_its_python_objects_or_refused_with_its_row(table, group, cut):
    table, kinds = table
    with TemporaryDirectory() as root:
        path = Path(root) / "rows"
        pq.write_table(table, path, row_group_size=group)
        if cut == 1:
            path.write_bytes(path.read_bytes()[:-9])
        columns = roles(kinds)
        kinds = {name: kinds[name] for name in columns.all}
        expected, faults = {}, {}
        for name, kind in kinds.items():
            expected[name] = []
            for row, value in enumerate(table[name].to_pylist()):
                try:
                    expected[name].append(CONVERTED[kind](value))
                except UnreadableError:
                    faults.setdefault(name, set()).add(row + 1)
        try:
            frame, origin = Table(path, path).read(columns)
        except ValueError as error:
            event("refused")
            check_parquet_refusal(str(error), path, cut == 1, table, kinds, faults)
            return
        event("read")
        assert not faults
        assert cut != 1
        for name, theirs in expected.items():
            for ours, value in zip(frame[name].tolist(), theirs, strict=True):
                assert same(ours, value), (name, ours, value)
        assert origin.at(0) == f"{path}, row 1"


def check_parquet_refusal(message, path, cut, table, kinds, faults):
    assert message.startswith(str(path)), message
    assert message.isprintable(), message
    if cut:
        assert "not a readable parquet file" in message
        return
    if not len(table):
        assert "no rows" in message or re.search("column 'c[0-9]' is not", message), message
        return
    row = re.match(r", row (\d+): (c\d)", message[len(str(path)) :])
    if row:
        assert int(row[1]) in faults[row[2]], (message, faults)
        return
    column = re.search(r"column '(c\d)' is not", message)  # its type is refused, whatever the row
    assert column, message
    kind = table.schema.field(column[1]).type
    nested = pa.types.is_nested(kind) or pa.types.is_temporal(kind)
    assert nested, message
