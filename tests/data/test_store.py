"""A store holds the rows of a source bit for bit, is made once, and is made again if damaged."""

import gzip
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.artifacts.tensors import digest
from glassrec.data import content, encoding, row_blocks, store, streaming
from glassrec.data import dataset as dataset_module
from glassrec.data.batch import Batch, rebatch
from glassrec.data.criteo import Criteo
from glassrec.data.dataset import Dataset
from glassrec.data.dataset_metadata import collect_metadata
from glassrec.data.movielens import MovieLens1M, MovieLens100K
from glassrec.data.ncf_files import NCF
from glassrec.data.planted import Planted
from glassrec.data.saved_encoder import describe_encoder
from glassrec.data.splits import ByTime, LeaveOneOut, Random
from glassrec.data.store import Store, is_intact, load_dataset
from glassrec.data.table import Table
from glassrec.failures import OutOfMemoryError


def criteo(folder, rows=50, seed=0):
    random = np.random.default_rng(seed)
    lines = []
    for row in range(rows):
        counts = [str(n) if n > -3 else "" for n in random.integers(-3, 40, 13)]
        hashes = [f"{n:08x}" if n else "" for n in random.integers(0, 6, 26)]
        lines.append("\t".join([str(int(row % 4 == 0)), *counts, *hashes]) + "\n")
    (folder / "train.txt").write_text("".join(lines))
    return Criteo(folder)


def log(folder, **settings):
    """A table with users, items, several values and a history."""
    random = np.random.default_rng(0)
    rows = 300
    frame = pd.DataFrame({
        "user": random.integers(0, 20, rows),
        "item": (items := random.integers(0, 30, rows)),
        "tags": [["a|b", "b", "c|a", ""][i % 4] for i in items],
        "price": items / 7,
        "hour": random.integers(0, 24, rows),
        "time": np.arange(rows),
        "label": random.integers(0, 2, rows),
        "stars": random.integers(1, 6, rows),
    })  # fmt: skip
    frame.to_csv(folder / "log.csv", index=False)
    label = "" if "split" in settings else "label: label\nrating: stars\n"
    (folder / "columns.yaml").write_text(
        f"{label}user: user\nitem: item\ncategorical: [tags, hour]\nseveral: [tags]\n"
        "dense: [price]\nitem_side: [tags, price]\ntime: time\n"
    )
    return Table(folder / "log.csv", folder / "columns.yaml", **settings)


def movielens(folder, edition=MovieLens1M, **settings):
    random = np.random.default_rng(1)
    users, items = range(1, 13), range(1, 41)
    ratings = [(u, i, 1 + int(random.integers(5)), 100 * u + i) for u in users
               for i in random.choice(items, 12, replace=False)]  # fmt: skip
    if edition is MovieLens1M:
        tables = {
            "ratings.dat": ratings,
            "users.dat": [(u, "MF"[u % 2], 25, u % 5, "12345") for u in users],
            "movies.dat": [(i, f"Film {i} ({1950 + i})", "Drama|War") for i in items],
        }
        separators = dict.fromkeys(tables, "::")
    else:
        flags = [0] * 18
        tables = {
            "u.data": ratings,
            "u.user": [(u, 25, "MF"[u % 2], "writer", "12345") for u in users],
            "u.item": [(i, f"Film {i} ({1950 + i})", "", "", "", 1, *flags) for i in items],
        }
        separators = {"u.data": "\t", "u.user": "|", "u.item": "|"}
    for name, rows in tables.items():
        text = "".join(separators[name].join(map(str, row)) + "\n" for row in rows)
        (folder / name).write_text(text)
    return edition(folder, **settings)


def ncf(folder):
    users, items = 6, 40
    train = [(u, (u * 3 + n) % items, 5) for u in range(users) for n in range(5)]
    test = [(u, (u * 3 + 7) % items, 5) for u in range(users)]
    with (folder / "ml-1m.test.negative").open("w") as file:
        for user, item, _ in test:
            others = [str((item + n) % items) for n in range(10, 25)]
            file.write("\t".join([f"({user},{item})", *others]) + "\n")
    for name, rows in (("train", train), ("test", test)):
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
        (folder / f"ml-1m.{name}.rating").write_text(text)
    return NCF(folder, candidates=9)


