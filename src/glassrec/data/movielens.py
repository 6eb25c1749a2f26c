"""MovieLens in its published layouts (Harper and Konstan, TiiS 2015), with attributes of
users and movies.

Fields: user, gender, age (the bucket's lower end), occupation and zip (the first three characters,
a region); item, year (the first of its five) and genres, of which a movie has several. A
leave-one-out split takes every rating as a positive; any other split learns the `tasks`.
"""

from __future__ import annotations

from abc import abstractmethod
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
from glassrec.data.content import fingerprint
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

RATINGS = dict.fromkeys(("user", "item", "rating", "time"), INTEGER)


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

    def __post_init__(self) -> None:
        if self.split.ranked and tuple(self.tasks) != ("click",):
            raise ValueError(
                f"data.tasks: {list(self.tasks)} would not be used, as the leave-one-out split "
                "takes every rating as a positive; set data/split=random or by_time"
            )

    @abstractmethod
    def _read(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Ratings; users with gender, age, occupation, zip; movies with title and genres."""

    def fingerprint(self) -> dict[str, str]:
        """The sha256 of the three files."""
        return fingerprint(self._paths)

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
    def _paths(self) -> list[Path]:
        return [Path(self.root) / name for name in self.files]

    def _looked_up(self, ratings: pd.DataFrame, side: pd.DataFrame, key: str) -> dict[str, Any]:
        """The columns of `side` for each rating; ValueError if an id is missing there or twice."""
        log, users, movies = self._paths
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

    def _read(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        log, people, films = self._paths
        users = {"user": INTEGER, "age": INTEGER, "gender": TEXT, "occupation": TEXT, "zip": TEXT}
        texts = dict.fromkeys(("title", "released", "on_video", "link"), TEXT)
        flags = dict.fromkeys(GENRES, INTEGER)
        types = {"item": INTEGER, **texts, **flags}
        movies = read_text(films, types, separator="|", encoding="latin-1")
        flagged = movies[[*GENRES]].to_numpy(bool) @ np.array([f"{name}|" for name in GENRES], "O")
        movies["genres"] = pd.Series(flagged, index=movies.index).str.rstrip("|").astype("category")
        return read_text(log, RATINGS), read_text(people, users, separator="|"), movies


@dataclass(frozen=True)
class MovieLens1M(_MovieLens):
    """MovieLens-1M: `ratings.dat`, `users.dat` and `movies.dat`."""

    files = ("ratings.dat", "users.dat", "movies.dat")

    def _read(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        log, people, films = self._paths
        users = {"user": INTEGER, "gender": TEXT, "age": INTEGER, "occupation": TEXT, "zip": TEXT}
        movies = {"item": INTEGER, "title": TEXT, "genres": TEXT}
        return (
            read_text(log, RATINGS, separator="::"),
            read_text(people, users, separator="::"),
            read_text(films, movies, separator="::", encoding="latin-1"),
        )


def _described(users: pd.DataFrame) -> pd.DataFrame:
    """Users with their age and zip code in buckets."""
    age = np.array(AGES)[np.searchsorted(AGES, users["age"].clip(lower=0), side="right") - 1]
    region = users["zip"].astype(str).str[:3].astype("category")
    return users.assign(age=age, zip=region)


def _dated(movies: pd.DataFrame) -> pd.DataFrame:
    """Movies with their title, and the first year of the five in which they came out, '' where it
    is not known.
    """
    year = movies["title"].astype(str).str.extract(r"\((\d{4})\)\s*$", expand=False).astype(float)
    five = (year // 5 * 5).map("{:.0f}".format, na_action="ignore").fillna("").astype("category")
    return movies[["item", "title", "genres"]].assign(year=five)
