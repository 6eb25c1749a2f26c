import numpy as np
import pytest

from glassrec.data.criteo import CATEGORICAL, DENSE, Criteo
from glassrec.data.splits import ByTime


def write(root, rows=50):
    """A file of random rows with empty cells; returns its lines as cells."""
    random = np.random.default_rng(0)
    table = []
    for row in range(rows):
        counts = [str(n) if n > -3 else "" for n in random.integers(-3, 40, 13)]
        hashes = [f"{n:08x}" if n else "" for n in random.integers(0, 6, 26)]
        table.append([str(int(row % 4 == 0)), *counts, *hashes])
    save(root, table)
    return table


def save(root, table):
    (root / "train.txt").write_text("".join("\t".join(row) + "\n" for row in table))


def test_columns_are_those_of_the_challenge(tmp_path):
    write(tmp_path)
    data = Criteo(tmp_path).load(seed=0)
    assert data.schema.dense == DENSE == tuple(f"I{i}" for i in range(1, 14))
    assert data.schema.field_names == CATEGORICAL == tuple(f"C{i}" for i in range(1, 27))
    assert data.schema.user is None
    assert [split.batch.rows for split in data.splits.values()] == [35, 5, 10]


def test_labels_counts_and_categories_agree_with_a_reading_by_hand(tmp_path):
    table = write(tmp_path)
    data = Criteo(tmp_path, split=ByTime(0.1, 0.2), min_count=3).load(seed=0)
    assert data.test.batch.targets[:, 0].tolist() == [float(row[0]) for row in table[40:]]

    counts = [row[2] for row in table]
    logs = [np.log1p(max(int(count), 0)) for count in counts[:35] if count]
    scaled = [
        (np.log1p(max(int(count), 0)) - np.mean(logs)) / np.std(logs) if count else 0.0
        for count in counts[40:]
    ]
    np.testing.assert_allclose(data.test.batch.dense[:, 1], scaled, atol=1e-6)

    hashes = [row[14 + 25] for row in table]
    known = sorted({value for value in hashes[:35] if hashes[:35].count(value) >= 3})
    ids = [known.index(value) + 1 if value in known else 0 for value in hashes[40:]]
    assert (data.test.batch.ids[:, 25] - data.schema.offsets[25]).tolist() == ids


@pytest.mark.parametrize(
    ("cell", "value", "message"),
    [
        (0, "2", "train.txt, line 7: label is 2"),
        (0, "", "train.txt, line 7: label is nan"),
        (3, "many", "train.txt, line 7: I3 is 'many', not a number"),
        (3, "inf", "train.txt, line 7: I3 is inf"),
        (39, "x\textra", "train.txt, line 7: 41 cells where there should be 40"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, cell, value, message):
    table = write(tmp_path)
    table[6][cell] = value
    save(tmp_path, table)
    with pytest.raises(ValueError, match=message):
        Criteo(tmp_path).load(seed=0)


def test_a_short_line_and_missing_files_are_named(tmp_path):
    table = write(tmp_path)
    save(tmp_path, [*table[:9], table[9][:20], *table[10:]])
    with pytest.raises(ValueError, match=r"train.txt, line 10: 20 cells where there should be 40"):
        Criteo(tmp_path).load(seed=0)
    with pytest.raises(ValueError, match="day_0: no such file"):
        Criteo(tmp_path, file="day_0").load(seed=0)
    save(tmp_path, [])
    with pytest.raises(ValueError, match=r"train.txt: the file is empty"):
        Criteo(tmp_path).load(seed=0)
