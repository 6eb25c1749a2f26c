import pytest
import torch

from glassrec.data.movielens import GENRES, MovieLens1M, MovieLens100K
from glassrec.data.splits import ByTime, LeaveOneOut, Random

USERS = {
    1: ("M", 24, "artist", "85711"),
    2: ("F", 17, "doctor", "T8H1N"),
    3: ("M", 70, "artist", "85799"),
}
MOVIES = {
    1: ("Toy Story (1995)", ["Animation", "Comedy"]),
    2: ("Misérables, Les (1998)", ["Drama"]),
    3: ("Murder: 1, 2 (One) (1964)", ["Crime", "Drama"]),
    4: ("unknown", ["unknown"]),
    5: ("Up (1997)", ["Comedy"]),
    6: ("Down (1996)", ["Comedy"]),
}
RATINGS = [(u, i, 1 + (u + i) % 5, 100 * i + u) for u in USERS for i in (4, 1, 3, 2)]
FIELDS = ("user", "item", "gender", "age", "occupation", "zip", "year", "genres")


def write_100k(root):
    flags = {i: "|".join(str(int(g in gs)) for g in GENRES) for i, (_, gs) in MOVIES.items()}
    files = {
        "u.data": ["\t".join(map(str, row)) for row in RATINGS],
        "u.user": [f"{u}|{age}|{g}|{job}|{zip_}" for u, (g, age, job, zip_) in USERS.items()],
        "u.item": [f"{i}|{t}|01-Jan-1995||http://x|{flags[i]}" for i, (t, _) in MOVIES.items()],
    }
    return MovieLens100K, files


def write_1m(root):
    files = {
        "ratings.dat": ["::".join(map(str, row)) for row in RATINGS],
        "users.dat": [
            f"{u}::{g}::{age}::{job}::{zip_}" for u, (g, age, job, zip_) in USERS.items()
        ],
        "movies.dat": [f"{i}::{t}::{'|'.join(gs)}" for i, (t, gs) in MOVIES.items()],
    }
    return MovieLens1M, files


@pytest.fixture(params=[write_100k, write_1m], ids=["100k", "1m"])
def edition(request, tmp_path):
    """The class of an edition, with its toy files written to `tmp_path`."""
    source, files = request.param(tmp_path)
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="latin-1")
    return source


def change(path, line, old, new):
    lines = path.read_text(encoding="latin-1").splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("\n".join(lines) + "\n", encoding="latin-1")


def expected_ids(rows, train):
    """Ids worked out row by row: sorted training values from 1, others 0."""

    def values(u, i):
        gender, age, job, zip_ = USERS[u]
        bucket = {24: 18, 17: 0, 70: 56}[age]
        year = {1: "1995", 2: "1995", 3: "1960", 4: "", 5: "1995", 6: "1995"}[i]
        return (u, i, gender, bucket, job, zip_[:3], year)

    table = [values(u, i) for u, i, *_ in rows]
    known = [
        sorted(set(column)) for column in zip(*(values(u, i) for u, i, *_ in train), strict=True)
    ]
    return [
        [k.index(v) + 1 if v in k else 0 for k, v in zip(known, row, strict=True)] for row in table
    ]


def expected_genres(rows, train, schema):
    """Joint rows of a movie's genres in the order of the file; -1 where it has fewer."""
    known = sorted({genre for _, i, *_ in train for genre in MOVIES[i][1]})
    start, width = schema.offsets[schema.field_index("genres")], len(schema.id_columns("genres"))
    lists = [
        [start + (known.index(g) + 1 if g in known else 0) for g in MOVIES[i][1][:width]]
        for _, i, *_ in rows
    ]
    return [ids + [-1] * (width - len(ids)) for ids in lists]


def test_both_sides_are_joined_and_bucketed(edition, tmp_path):
    data = edition(tmp_path, split=ByTime(validation=0.25, test=0.25)).load(seed=0)
    ordered = sorted(RATINGS, key=lambda row: row[3])
    train, test = ordered[:6], ordered[9:]
    assert set(data.schema.field_names) == set(FIELDS)
    columns = [data.schema.id_columns(name)[0] for name in FIELDS if name != "genres"]
    offsets = [data.schema.offsets[data.schema.field_index(n)] for n in FIELDS if n != "genres"]
    for split, rows in ((data.train, train), (data.test, test)):
        local = split.batch.ids[:, columns] - torch.tensor(offsets)
        assert local.tolist() == expected_ids(rows, train)
        genres = split.batch.ids[:, [*data.schema.id_columns("genres")]]
        assert genres.tolist() == expected_genres(rows, train, data.schema)


