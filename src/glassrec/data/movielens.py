"""MovieLens in its published layouts (Harper and Konstan, TiiS 2015), with users and movies.

Fields: user, gender, age (the bucket's lower end), occupation and zip (the first three characters,
a region); item, year (the first of its five) and genres, of which a movie has several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge, Interval, MinLen
from pydantic import DirectoryPath

from glassrec.data.cells import INTEGER, TEXT
from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, Source, build_dataset
from glassrec.data.encoding import NO_SCALERS, Scalers
from glassrec.data.splits import LeaveOneOut, Splitter
from glassrec.data.text_file import Origin, read_text

AGES = (0, 18, 25, 35, 45, 50, 56)
"""The age buckets of MovieLens-1M, by their lower ends; the first one is 'under 18'."""

GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
"""The flag columns of MovieLens-100K's `u.item`, in order."""

WHOLE = {"user", "item", "rating", "time", "age", *GENRES}
"""The columns that hold whole numbers; the others hold text."""


@dataclass(frozen=True)
class _MovieLens(Source):
    """The common part of the two editions.

    Attributes:
        root: the folder of the published files.
        split: how ratings are divided.
        negatives: with leave-one-out, how many negatives a training positive gets, drawn afresh
            each epoch.
        tasks: with any other split, the tasks: whether a rating is high, the rating itself,
            or which item out of all a user rates.
        positive_from: for `click`, the lowest rating whose label is 1.
        history: how many of the user's earlier items a row shows; 0 for none.
    """

    root: DirectoryPath
    split: Splitter = field(default_factory=LeaveOneOut)
    negatives: Annotated[int, Ge(1)] = 4
    tasks: Annotated[Sequence[Literal["click", "rating", "retrieval"]], MinLen(1)] = ("click",)
    positive_from: Annotated[int, Interval(ge=1, le=5)] = 4
    history: Annotated[int, Ge(0)] = 0

    files: ClassVar[tuple[str, str, str]]
    """The names of the files of ratings, users and movies."""
    separators: ClassVar[tuple[str, str, str]]
    """Between the cells of each file."""
    user_columns: ClassVar[tuple[str, ...]]
    movie_columns: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        if self.split.ranked and tuple(self.tasks) != ("click",):
            raise ValueError(
                f"data.tasks: {list(self.tasks)} would not be used, as the leave-one-out split "
                "takes every rating as a positive; set data/split=random or by_time"
            )

    def _read(self) -> list[pd.DataFrame]:
        columns = ("user", "item", "rating", "time"), self.user_columns, self.movie_columns
        encodings = "utf8", "utf8", "latin-1"
        frames = []
        for path, names, separator, encoding in zip(
            self.paths, columns, self.separators, encodings, strict=True
        ):
            types = {name: INTEGER if name in WHOLE else TEXT for name in names}
            frames.append(read_text(path, types, separator=separator, encoding=encoding))
        return frames

    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """The ratings joined with their users and movies, divided."""
        ratings, users, movies = self._read()
        frame = ratings.assign(
            click=ratings["rating"] >= self.positive_from,
            **self._looked_up(ratings, _described(users), "user"),
            **self._looked_up(ratings, _dated(movies), "item"),
        )
        tasks = () if self.split.ranked else self.tasks
        columns = Columns(
            label="click" if "click" in tasks else None,
            rating="rating" if "rating" in tasks else None,
            retrieval="retrieval" in tasks,
            categorical=("gender", "age", "occupation", "zip", "year", "genres"),
            user="user",
            item="item",
            item_side=("year", "genres"),
            several=("genres",),
            time="time",
            item_name="title",
        )
        return build_dataset(
            frame, columns, self.split, seed,
            negatives=self.negatives, history=self.history, duplicates="drop", scalers=scalers,
        )  # fmt: skip

    @property
    def paths(self) -> list[Path]:
        """The three files."""
        return [Path(self.root) / name for name in self.files]

    def _looked_up(self, ratings: pd.DataFrame, side: pd.DataFrame, key: str) -> dict[str, Any]:
        """The columns of `side` for each rating; ValueError if an id is missing there or twice."""
        log, users, movies = self.paths
        path = users if key == "user" else movies
        twice = side[key].duplicated().to_numpy()
        Origin(path).refuse_first(side[key], twice, ", which is there twice; remove one of them")
        at = pd.Index(side[key]).get_indexer(ratings[key])
        reason = f", which is not in {path.name}; all files must be of the same edition"
        Origin(log).refuse_first(ratings[key], at < 0, reason)
        return {name: side[name].array.take(at) for name in side.columns.drop(key)}


@dataclass(frozen=True)
class MovieLens100K(_MovieLens):
    """MovieLens-100K: `u.data`, `u.user` and `u.item`."""

    files = ("u.data", "u.user", "u.item")
    separators = ("\t", "|", "|")
    user_columns = ("user", "age", "gender", "occupation", "zip")
    movie_columns = ("item", "title", "released", "on_video", "link", *GENRES)


@dataclass(frozen=True)
class MovieLens1M(_MovieLens):
    """MovieLens-1M: `ratings.dat`, `users.dat` and `movies.dat`."""

    files = ("ratings.dat", "users.dat", "movies.dat")
    separators = ("::", "::", "::")
    user_columns = ("user", "gender", "age", "occupation", "zip")
    movie_columns = ("item", "title", "genres")


def _described(users: pd.DataFrame) -> pd.DataFrame:
    """Users with their age and zip code in buckets."""
    age = np.array(AGES)[np.searchsorted(AGES, users["age"].clip(lower=0), side="right") - 1]
    region = users["zip"].astype(str).str[:3].astype("category")
    return users.assign(age=age, zip=region)


def _dated(movies: pd.DataFrame) -> pd.DataFrame:
    """Movies with the first year of the five in which they came out; '' where it is not known."""
    year = movies["title"].astype(str).str.extract(r"\((\d{4})\)\s*$", expand=False).astype(float)
    five = (year // 5 * 5).map("{:.0f}".format, na_action="ignore").fillna("").astype("category")
    if "genres" not in movies:
        flagged = movies[[*GENRES]].to_numpy(bool) @ np.array([f"{name}|" for name in GENRES], "O")
        genres = pd.Series(flagged, index=movies.index).str.rstrip("|").astype("category")
        movies = movies.assign(genres=genres)
    return movies[["item", "title", "genres"]].assign(year=five)
