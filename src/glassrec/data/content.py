"""The bytes of a file: its format, recognised by content and not by name, its lines and quotes.

Quoting follows RFC 4180; a quote inside a cell that does not begin with one is a plain character.
"""

from __future__ import annotations

import codecs
import hashlib
import mmap
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

_PARQUET = b"PAR1"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_PICKLE = "a pickle; export the table as CSV or parquet"
_REFUSED = {
    **dict.fromkeys((b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "UTF-32 text; save the file as UTF-8"),
    **dict.fromkeys((b"\xff\xfe", b"\xfe\xff"), "UTF-16 text; save the file as UTF-8"),
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or export the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; export the sheet as CSV",
    b"\xfd7zXZ": "compressed by xz; unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive; unpack it",
    b"SQLite format 3\x00": "an SQLite database; export the table as CSV",
    b"\x89HDF": "an HDF5 file; export the table as CSV or parquet",
    b"ARROW1": "an Arrow file; export the table as parquet",
    b"ORC": "an ORC file; export the table as parquet",
    b"\x89PNG": "an image; name a CSV or parquet file",
    b"%PDF-": "a PDF; name a CSV or parquet file",
    **dict.fromkeys((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), _PICKLE),
}
_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES, _SAMPLE_BYTES = 1 << 20, 64

LARGE_BYTES = 1 << 26
"""From which size on a file takes so long to read that what is known about it is kept."""

_QUOTE, _LF, _CR = b'"\n\r'
_BREAK = re.compile(rb"\r\n|\r|\n")
_OR_NO_QUOTES = "; if quotes have no meaning in this file, set data.quotes=false"


def existing(path: Path) -> Path:
    """`path` itself, if it is a file that is not empty; ValueError if not."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check the folder and the name")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; fetch it again")
    return path


def fingerprint(paths: Iterable[Path]) -> dict[str, str]:
    """The sha256 of each file by its name; ValueError if one is missing.

    That of a file of `LARGE_BYTES` or more is kept in the user's cache directory, and not computed
    again while the file's path, inode, size and time of change stay the same.
    """
    return {path.name: _known_digest(existing(path)) for path in paths}


def _known_digest(path: Path) -> str:
    state = path.stat()
    if state.st_size < LARGE_BYTES:
        return digest_of(path)
    identity = (str(path.resolve()), state.st_ino, state.st_size, state.st_mtime_ns)
    kept = default_cache() / "hashes" / hashlib.sha256(repr(identity).encode()).hexdigest()
    with suppress(OSError):
        return kept.read_text()
    began, found = time.time(), digest_of(path)
    if began - state.st_mtime > 2:  # a file that was changed just now may change again unnoticed
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            written = kept.with_suffix(f".{os.getpid()}")
            written.write_text(found)
            written.rename(kept)
    return found


def digest_of(path: Path) -> str:
    """The sha256 of a file, read as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_cache() -> Path:
    """The folder of this package in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "glassrec"


def is_parquet(path: Path) -> bool:
    """Whether the file begins as parquet does; ValueError if it is missing or empty."""
    with existing(path).open("rb") as file:
        return _begins(file.read(_SAMPLE_BYTES), _PARQUET)


def text_content(path: Path) -> memoryview:
    """The bytes of a text file without a byte order mark, mapped, or unpacked into memory.

    gzip, bz2 and zstd are unpacked.

    Raises:
        ValueError: the file is missing, empty, damaged, binary or in UTF-16 or UTF-32.
    """
    with existing(path).open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if codec := compression(content):
        content = _unpacked(path, codec)
    refuse_binary(path, content)
    if (nul := find_byte(content, b"\0")) >= 0:
        sample = bytes(content[:4096])
        if sample.count(b"\0") * 3 > len(sample):
            raise ValueError(
                f"{path}: the file is binary, or text in UTF-16 or UTF-32; save the table as UTF-8 "
                "CSV"
            )
        raise ValueError(
            f"{path}, line {line_at(content, nul)}: there is a NUL byte, so the file is binary or "
            "damaged; export the table again as UTF-8 CSV"
        )
    return content[len(_BOM) :] if content[: len(_BOM)] == _BOM else content


def compression(sample: bytes | memoryview) -> str | None:
    """By which codec of Arrow a file that begins with the sample is compressed; None if by none."""
    sample = sample[:_SAMPLE_BYTES]
    return next((codec for magic, codec in _COMPRESSED.items() if _begins(sample, magic)), None)


def refuse_binary(path: Path, sample: bytes | memoryview) -> None:
    """ValueError if a file that begins with the sample is none of text."""
    for magic, kind in _REFUSED.items():
        if _begins(sample[:_SAMPLE_BYTES], magic):
            raise ValueError(f"{path}: the file is {kind}")


def find_byte(content: memoryview, byte: bytes) -> int:
    """The position of the first such byte, or -1."""
    for start, block in blocks(content):
        if byte in block:
            return start + block.index(byte)
    return -1


def blocks(content: memoryview) -> Iterator[tuple[int, bytes]]:
    """The content in blocks of bounded size, each with its position."""
    for start in range(0, len(content), _BLOCK_BYTES):
        yield start, bytes(content[start : start + _BLOCK_BYTES])


def line_at(content: memoryview, offset: int) -> int:
    r"""The line, from 1, that an editor shows at this byte; a break is \n, \r\n or a lone \r."""
    before = bytes(content[:offset])
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


def _begins(sample: bytes | memoryview, magic: bytes) -> bool:
    """Whether a file begins with `magic` and is no text, such as a CSV whose header is `ORCID`."""
    if sample[: len(magic)] != magic:
        return False
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(bytes(sample))
    except UnicodeDecodeError:
        return True
    return any(character < " " and not character.isspace() for character in text)


def _unpacked(path: Path, codec: str) -> memoryview:
    try:
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, codec) as stream:
            content = memoryview(stream.read())
    except (OSError, pa.ArrowException):
        raise ValueError(
            f"{path}: the {codec} data is damaged or cut off; fetch it again"
        ) from None
    if not len(content):
        raise ValueError(f"{path}: the file is empty; fetch it again")
    return content


def rows_of_several_lines(
    path: Path, content: memoryview, separator: bytes, lines: int = 0
) -> np.ndarray:
    """Where the rows begin and end that have a line break in a quoted cell, (K, 2) int64.

    `content` begins behind so many `lines` of the file.

    Raises:
        ValueError: a quote is never closed, or text follows a closing quote.
    """
    if find_byte(content, b'"') < 0:
        return np.empty((0, 2), np.int64)
    data = np.frombuffer(content, np.uint8)
    marks = _positions(content, _QUOTE)
    if not _in_place(data, marks, separator[0]):
        marks = _quoted_cells(path, content, separator, lines)
    ends = _positions(content, _LF, _CR)
    carriage = data[ends] == _CR
    ends = ends[~(carriage & (data[np.minimum(ends + 1, len(data) - 1)] == _LF))]
    inside = np.searchsorted(marks, ends) % 2 == 1
    outside = np.r_[-1, ends[~inside], len(data)]
    last = np.unique(np.searchsorted(outside, ends[inside]))
    return np.column_stack([outside[last - 1] + 1, outside[last]])


def check_no_rows_in_cells(
    path: Path,
    content: memoryview,
    rows: np.ndarray,
    separator: bytes,
    columns: int,
    numbers: Collection[int],
    before: int = 0,
) -> None:
    """ValueError at the first of `rows` (K, 2) each line of which reads as a row of its own: with
    as many cells as there are `columns`, and numbers in the columns `numbers`.
    """
    for start, end in rows.tolist():
        lines = [line.split(separator) for line in _BREAK.split(content[start:end]) if line.strip()]
        if all(
            len(cells) == columns and all(is_number(cells[at]) for at in numbers) for cells in lines
        ):
            raise ValueError(
                f"{path}, line {before + line_at(content, start)}: a quoted cell goes on to line "
                f"{before + line_at(content, end - 1)}, and each of these lines reads as a row of "
                f"its own; remove the stray quotes{_OR_NO_QUOTES}"
            )


def _positions(content: memoryview, *wanted: int) -> np.ndarray:
    """Where these bytes stand, (N,) int64, ascending; found in blocks, to bound the memory."""
    found = [np.empty(0, np.int64)]
    for start, block in blocks(content):
        data = np.frombuffer(block, np.uint8)
        there = data == wanted[0]
        for byte in wanted[1:]:
            there |= data == byte
        found.append(start + np.flatnonzero(there))
    return np.concatenate(found)


def _in_place(data: np.ndarray, marks: np.ndarray, separator: int) -> bool:
    """Whether every quote opens or closes a cell, or is one of two in a quoted cell."""
    beside = np.zeros(256, bool)
    beside[[_QUOTE, _LF, _CR, separator]] = True
    opening, closing, last = marks[::2], marks[1::2], len(data) - 1
    before = beside[data[opening - 1]] | (opening == 0)
    after = beside[data[np.minimum(closing + 1, last)]] | (closing == last)
    return len(opening) == len(closing) and bool(before.all() and after.all())


def _quoted_cells(path: Path, content: memoryview, separator: bytes, lines: int) -> np.ndarray:
    """Where quoted cells open and close, in turn, (2K,) int64; ValueError at the first bad one."""
    ends = rb"[\r\n" + re.escape(separator) + rb"]"
    blanks = b"" if separator == b" " else rb" *+"
    cell = re.compile(
        rb"(?:(?<=" + ends + rb')|\A)"[^"]*+(?:""[^"]*+)*+'
        rb'(?P<close>")?+(?P<end>' + blanks + rb"(?=" + ends + rb"|\Z))?+"
    )
    marks = []
    for match in cell.finditer(content):
        start, close = match.start(), match.start("close")
        if close >= 0 and match["end"] is not None:
            marks += [start, close]
            continue
        where = f"{path}, line {lines + line_at(content, start)}: a cell begins with a quote"
        if close < 0:
            raise ValueError(f"{where} that is never closed; remove it{_OR_NO_QUOTES}")
        raise ValueError(
            f"{where}, and text follows the next quote, in line "
            f"{lines + line_at(content, close)}; "
            f"double the quotes inside a quoted cell, or remove stray ones{_OR_NO_QUOTES}"
        )
    return np.array(marks, np.int64)


def is_number(cell: bytes) -> bool:
    """Whether a cell may stand in a column of numbers, quotes aside."""
    text = cell.decode("utf-8", errors="replace").strip('" \t')
    try:
        float(text)
    except ValueError:
        return text.casefold() in ("", "true", "false", "na", "null", "n/a")
    return True