def test_other_splits_learn_whether_a_rating_is_high(edition, tmp_path):
    source = edition(tmp_path, split=ByTime(validation=0.25, test=0.25), positive_from=3)
    data = source.load(seed=0)
    ordered = sorted(RATINGS, key=lambda row: row[3])
    assert data.train.batch.targets[:, 0].tolist() == [row[2] >= 3 for row in ordered[:6]]
    assert data.negatives is None
    assert not data.ranked


def test_leave_one_out_takes_every_rating_as_a_positive(edition, tmp_path):
    source = edition(tmp_path, split=LeaveOneOut(candidates=1), negatives=1)
    # Every user rated every rated movie, so nothing is left to rank against.
    with pytest.raises(ValueError, match="only 0 of 4 items left"):
        source.load(seed=0)
    separator = "\t" if edition is MovieLens100K else "::"
    with (tmp_path / edition.files[0]).open("a") as file:
        file.writelines(
            separator.join(row) + "\n" for row in (("2", "5", "1", "50"), ("1", "6", "1", "50"))
        )
    data = source.load(seed=0)
    assert data.train.batch.targets.eq(1).all()
    assert data.train.batch.rows == 14 - 2 * 3
    held = data.test.batch.ids[data.test.batch.targets[:, 0] == 1]
    assert len(held) == 3
    assert data.negatives.per_positive == 1
    side = {"item", "year", "genres"}
    columns = {column for name in side for column in data.schema.id_columns(name)}
    assert set(data.catalogue.columns) == columns


def test_a_random_split_is_seeded(edition, tmp_path):
    source = edition(tmp_path, split=Random(0.2, 0.2))
    first, again, other = (source.load(seed).train.batch.ids.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_the_fingerprint_names_the_files(edition, tmp_path):
    assert tuple(edition(tmp_path).fingerprint()) == edition.files


@pytest.mark.parametrize(
    ("file", "line", "old", "name"),
    [(0, 2, "101", "time"), (1, 3, "3", "user"), (2, 3, "3", "item")],
)
def test_ids_that_are_not_numbers_are_refused_by_line(edition, tmp_path, file, line, old, name):
    path = tmp_path / edition.files[file]
    change(path, line, old, "l")
    with pytest.raises(ValueError, match=rf"{path.name}, line {line}: {name} is 'l', not a whole"):
        edition(tmp_path).load(seed=0)


def test_ids_must_be_known_once(edition, tmp_path):
    log, users, _ = (tmp_path / name for name in edition.files)
    source = edition(tmp_path, split=Random(0.2, 0.2))
    change(users, 2, "2", "9")
    with pytest.raises(
        ValueError, match=rf"{log.name}, line 5: user is 2, which is not in {users.name}"
    ):
        source.load(seed=0)
    change(users, 2, "9", "1")
    with pytest.raises(ValueError, match=rf"{users.name}, line 2: user is 1, which is there twice"):
        source.load(seed=0)


@pytest.mark.parametrize("file", [0, 1, 2])
def test_a_missing_and_an_empty_file_are_named(edition, tmp_path, file):
    path = tmp_path / edition.files[file]
    path.write_text("")
    with pytest.raises(ValueError, match=rf"{path.name}: the file is empty"):
        edition(tmp_path).load(seed=0)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{path.name}: no such file"):
        edition(tmp_path).fingerprint()


def test_leave_one_out_refuses_tasks_that_it_would_not_learn(tmp_path):
    with pytest.raises(ValueError, match=r"data\.tasks: \['rating'\] would not be used"):
        MovieLens100K(tmp_path, tasks=["rating"])


def test_titles_are_the_names_of_items(edition, tmp_path):
    raw = edition(tmp_path, split=Random(0.2, 0.2)).load(seed=0).raw
    names = dict(zip(raw.catalogue["item"], raw.catalogue["display_name"], strict=True))
    assert names == {i: title for i, (title, _) in MOVIES.items() if i <= 4}
    assert [*raw.catalogue] == ["item", "display_name", "training_count", "year", "genres"]
    assert [*raw.last_rows] == ["user", "gender", "age", "occupation", "zip"]
