"""Files are recognised by their content, not by their name: text, compressed text or parquet."""

from __future__ import annotations

import codecs
import mmap
from pathlib import Path

import pyarrow as pa

_PARQUET = b"PAR1"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_REFUSED = {
    b"\xff\xfe\x00\x00": "UTF-32 text; save the file as UTF-8",
    b"\x00\x00\xfe\xff": "UTF-32 text; save the file as UTF-8",
    b"\xff\xfe": "UTF-16 text; save the file as UTF-8",
    b"\xfe\xff": "UTF-16 text; save the file as UTF-8",
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
}
_REFUSED |= {
    b"\x80" + bytes([protocol]): "a pickle; export the table as CSV or parquet"
    for protocol in (2, 3, 4, 5)
}
_BOM = b"\xef\xbb\xbf"
_BLOCK, _SAMPLE = 1 << 20, 64


def existing(path: Path) -> Path:
    """`path` itself, if it is a file that is not empty; ValueError if not."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check the folder and the name")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; fetch it again")
    return path


def is_parquet(path: Path) -> bool:
    """Whether the file begins as parquet does; ValueError if it is missing or empty."""
    with existing(path).open("rb") as file:
        return _begins(file.read(_SAMPLE), _PARQUET)


def text_content(path: Path) -> memoryview:
    """The bytes of a text file without a byte order mark, mapped, or unpacked into memory.

    gzip, bz2 and zstd are unpacked.

    Raises:
        ValueError: the file is missing, empty, damaged, binary or in UTF-16 or UTF-32.
    """
    with existing(path).open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    for magic, codec in _COMPRESSED.items():
        if _begins(content[:_SAMPLE], magic):
            content = _unpacked(path, codec)
    for magic, kind in _REFUSED.items():
        if _begins(content[:_SAMPLE], magic):
            raise ValueError(f"{path}: the file is {kind}")
    _check_no_nul(path, content)
    return content[len(_BOM) :] if content[: len(_BOM)] == _BOM else content


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


def _check_no_nul(path: Path, content: memoryview) -> None:
    """ValueError at the first NUL byte, which no text holds."""
    line = 1
    for start in range(0, len(content), _BLOCK):
        block = bytes(content[start : start + _BLOCK])
        if b"\0" not in block:
            continue
        sample = bytes(content[:4096])
        if sample.count(b"\0") * 3 > len(sample):
            kind = "binary, or text in UTF-16 or UTF-32; save the table as UTF-8 CSV"
            raise ValueError(f"{path}: the file is {kind}")
        before = bytes(content[: start + block.index(b"\0")])
        line = line_at(before)
        raise ValueError(
            f"{path}, line {line}: there is a NUL byte, so the file is binary or damaged; "
            "export the table again as UTF-8 CSV"
        )


def line_at(before: bytes) -> int:
    r"""The line that an editor shows after these bytes; a break is \n, \r\n or a lone \r."""
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")