SOURCES = {
    "criteo": criteo,
    "random": lambda folder: replace(criteo(folder), split=Random(), min_count=1),
    "table": log,
    "lists": lambda folder: log(folder, split=LeaveOneOut(3), history=2),
    "movielens_1m": lambda folder: movielens(folder, split=LeaveOneOut(5), history=3),
    "movielens_100k": lambda folder: movielens(
        folder, MovieLens100K, split=Random(0.2, 0.2), tasks=("rating",)
    ),
    "ncf": ncf,
}


def same(stored: Dataset, loaded: Dataset) -> None:
    """Every part of two datasets is equal, bit for bit."""
    assert stored.schema == loaded.schema
    assert stored.audit == loaded.audit
    assert describe_encoder(stored.encoder) == describe_encoder(loaded.encoder)
    assert stored.rows_per_positive == loaded.rows_per_positive
    pd.testing.assert_frame_equal(stored.row_keys, loaded.row_keys)
    for name in loaded.raw._fields:
        one, other = getattr(stored.raw, name), getattr(loaded.raw, name)
        assert (one is None) == (other is None)
        if one is not None:
            pd.testing.assert_frame_equal(one, other)
    for name, split in loaded.splits.items():
        batch = stored.splits[name].batch
        assert digest(batch._asdict()) == digest(split.batch._asdict())
        rows = torch.randperm(batch.rows)[:7]
        pairs = [(batch.select(rows), split.batch.select(rows)), (batch.slice(2, 9),
                 split.batch.slice(2, 9))]  # fmt: skip
        for one, other in pairs:
            assert all(x.dtype == y.dtype and torch.equal(x, y)
                       for x, y in zip(one, other, strict=True))  # fmt: skip
        query = stored.splits[name].query
        assert (query is None) if split.query is None else torch.equal(query, split.query)
    assert all(map(torch.equal, stored.epoch(1, 2), loaded.epoch(1, 2)))
    assert all(map(torch.equal, stored.sample(5, 3), loaded.sample(5, 3)))
    for history in (False, True):
        found, wanted = (x.seen_ids(history=history) for x in (stored, loaded))
        assert torch.equal(found, wanted)
    assert collect_metadata(stored) == collect_metadata(loaded)


@pytest.mark.parametrize("name", SOURCES)
def test_a_store_gives_the_rows_of_its_source_bit_for_bit(tmp_path, name):
    source, cache = SOURCES[name](tmp_path), tmp_path / "cache"
    loaded = source.load(0)
    same(load_dataset(source, 0, cache=cache), loaded)
    again = load_dataset(source, 0, cache=cache)
    assert again.train.batch.ids.dtype == torch.int32
    same(again, loaded)
    assert len([*cache.glob("*/schema.json")]) == 1


