"""Bring your own data: a CSV or parquet file, and a YAML file with the roles of its columns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import pyarrow as pa
import yaml
from annotated_types import Ge
from pydantic import FilePath, TypeAdapter, ValidationError

from glassrec.data.cells import NUMBER, TEXT, printable, shortened
from glassrec.data.columns import Columns, check_names
from glassrec.data.content import existing, is_parquet
from glassrec.data.dataset import Dataset, Source, build_dataset
from glassrec.data.encoding import NO_SCALERS, Scalers
from glassrec.data.parquet import parquet_names, read_parquet
from glassrec.data.row_blocks import RowBlocks, parquet_blocks, text_blocks
from glassrec.data.splits import Random, Splitter
from glassrec.data.text_file import Format, Origin, TextFile
from glassrec.spelling import did_you_mean, listed, one_of

SEPARATORS = {"tab": "\t", "semicolon": ";", "pipe": "|", "comma": ",", "\\t": "\t"}
"""Separators by name, since a command line strips or interprets the characters."""

TABBED = (".tsv", ".tab", ".inter", ".user", ".item")
"""Ends of names of tab-separated files, the last three by RecBole's convention."""

PACKED = (".gz", ".bz2", ".zst")
"""Ends of names that the name of a compressed file has after its own."""


@dataclass(frozen=True)
class Table(Source):
    """Rows of a table, with the roles of its columns in a YAML file such as this one:

    ```yaml
    label: clicked                 # 0 or 1; leave it out where every row is a positive
    rating: stars                  # or a number to be estimated; both are two tasks
    user: user_id                  # optional, but leave-one-out needs both
    item: sku
    categorical: [city, device, brand]
    item_name: title               # optional: the name that people know an item by
    item_side: [brand]             # columns that follow from the item, dense ones too
    context: [device]              # columns that describe the moment, although they seem to follow
                                   # from the item
    several: [tags]                # categorical columns with cells of several values: a|b|c
    dense: [price, age, views]     # numbers, standardised
    log: [views]                   # dense columns that are counts: log(1 + x) first
    missing_ok: [age]              # dense columns that may be empty: empty becomes the mean
    ranges: {age: [0, 120]}        # the ends of dense columns; for proofs in pruning
    time: clicked_at               # a number or an ISO 8601 date; for by_time and leave_one_out
    chronological: false           # true in place of a time: the file's rows are in order of time
    split: fold                    # for the given split: train, validation or test
    ```

    Columns that it does not name are not read. Categories are read as text; an empty one is a value
    of its own. With leave-one-out there is no label: every row is a positive.

    A text file has a header and one row a line; empty lines are skipped, and blanks around cells
    and names are removed. `true` and `false` are the numbers 1 and 0. A quoted cell may hold
    separators, doubled quotes and line breaks, as in RFC 4180. A file is refused where text follows
    a closing quote, or where a quoted cell spans lines each of which reads as a row of its own (as
    many cells, and numbers where there should be some): both come from stray quotes. The cells of
    `several` are divided at `|` unless another separator is given, as in `several: {tags: ";"}`;
    a parquet column may hold lists.

    Attributes:
        path: the table, parquet or text in UTF-8, which may be compressed by gzip, bz2 or zstd;
            all of this is recognised by content.
        columns: the YAML file.
        split: how rows are divided.
        separator: of the cells of a text file: one character or more, or a name,
            `tab`, `semicolon`, `pipe` or `comma`. By default a tab where the file's name ends in
            .tsv, .tab, .inter, .user or .item (before .gz), and otherwise a comma.
        quotes: whether cells of a text file may be in double quotes.
        negatives: with leave-one-out, how many negatives a training positive gets, drawn afresh
            each epoch.
        min_count: how often a category must occur in training to get an id of its own; the others
            share the id of unseen ones.
        history: how many of the user's earlier items a row shows, by `time` or, without one, by
            file order; 0 for none. Training rows must precede the held-out ones of their user.
        duplicates: whether to drop second records of one event, see `events.duplicate_events`.
        repeats: whether to drop rows of an item that their user took before, so that every held-out
            positive is new to its user.
    """

    path: FilePath
    columns: FilePath
    split: Splitter = field(default_factory=Random)
    separator: str | None = None
    quotes: bool = True
    negatives: Annotated[int, Ge(1)] = 4
    min_count: Annotated[int, Ge(1)] = 1
    history: Annotated[int, Ge(0)] = 0
    duplicates: Literal["drop", "keep"] = "drop"
    repeats: Literal["drop", "keep"] = "keep"

    def __post_init__(self) -> None:
        given = self.separator
        if given is None or given in SEPARATORS:
            return
        if not given:
            raise ValueError(
                "data.separator: '' separates nothing; if it was a tab, which command lines strip, "
                "write data.separator=tab"
            )
        if any(character.isalnum() or character in '"\r\n' for character in given):
            raise ValueError(
                f"data.separator: {given!r} is not a separator{did_you_mean(given, SEPARATORS)}; "
                f"write a character such as ',', or one of {listed(SEPARATORS)}"
            )

    @property
    def paths(self) -> list[Path]:
        """The table and the YAML file."""
        return [Path(self.path), Path(self.columns)]

    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """The rows of the table, divided."""
        columns = read_columns(Path(self.columns))
        frame, origin = self.read(columns)
        return build_dataset(
            frame, columns, self.split, seed,
            negatives=self.negatives, min_count=self.min_count, history=self.history,
            duplicates=self.duplicates, repeats=self.repeats, scalers=scalers, origin=origin,
        )  # fmt: skip

    def read(self, columns: Columns) -> tuple[pd.DataFrame, Origin]:
        """The columns that have a role, as they are in the file."""
        path, types = Path(self.path), _types(columns)
        if is_parquet(path):
            check_names(columns.stored, _shown(parquet_names(path), columns), str(path))
            return read_parquet(path, types, columns.several), Origin(path, format=None)
        text = TextFile.open(path, self._format)
        self._check_header(text.first_cells, columns)
        return text.read(types), text.origin

    def row_blocks(self) -> RowBlocks | None:
        """The rows of the table, if they have no history and none is dropped."""
        columns, path = read_columns(Path(self.columns)), Path(self.path)
        types = _types(columns)
        if self.repeats == "drop" or self.history or len(self._format.separator.encode()) > 1:
            return None
        if is_parquet(path):
            check_names(columns.stored, _shown(parquet_names(path), columns), str(path))
            return RowBlocks(
                columns, self.split, self.min_count, partial(parquet_blocks, path, types)
            )
        check = partial(self._check_header, columns=columns)
        read = partial(text_blocks, path, self._format, types, check)
        return RowBlocks(columns, self.split, self.min_count, read)

    @property
    def _format(self) -> Format:
        separator = separator_of(Path(self.path), self.separator)
        return Format(separator, quotes=self.quotes, header=True)

    def _check_header(self, names: list[str], columns: Columns) -> None:
        path = Path(self.path)
        for word, character in SEPARATORS.items():
            if len(names) == 1 and character in names[0]:
                raise ValueError(
                    f"{path}: the header is one cell, {shortened(names[0])!r}; "
                    f"did you mean data.separator={word}"
                )
        check_names(columns.stored, _shown(names, columns), str(path))


def _types(columns: Columns) -> dict[str, pa.DataType]:
    numbers = {*columns.numbers, columns.label}
    return {name: NUMBER if name in numbers else TEXT for name in columns.stored}


def separator_of(path: Path, given: str | None) -> str:
    """The separator of a text file: the one that is given, by its name or itself, or by `path`."""
    if given is not None:
        return SEPARATORS.get(given, given)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return "\t" if suffixes and suffixes[-1] in TABBED else ","


def read_columns(path: Path) -> Columns:
    """The roles that a YAML file gives; ValueError if it holds anything else."""
    try:
        roles = yaml.safe_load(existing(path).read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from None
    if not isinstance(roles, dict):
        raise ValueError(f"{path}: a mapping of roles to columns is needed, such as 'label: click'")
    known = [role.name for role in fields(Columns)]
    for role in roles:
        if role not in known:
            raise ValueError(f"{path}: no role {role!r}{one_of(str(role), known)}")
    try:
        return TypeAdapter(Columns).validate_python(roles)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {where}: {first['msg']} (found {first['input']!r})") from None


def _shown(names: list[str], columns: Columns) -> list[str]:
    """The names as a message may show them: those that no role has may hold line breaks."""
    return [name if name in columns.stored else printable(name) for name in names]
