from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glassrec.data.ncf_files import NCF

# Newest first, as the authors write them; user 3 has a single row.
TRAIN = [
    (0, 5, 4, 30), (0, 6, 4, 20), (0, 7, 5, 10),
    (1, 8, 3, 10), (1, 5, 3, 30), (1, 9, 2, 30),
    (3, 6, 5, 10),
]  # fmt: skip
TEST = [(0, 9, 5, 40), (1, 6, 4, 40), (3, 5, 1, 40)]
NEGATIVES = [(8, 11, 10), (7, 6, 10), (8, 9, 7)]  # the second list holds its own positive, 6


def write(root: Path, train=TRAIN, test=TEST, negatives=NEGATIVES, columns=4) -> NCF:
    def lines(rows):
        return "".join("\t".join(map(str, row)) + "\n" for row in rows)

    pairs = [(f"({u},{i})", *rest) for (u, i, *_), rest in zip(test, negatives, strict=False)]
    (root / "toy.train.rating").write_text(lines(row[:columns] for row in train))
    (root / "toy.test.rating").write_text(lines(test))
    (root / "toy.test.negative").write_text(lines(pairs))
    return NCF(root, prefix="toy", candidates=1)


@pytest.mark.parametrize(("columns", "newest"), [(4, {(0, 5), (1, 5)}), (3, {(0, 5), (1, 8)})])
def test_the_newest_training_row_of_a_user_validates(tmp_path, columns, newest):
    data = write(tmp_path, columns=columns).load(seed=0)
    users, items = (sorted({row[c] for row in TRAIN if row[:2] not in newest}) for c in (0, 1))
    expected = [
        [users.index(u) + 1, data.schema.offsets[1] + items.index(i) + 1]
        for u, i, *_ in TRAIN
        if (u, i) not in newest
    ]
    assert data.train.batch.ids.tolist() == expected
    positives = data.validation.batch.ids[data.validation.batch.targets[:, 0] == 1]
    assert len(positives) == 2
    for row, (user, item) in zip(positives.tolist(), sorted(newest), strict=True):
        assert row[0] == users.index(user) + 1
        seen = item in items
        assert row[1] == data.schema.offsets[1] + (items.index(item) + 1 if seen else 0)


def test_a_random_training_row_of_a_user_validates_where_asked(tmp_path):
    source = replace(write(tmp_path), validation="random")
    held = set()
    for seed in range(8):
        data = source.load(seed)
        assert data.train.batch.rows == len(TRAIN) - 2
        queries = data.validation.batch.targets[:, 0] == 1
        assert queries.sum() == 2  # user 3 has a single row, and keeps it
        held.add(frozenset(map(tuple, data.train.batch.ids.tolist())))
        assert torch.equal(source.load(seed).train.batch.ids, data.train.batch.ids)
    assert len(held) > 3


def test_test_lists_are_the_authors_without_a_list_s_own_positive(tmp_path):
    data = write(tmp_path).load(seed=0)
    assert data.schema.field_names == ("user", "item")
    assert data.test.query.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert data.test.batch.targets[:, 0].tolist() == [1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]
    # Training knows the items 6, 7, 8 and 9; 10 and 11 are listed only and 5 was held out.
    items = {6: 1, 7: 2, 8: 3, 9: 4}
    shown = [9, 8, 11, 10, 6, 7, 10, 5, 8, 9, 7]
    local = data.test.batch.ids - torch.tensor(data.schema.offsets)
    assert local[:, 1].tolist() == [items.get(item, 0) for item in shown]
    assert local[:, 0].tolist() == [1] * 4 + [2] * 3 + [3] * 4


def test_validation_candidates_are_no_known_positives_test_items_included(tmp_path):
    source = write(tmp_path)
    # Of the items 5 to 9 user 0 chose all but 8 and user 1 all but 7.
    for seed in range(3):
        data = source.load(seed)
        local = data.validation.batch.ids - torch.tensor(data.schema.offsets)
        assert local[:, 1].tolist()[1::2] == [3, 2]
        assert data.validation.query.tolist() == [0, 0, 1, 1]


def test_interactions_end_with_the_test_item_and_ties_are_in_the_authors_order(tmp_path):
    raw = write(tmp_path).load(seed=0).raw
    found = {u: rows["item"].tolist() for u, rows in raw.interactions.groupby("user")}
    assert found == {0: [7, 6, 5, 9], 1: [8, 9, 5, 6], 3: [6, 5]}


def test_negatives_are_drawn_for_training(tmp_path):
    data = write(tmp_path).load(seed=0)
    assert data.negatives.per_positive == 4
    assert data.epoch(0, 0).rows == 5 * 5


def test_the_fingerprint_covers_the_three_files(tmp_path):
    source = write(tmp_path)
    names = {"toy.train.rating", "toy.test.rating", "toy.test.negative"}
    before = source.fingerprint()
    assert set(before) == names
    write(tmp_path, columns=3)
    after = source.fingerprint()
    assert {name for name in names if before[name] != after[name]} == {"toy.train.rating"}


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("toy.train.rating", "0\tsix\t4\t20", r"toy.train.rating, line 2: item is 'six'"),
        ("toy.train.rating", "0\t6", r"toy.train.rating, line 2: 2 cells where there should be 4"),
        ("toy.test.rating", "1\t6\t4\t40\t1", "toy.test.rating, line 2: 5 cells"),
        ("toy.test.negative", "(1,6)\t7", "toy.test.negative, line 2: 2 cells"),
        ("toy.test.negative", "(1,6)\t7\tx\t10", "toy.test.negative, line 2: negative 2 is 'x'"),
        ("toy.test.negative", "(1,7)\t7\t6\t10", r"line 2: begins with \(1,7\), but .* is \(1,6\)"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, file, line, message):
    source = write(tmp_path)
    lines = (tmp_path / file).read_text().splitlines()
    lines[1] = line
    (tmp_path / file).write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=message):
        source.load(seed=0)


def test_missing_empty_and_unequal_files_are_refused(tmp_path):
    source = write(tmp_path)
    (tmp_path / "toy.test.negative").write_text("(0,9)\t8\t11\t10\n")
    with pytest.raises(ValueError, match=r"has 1 lines and toy.test.rating has 3"):
        source.load(seed=0)
    (tmp_path / "toy.test.rating").write_text("")
    with pytest.raises(ValueError, match=r"toy.test.rating: the file is empty"):
        source.load(seed=0)
    (tmp_path / "toy.train.rating").unlink()
    with pytest.raises(ValueError, match=r"toy.train.rating: no such file"):
        source.load(seed=0)
    with pytest.raises(ValueError, match="no such file"):
        source.fingerprint()