def test_generated_data_and_other_peoples_sources_are_not_stored(tmp_path):
    load_dataset(Planted(rows=100), 0, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_only_large_files_are_stored_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    source = criteo(tmp_path)
    load_dataset(source, 0, cache="auto")
    assert not (tmp_path / "home").exists()
    load_dataset(source, 0, cache="auto", shared=tmp_path / "sweep")
    assert len([*(tmp_path / "sweep").glob("*/schema.json")]) == 1
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr("glassrec.data.store.LARGE_BYTES", 100)
    load_dataset(source, 0, cache="auto")
    assert len([*(tmp_path / "home/glassrec").glob("*/schema.json")]) == 1


def test_stores_are_shared_where_the_rows_are_the_same(tmp_path):
    source, cache = criteo(tmp_path), tmp_path / "cache"

    def stores(*arguments):
        load_dataset(*arguments, cache=cache)
        return len([*cache.glob("*/schema.json")])

    assert stores(source, 0) == 1
    assert stores(source, 1) == 1  # a split by time draws nothing
    assert stores(replace(source, split=Random()), 0) == 2
    assert stores(replace(source, split=Random()), 1) == 3
    assert stores(replace(source, min_count=3), 0) == 4
    scaler = source.load(0).encoder.scalers["I1"]
    assert stores(source, 0, {"I1": replace(scaler, mean=9.0)}) == 5
    (tmp_path / "train.txt").write_text((tmp_path / "train.txt").read_text()[:-8] + "0000001\n")
    assert stores(source, 0) == 6


@pytest.mark.parametrize("file", ["train/ids.npy", "schema.json", "vocabularies/0.parquet"])
def test_a_damaged_store_is_made_again(tmp_path, file):
    source, cache = criteo(tmp_path), tmp_path / "cache"
    load_dataset(source, 0, cache=cache)
    (folder,) = (path.parent for path in cache.glob("*/schema.json"))
    content = bytearray((folder / file).read_bytes())
    content[-3] ^= 1
    (folder / file).write_bytes(content)
    assert not is_intact(folder)
    same(load_dataset(source, 0, cache=cache), source.load(0))
    assert is_intact(folder)
    (folder / file).write_bytes(content[:-1])
    assert not is_intact(folder)
    (folder / file).unlink()
    assert not is_intact(folder)


def test_a_malformed_file_leaves_no_store(tmp_path):
    source = criteo(tmp_path)
    with (tmp_path / "train.txt").open("a") as file:
        file.write("1\t2\n")
    with pytest.raises(ValueError, match=r"train.txt, line 51: 2 cells"):
        load_dataset(source, 0, cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".writing"]


SLOW_WRITE = """
import sys, time
from pathlib import Path
from glassrec.data import store
from glassrec.data.criteo import Criteo
folder, pause = Path(sys.argv[1]), float(sys.argv[2])
from glassrec.data import streaming
write = streaming.write_schema
def slow(*arguments):
    print("writing", flush=True)
    time.sleep(pause)
    write(*arguments)
streaming.write_schema = slow
store.load_dataset(Criteo(folder), 0, cache=folder / "cache")
"""


def start(folder, pause):
    arguments = [sys.executable, "-c", SLOW_WRITE, str(folder), str(pause)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_store_whose_process_was_killed_is_made_again(tmp_path):
    source = criteo(tmp_path)
    process = start(tmp_path, 60)
    while "writing" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [*(tmp_path / "cache").glob("*.partial/train/ids.npy")]
    same(load_dataset(source, 0, cache=tmp_path / "cache"), source.load(0))
    assert not [*(tmp_path / "cache").glob("*.partial")]


def test_two_processes_make_a_store_once(tmp_path):
    criteo(tmp_path)
    both = [start(tmp_path, 1) for _ in range(2)]
    written = sum(process.communicate()[0].count("writing\n") for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert written == 1


def long_epochs(monkeypatch, block=4, blocks=3):
    monkeypatch.setattr(dataset_module, "MAX_EPOCH_BYTES", 0)
    monkeypatch.setattr(dataset_module, "BLOCK_ROWS", block)
    monkeypatch.setattr(dataset_module, "BLOCKS_PER_PART", blocks)


def rows_of(parts):
    return [tuple(x.flatten().tolist()) for part in parts for row in part.chunks(1) for x in [
        torch.cat([row.dense, row.ids.double(), row.targets], 1)]]  # fmt: skip


@pytest.mark.parametrize("processes", [1, 3])
def test_long_epochs_have_every_row_once_in_an_order_of_blocks(tmp_path, monkeypatch, processes):
    data = load_dataset(criteo(tmp_path, 150), 0, cache=tmp_path / "cache")
    long_epochs(monkeypatch)
    train = data.train.batch
    shares = [rows_of(data.epoch_parts(1, 2, r, processes)) for r in range(processes)]
    assert {len(share) for share in shares} == {train.rows // processes}
    known = rows_of([train.slice(0, train.rows)])
    found = [row for share in shares for row in share]
    assert len(set(found)) == len(found) == train.rows // processes * processes
    assert set(found) <= set(known)
    again = [rows_of(data.epoch_parts(1, 2, r, processes)) for r in range(processes)]
    assert again == shares
    assert rows_of(data.epoch_parts(1, 3, 0, processes)) != shares[0]
    if processes == 1:  # rows 0 to 11 of the order are three whole blocks
        places = sorted(known.index(row) for row in found[:12])
        blocks = {place // 4 for place in places}
        assert len(blocks) == 3
        assert places != [known.index(row) for row in found[:12]]
        assert places == sorted(4 * block + n for block in blocks for n in range(4))


def test_long_epochs_draw_negatives_for_each_part(tmp_path, monkeypatch):
    data = load_dataset(SOURCES["lists"](tmp_path), 0, cache=tmp_path / "cache")
    long_epochs(monkeypatch)
    parts = [*data.epoch_parts(0, 0)]
    assert sum(part.rows for part in parts) == data.rows_per_epoch
    assert sum(int(part.targets.sum()) for part in parts) == data.train.batch.rows
    positives = {tuple(row) for row in data.train.batch.ids[:, :2].tolist()}
    for part in parts:
        negatives = part.ids[part.targets[:, 0] == 0][:, :2].tolist()
        assert not positives & {tuple(row) for row in negatives}
    shares = [[*data.epoch_parts(0, 0, rank, 2)] for rank in range(2)]
    rows = [sum(part.rows for part in share) for share in shares]
    assert rows == [data.train.batch.rows // 2 * data.rows_per_positive] * 2


def test_batches_are_cut_across_parts(batch: Batch):
    parts = [batch.slice(0, 5), batch.slice(5, 7), batch.slice(7, 12)]
    found = [*rebatch(parts, [4, 4, 4])]
    assert [part.rows for part in found] == [4, 4, 4]
    assert all(map(torch.equal, (torch.cat(x) for x in zip(*found, strict=True)), batch))


def blocks(monkeypatch, size=2000):
    """Files of several blocks."""
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", size)
    monkeypatch.setattr(row_blocks, "BLOCK_ROWS", 31)
    monkeypatch.setattr(streaming, "PENDING", 10)
    monkeypatch.setattr(streaming, "KEYS_AT_ONCE", 50)
    monkeypatch.setattr(encoding, "PAIRWISE", 128)


def clicks(folder, form="csv", **settings):
    """A table without users and items; some rows are equal, and cells hold quotes and blanks."""
    random = np.random.default_rng(2)
    rows = 400
    cities = [
        "Rome",
        "Oslo, N",
        'the "Hague"',
        "",
        "two\nlines",
        *"abc",
        *[c * 25 for c in "uvwxyz"],
    ]
    frame = pd.DataFrame({
        "unread": random.random(rows),
        "city": random.choice(cities, rows),
        "clicked": (random.random(rows) < 0.3).astype(int),
        "one": "same",
        "price": random.choice([1.5, 2.25, 1e9], rows, p=[0.6, 0.395, 0.005]),
        "age": [None if x < 0.2 else x for x in random.random(rows).round(2)],
    })  # fmt: skip
    frame = pd.concat([frame, frame.tail(30)])
    path = folder / f"clicks.{form}"
    if form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, compression="gzip" if form == "csv.gz" else None)
    (folder / "columns.yaml").write_text(
        "label: clicked\ncategorical: [city, one]\ndense: [price, age]\nmissing_ok: [age]\n"
        "log: [price]\nchronological: true\n"
    )
    return Table(path, folder / "columns.yaml", **settings)


STREAMED = {
    "criteo": lambda folder: criteo(folder, 300),
    "random": lambda folder: replace(criteo(folder, 300), split=Random(), min_count=5),
    **{form: partial(clicks, form=form) for form in ("csv", "csv.gz", "parquet")},
    "by_time": lambda folder: clicks(folder, split=ByTime(), min_count=80),
}


@pytest.mark.parametrize("name", STREAMED)
def test_rows_that_are_encoded_in_blocks_are_those_in_memory(tmp_path, monkeypatch, name):
    source = STREAMED[name](tmp_path)
    loaded = source.load(0)
    blocks(monkeypatch)
    assert len([*source.row_blocks().read()]) > 3
    monkeypatch.setattr(type(source), "load", lambda *_: pytest.fail("loaded as a whole"))
    found = load_dataset(source, 0, cache=tmp_path / "cache")
    same(found, loaded)
    if name == "csv":
        checks = {finding.check for finding in found.audit.findings}
        assert checks >= {"constant columns", "identical rows", "rows in two splits",
                          "extreme outliers", "truncated cells"}  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "text", "message"),
    [
        (0, "2", "label is 2"),
        (3, "many", "I3 is 'many', not a number"),
        (3, "inf", "I3 is inf"),
        (39, "x\tmore", "41 cells where there should be 40"),
        (39, "\udcff", "C26 is not UTF-8 text"),
        (39, "\0", "there is a NUL byte"),
    ],
)
def test_a_malformed_row_is_refused_by_its_line_in_any_block(
    tmp_path, monkeypatch, cell, text, message
):
    source = criteo(tmp_path, 100)
    path = tmp_path / "train.txt"
    lines = path.read_text().splitlines(keepends=True)
    cells = lines[79].rstrip("\n").split("\t")
    cells[cell] = text
    lines[79] = "\t".join(cells) + "\n"
    path.write_text("".join(lines), errors="surrogateescape")
    blocks(monkeypatch)
    with pytest.raises(ValueError, match=f"train.txt, line 80: {message}"):
        load_dataset(source, 0, cache=tmp_path / "cache")


def test_a_malformed_row_of_a_table_is_refused_by_its_line_or_row(tmp_path, monkeypatch):
    source = clicks(tmp_path)
    lines = source.path.read_text().split("\n")
    at = next(n for n in range(len(lines) - 1, 0, -1) if lines[n].endswith("5,0.5"))
    lines[at] = lines[at].removesuffix("0.5") + "old"
    source.path.write_text("\n".join(lines))
    blocks(monkeypatch)
    with pytest.raises(ValueError, match=f"clicks.csv, line {at + 1}: age is 'old', not a number"):
        load_dataset(source, 0, cache=tmp_path / "cache")
    source = clicks(tmp_path, "parquet")
    frame = pd.read_parquet(source.path)
    frame.iloc[100, 2] = 7
    frame.to_parquet(source.path)
    with pytest.raises(ValueError, match=r"clicks.parquet, row 101: clicked is 7"):
        load_dataset(source, 0, cache=tmp_path / "cache")


@pytest.mark.parametrize("n", [1, 7, 127, 128, 129, 1000, 4097, 99_991])
def test_sums_of_pieces_are_those_of_numpy_bit_for_bit(monkeypatch, n):
    monkeypatch.setattr(encoding, "PAIRWISE", 200)
    values = np.random.default_rng(n).lognormal(3, 4, n)

    def read(start, count):
        return values[start : start + count].copy()

    for log in (False, True):
        kept = encoding.logged(values, log)
        assert encoding.pairwise_sum(lambda a, c, x=kept: x[a : a + c].copy(), 0, n) == kept.sum()
    assert encoding.Scaler.fit_blocks(read, n, log=False) == encoding.Scaler.fit(values, log=False)
    constant = np.full(n, 0.1)
    found = encoding.Scaler.fit_blocks(lambda a, c: constant[a : a + c], n, log=False)
    assert found == encoding.Scaler.fit(constant, log=False)


def guide():
    """The JSON and the first Python block of the guide."""
    text = (Path(__file__).parents[2] / "docs/guide/store.md").read_text()
    blocks = dict(reversed(re.findall(r"```(json|python)\n(.*?)```", text, re.S)))
    return blocks["json"], blocks["python"]


def test_a_store_that_another_program_has_written_is_read(tmp_path):
    schema, code = guide()
    folder, known = tmp_path / "mine", {}
    exec(code, known)
    random = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        known["create"](folder, split, 10, fields=2, dense=1, targets=1)
        ids = np.column_stack([random.integers(0, 4, 10), random.integers(4, 7, 10)])
        rows = ids, random.random((10, 1)), random.integers(0, 2, (10, 1))
        for first in (0, 6):  # two partitions
            part = [each[first : first + 6] for each in rows]
            known["write"](folder, split, first, *part)
        arrays[split] = rows
    (folder / "schema.json").write_text(schema)
    data = load_dataset(Store(folder), 0, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert data.schema.num_ids == 7
    for split, (ids, dense, targets) in arrays.items():
        batch = data.splits[split].batch.slice(0, 10)
        assert batch.ids.tolist() == ids.tolist()
        assert batch.targets.tolist() == targets.tolist()
        np.testing.assert_array_equal(batch.dense, dense.astype(np.float32))
    assert len(Store(folder).fingerprint()) == 13
    np.save(folder / "val/ids.npy", np.full((10, 2), 7, np.int32))
    with pytest.raises(ValueError, match=r"val/ids.npy: column 0 holds ids from 7 to 7; .* 0 to 3"):
        Store(folder).load(0)
    np.save(folder / "val/ids.npy", np.zeros((10, 2)))
    with pytest.raises(ValueError, match=r"val/ids.npy is torch.float64 \(10, 2\); .* torch.int32"):
        Store(folder).load(0)
    (folder / "val/ids.npy").unlink()
    with pytest.raises(ValueError, match=r"val/ids.npy: no such file"):
        Store(folder).load(0)
    np.save(folder / "val/ids.npy", np.zeros((10, 2), np.int32))
    (folder / "schema.json").write_text("{}")
    with pytest.raises(ValueError, match="not a store"):
        Store(folder).load(0)


def test_files_that_do_not_fit_in_memory_are_refused(tmp_path, monkeypatch):
    source = criteo(tmp_path)
    monkeypatch.setattr(store, "LARGE_BYTES", 10)
    monkeypatch.setattr(store, "free_memory", lambda: source.paths[0].stat().st_size * 3)
    with pytest.raises(OutOfMemoryError, match=r"are free; set cache=DIR, to encode .* in blocks"):
        load_dataset(source, 0)
    assert load_dataset(source, 0, cache=tmp_path / "cache").train.batch.rows == 35
    with pytest.raises(OutOfMemoryError, match="are free; take fewer rows"):
        load_dataset(log(tmp_path), 0, cache=tmp_path / "cache")


def test_the_hash_of_a_large_file_is_computed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(content, "LARGE_BYTES", 100)
    source = criteo(tmp_path)
    path, calls = tmp_path / "train.txt", []
    os.utime(path, (1e9, 1e9))
    digest_of = content.digest_of
    monkeypatch.setattr(content, "digest_of", lambda path: calls.append(path) or digest_of(path))
    known = source.fingerprint()
    assert source.fingerprint() == known == {"train.txt": digest_of(path)}
    assert len(calls) == 1
    path.write_text(path.read_text().replace("1", "2", 1))  # now: it may change again unnoticed
    assert source.fingerprint() != known
    assert source.fingerprint() == {"train.txt": digest_of(path)}
    assert len(calls) == 3


def test_damaged_and_empty_compressed_files_are_refused(tmp_path):
    source = clicks(tmp_path, "csv.gz")
    content = source.path.read_bytes()
    for damaged, message in ((content[:-200], "damaged or cut off"), (gzip.compress(b""), "empty")):
        source.path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"clicks.csv.gz: .*{message}"):
            load_dataset(source, 0, cache=tmp_path / "cache")


def test_a_table_with_a_long_separator_is_not_read_in_blocks(tmp_path):
    source = clicks(tmp_path)
    frame = pd.read_csv(source.path, dtype=str, keep_default_na=False)
    frame["city"] = frame["city"].str.replace('\n| "|"', "", regex=True)
    rows = [frame.columns, *frame.to_numpy()]
    source.path.write_text("".join("::".join(row) + "\n" for row in rows))
    source = replace(source, separator="::")
    assert source.row_blocks() is None
    same(load_dataset(source, 0, cache=tmp_path / "cache"), source.load(0))
