"""What a list is made of: the users with their context, and the candidate items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from glassrec.data.columns import check_names
from glassrec.data.text_file import frame_of
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.plain_cells import Wanted, typed_columns
from glassrec.inference.row_files import Choose, Place, chunks
from glassrec.inference.rows import CHUNK, RowEncoder
from glassrec.inference.users_and_items import plain_index
from glassrec.spelling import brief


class UserRows(NamedTuple):
    """Some users: the column of the user, and context columns as far as they are given."""

    frame: pd.DataFrame
    place: Place


def context_columns(run: OpenedRun) -> list[str]:
    """The columns that the models read and that follow neither from the user nor from the item."""
    columns = run.columns
    others = {columns.user, columns.item, *columns.item_side}
    return [
        n for n in (*columns.fields, *columns.dense) if n in run.reads.columns and n not in others
    ]


def rankable(run: OpenedRun) -> tuple[str, str]:
    """The user and the item column; ValueError if the data of the run lacks one of them."""
    user, item = run.columns.user, run.columns.item
    if user is None or item is None:
        raise ValueError(
            f"{run.run.dir}: a list of items needs data with a user and an item column, and this "
            f"run's has no {'user' if user is None else 'item'}; glassrec predict scores its rows"
        )
    return user, item


# --- users -----------------------------------------------------------------------------------


def typed_rows(run: OpenedRun, cells: dict[str, list[str]], source: str) -> UserRows:
    """Rows of texts, as a command gives them, in the types of their columns.

    Raises:
        ValueError: a text is not of the type of its column.
    """
    types = RowEncoder(run).types
    lines = range(1, 1 + max(map(len, cells.values())))
    place = Place(Path(source), lines=lines, unit="row")
    wanted = Wanted({name: types[name] for name in cells}, (*run.columns.value_separators,))
    return UserRows(frame_of(typed_columns(cells, wanted, place), place), place)


def users_of_log(run: OpenedRun, size: int) -> Iterator[UserRows]:
    """All users of the log, `size` at a time."""
    user, users = rankable(run)[0], run.interactions.users
    for start in range(0, len(users), size):
        lines = range(start + 1, start + 1 + size)
        frame = pd.DataFrame({user: users[start : start + size]})
        yield UserRows(frame, Place(Path("users of the log"), lines=lines, unit="row"))


def users_of_file(run: OpenedRun, path: Path, size: int) -> Iterator[UserRows]:
    """The users of a file, `size` rows at a time, with the context columns that it has.

    Raises:
        ValueError: it has no user column, or a cell is not of its column's type.
    """
    wanted = _some_columns(run, rankable(run)[0], context_columns(run))
    for each in chunks(path, wanted, None, size):
        yield UserRows(frame_of(each.cells, each.place), each.place)


def with_context(run: OpenedRun, users: UserRows, given: pd.DataFrame) -> pd.DataFrame:
    """(U rows) the user and all context columns: from `given` (a row, or none), the users' own
    columns, or each user's last row.

    Raises:
        ValueError: the log lacks a user whose last row is needed.
    """
    user = rankable(run)[0]
    names = context_columns(run)
    found = {user: users.frame[user].to_numpy(object)}
    needed = [name for name in names if name not in given and name not in users.frame]
    at = run.last_rows.users.get_indexer(plain_index(users.frame[user]))
    if needed and (at < 0).any():
        row = int((at < 0).argmax())
        raise ValueError(
            f"{users.place.at(row)}: the log has no user {found[user][row]!r}, and so no last row "
            f"of them; give {brief(f'context.{name}=VALUE' for name in needed)}"
        )
    for name in names:
        if name in given:
            found[name] = np.repeat(given[name].to_numpy(object), len(at))
        elif name in users.frame:
            found[name] = users.frame[name].to_numpy(object)
        else:
            found[name] = run.last_rows.context[name].astype(object).to_numpy(object)[at]
    return pd.DataFrame(found)


# --- candidates ------------------------------------------------------------------------------


class CandidateItems(NamedTuple):
    """n different items, and all columns that follow from them."""

    frame: pd.DataFrame
    place: Place

    @classmethod
    def of_catalogue(cls, run: OpenedRun) -> CandidateItems:
        """The items that the model knows, in the order of their ids."""
        items, item = run.items, rankable(run)[1]
        frame = items.side.iloc[: items.known].reset_index(drop=True)
        frame.insert(0, item, items.values[: items.known])
        lines = range(1, 1 + len(frame))
        return cls(frame, Place(Path("catalogue"), lines=lines, unit="row"))

    @classmethod
    def of_file(cls, run: OpenedRun, path: Path) -> CandidateItems:
        """The items of a file, at their first row; columns of their side that it lacks come from
        the catalogue.

        Raises:
            ValueError: there is no item column, a cell is not of its column's type, or the
                catalogue lacks an item whose side is needed.
        """
        item = rankable(run)[1]
        side = [name for name in run.columns.item_side if name in run.reads.columns]
        wanted = _some_columns(run, item, side)
        parts = list(chunks(path, wanted, None, CHUNK))
        lines = [line for each in parts for line in each.place.lines]
        frames = [frame_of(each.cells, each.place).astype({item: object}) for each in parts]
        frame = pd.concat(frames, ignore_index=True).infer_objects()
        first = np.flatnonzero(~frame[item].duplicated())
        frame = frame.iloc[first].reset_index(drop=True)
        place = replace(parts[0].place, lines=[lines[row] for row in first.tolist()])
        absent = [name for name in side if name not in frame]
        found = run.items.side_of(frame[item], absent, place) if absent else frame[[]]
        return cls(pd.concat([frame, found], axis=1), place)


def _some_columns(run: OpenedRun, needed: str, allowed: Sequence[str]) -> Choose:
    def wanted(names: Sequence[str], source: str) -> Wanted:
        present = [needed, *(name for name in allowed if name in names)]
        check_names(present, [*names], source)
        types = RowEncoder(run).types
        return Wanted({name: types[name] for name in present}, (*run.columns.value_separators,))

    return wanted
