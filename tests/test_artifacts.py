"""Each artifact comes back as it went, and the same content gives the same bytes."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from glassrec.artifacts import (
    Artifact,
    AttributionFile,
    Attributions,
    Binary,
    Certificate,
    CertifiedLayer,
    Explanation,
    Facts,
    LayerPlan,
    Metrics,
    Picture,
    PrunedNeurons,
    PrunePlan,
    StoredTable,
    Text,
    Weights,
    digest,
)
from glassrec.artifacts.formats import write_csv

CUT = LayerPlan(3, [0, 2], {"data": [1]}, {1: 0.1 + 0.2}, proposed=1, refuted=0, tied=0, stays="")
ARTIFACTS: dict[str, Artifact] = {
    "weights.safetensors": Weights({"a": torch.randn(3, 2), "b": torch.arange(2).double()}),
    "explanation.json": Explanation(
        method="integrated gradients",
        neurons="conductance",
        baseline="mean",
        selection="all 3",
        task="click",
        rows=3,
        mean_logit=0.1,
        mean_baseline_logit=-0.2,
        relative_delta=1e-9,
        complete=True,
        agreement=None,
        rank_stability=0.9,
    ),
    "table.parquet": StoredTable(pd.DataFrame({"layer": ["ä", "b"], "mean": [0.1, 1e-30]})),
    "table.csv": StoredTable(pd.DataFrame({"epoch": [1, 2], "loss": [0.1, 1 / 3]})),
    "plan.json": PrunePlan("data", "", "all 3 rows", 2, True, False, "ab12", {"tower.0": CUT}),
    "certificate.json": Certificate(
        level="data",
        exact=True,
        ground="tried",
        rows={"val": 3},
        max_abs_logit_difference=1e-17,
        p999_abs_logit_difference=0.0,
        rows_changed=0,
        max_abs_logit=0.5,
        tolerance=1e-9,
        layers={
            "tower.0": CertifiedLayer(3, 3, [PrunedNeurons("data", 0.1 + 0.2, 1, "tower.0[1]")])
        },
        weights="a",
        pruned="b",
        files={"plan.json": "c"},
        given={"data": {"rows.csv": "d"}},
        splits={"val": "e"},
        versions={"torch": "2"},
    ),
    "certificate.md": Text("größer\n\nals\n"),
    "model.json": Facts({"inputs": {"ids": ["user", "item"]}}),
    "model.pt2": Binary(b"PK\x03\r\n"),
    "metrics.json": Metrics({"parameters": 10.0, "test/auroc": 0.1 + 0.2}),
    "figure.png": Picture(b"\x89PNG"),
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    artifact = ARTIFACTS[name]
    path, again = tmp_path / name, tmp_path / f"again-{name}"
    artifact.save(path)
    loaded = type(artifact).load(path)
    loaded.save(again)
    assert path.read_bytes() == again.read_bytes()
    assert str(loaded) == str(artifact)


@pytest.mark.parametrize("name", [name for name in ARTIFACTS if name.endswith((".json", "ors"))])
def test_half_a_file_is_said_to_be_damaged(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ARTIFACTS[name].save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        type(ARTIFACTS[name]).load(path)


def _attributions(first: int, rows: int, players: Sequence[str] = ("I1", "C1")) -> Attributions:
    """Each number tells its row and its player."""
    index = torch.arange(first, first + rows)
    values = index.unsqueeze(1) + torch.arange(1, len(players) + 1) / 16
    other = (index + shift for shift in (0.25, 0.5))
    return Attributions(tuple(players), values, *other, index, (index % 2).float())


def _file(folder: Path, *sizes: int, players: Sequence[str] = ("I1", "C1")) -> AttributionFile:
    """A saved file of pieces of these sizes."""
    parts, first = [folder / f"part{place}" for place in range(len(sizes))], 0
    for part, size in zip(parts, sizes, strict=True):
        AttributionFile.write_piece(part, _attributions(first, size, players))
        first += size
    AttributionFile(tuple(parts)).save(folder / "whole.parquet")
    return AttributionFile.load(folder / "whole.parquet")


def _equal(found: Attributions, expected: Attributions) -> bool:
    names = ("values", "logits", "baseline_logits", "rows", "labels")
    return found.features == expected.features and all(
        torch.equal(getattr(found, name), getattr(expected, name)) for name in names
    )


def test_attributions_are_written_and_read_piece_by_piece(tmp_path: Path) -> None:
    file = _file(tmp_path, 4096, 4096, 4096, 4096, 4096, 100)
    assert file.rows == 5 * 4096 + 100
    pieces = [*file.pieces()]
    assert max(len(piece.rows) for piece in pieces) == 4096
    assert _equal(Attributions.join(pieces), _attributions(0, file.rows))
    # Readers keep a note of each row group: there are few, and yet not one that is all.
    assert pq.read_metadata(file.files[0]).num_row_groups == 2
    file.save(tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == file.files[0].read_bytes()


def test_unsaved_pieces_read_as_one(tmp_path: Path) -> None:
    saved = _file(tmp_path, 3, 2)
    parts = AttributionFile((tmp_path / "part0", tmp_path / "part1"))
    assert (parts.features, parts.rows) == (saved.features, saved.rows) == (("I1", "C1"), 5)
    assert _equal(*(Attributions.join(each.pieces()) for each in (parts, saved)))


def test_keys_of_the_rows_stand_beside_the_attributions(tmp_path: Path) -> None:
    parts = [tmp_path / "part0", tmp_path / "part1"]
    for place, part in enumerate(parts):
        keys = {"@item": pa.array(["a", None]), "@line": pa.array([place, 7])}
        keys["@user"] = pa.array([1, 2])
        AttributionFile.write_piece(part, _attributions(2 * place, 2, ("@user", "C1")), keys)
    AttributionFile((*parts,)).save(tmp_path / "whole.parquet")
    for file in (AttributionFile((*parts,)), AttributionFile.load(tmp_path / "whole.parquet")):
        assert _equal(Attributions.join(file.pieces()), _attributions(0, 4, ("@user", "C1")))
    table = pq.read_table(tmp_path / "whole.parquet")
    assert table.column(4).to_pylist() == ["a", None] * 2
    assert table["@line"].to_pylist() == [0, 7, 1, 7]


def test_a_sample_of_attributions_is_of_rows_at_even_places(tmp_path: Path) -> None:
    file = _file(tmp_path, 4096, 4096, 809)
    assert file.sample(10).rows.tolist() == [*range(0, 9001, 1000)]
    assert _equal(file.sample(10), _attributions(0, 9001).select(torch.arange(0, 9001, 1000)))
    assert _equal(file.sample(10_000), _attributions(0, 9001))
    assert file.sample(1).rows.tolist() == [0]


def test_players_may_be_called_anything(tmp_path: Path) -> None:
    players = ("row", "user.0", "größe 身長", "logit", "a|b", "", '"quoted"', "user[0:8]")
    file = _file(tmp_path, 3, players=players)
    assert _equal(file.sample(3), _attributions(0, 3, players))


@pytest.mark.parametrize("keep", [0, 6, 200])
def test_a_damaged_attribution_file_is_said_to_be_damaged(keep: int, tmp_path: Path) -> None:
    path = _file(tmp_path, 50).files[0]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"whole\.parquet is damaged \(.*delete it"):
        AttributionFile.load(path)


def test_delta_and_importance_by_hand() -> None:
    found = Attributions(
        ("I1", "C1"),
        torch.tensor([[1.0, 2], [-3, 1]]),
        torch.tensor([3.5, -1]),
        torch.tensor([0.5, 2]),
        torch.tensor([4, 7]),
        torch.tensor([0.0, 1]),
    )
    # 1 + 2 − (3.5 − 0.5) = 0 and −3 + 1 − (−1 − 2) = 1, of logit differences 3 and −3
    assert found.delta.tolist() == [0, 1]
    assert found.relative_delta == pytest.approx(1 / 6)
    assert found.importance().to_dict() == {"I1": 2.0, "C1": 1.5}


def test_no_number_is_null_in_json(tmp_path: Path) -> None:
    Metrics({"test/auroc": float("nan")}).save(tmp_path / "m.json")
    assert (tmp_path / "m.json").read_text() == '{\n "test/auroc": null\n}\n'
    assert math.isnan(Metrics.load(tmp_path / "m.json").values["test/auroc"])


def test_an_explanation_keeps_what_is_no_number_apart_from_what_is_not_there(
    tmp_path: Path,
) -> None:
    Explanation(
        "m", "n", "zero", "all", "label", 1, 0.1, 0.2, 0.0, True, None, float("nan")
    ).save(tmp_path / "e.json")  # fmt: skip
    loaded = Explanation.load(tmp_path / "e.json")
    assert math.isnan(loaded.rank_stability)  # of a single row
    assert loaded.agreement is None  # nothing was drawn


def test_a_digest_is_of_names_types_shapes_and_numbers() -> None:
    large = torch.arange(2**20 + 3.0)  # more than a block
    one = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(True), "c": large}
    expected = hashlib.sha256()
    for head, array in (
        (b"a torch.float64 (2, 3)\n", np.arange(6, dtype="f8")),
        (b"b torch.bool ()\n", np.array(True)),
        (b"c torch.float64 (1048579,)\n", large.double().numpy()),
    ):
        expected.update(head + array.tobytes())
    assert digest(one) == expected.hexdigest()
    assert digest(dict(reversed(one.items()))) == digest(one)
    assert digest(one | {"a": one["a"].T.contiguous().T}) == digest(one)
    assert digest(one | {"a": one["a"].double()}) == digest(one)  # the very numbers
    others = (one["a"].long(), one["a"].view(3, 2), one["a"] + 0.5, torch.empty(0, 3))
    assert len({digest(one), *(digest(one | {"a": other}) for other in others)}) == 5


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("plan.json", "level", "levle"),
        ("plan.json", '"1":', '"x":'),
        ("plan.json", '"data": [1]', '"data": [2]'),
        ("certificate.json", "gone", "went"),
        ("explanation.json", "method", "methods"),
    ],
)
def test_what_makes_no_sense_is_said_to_be_damaged(
    name: str, before: str, after: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    ARTIFACTS[name].save(path)
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        type(ARTIFACTS[name]).load(path)


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\rx"]


@pytest.mark.parametrize("text", FORMULAS)
def test_text_in_a_csv_does_not_act_as_a_formula_and_numbers_stay(
    text: str, tmp_path: Path
) -> None:
    mixed = pd.Series([text, "-1.5", -2, None], dtype=object)
    frame = pd.DataFrame({text: [-1.0, 2.5, -0.0, nan], "words": mixed, "sizes": [-1, 2, 3, 4]})
    write_csv(frame, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        (head, *rows) = csv.reader(file)
    safe = f"'{text}".replace("\r", "\n")  # the csv module would not quote it
    assert head == [safe, "words", "sizes"]
    assert [row[1] for row in rows] == [safe, "-1.5", "-2", ""]
    assert [row[0] for row in rows] == ["-1.0", "2.5", "-0.0", ""]
    assert [row[2] for row in rows] == ["-1", "2", "3", "4"]
    assert frame["words"].iloc[0] == text, "the table itself is left as it is"


def test_a_category_and_a_string_column_are_made_safe_too(tmp_path: Path) -> None:
    values = ["=1", "plain", "=1"]
    frame = pd.DataFrame({"c": pd.Categorical(values), "s": pd.Series(values, dtype="string")})
    write_csv(frame, tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv").to_numpy().tolist() == [
        ["'=1", "'=1"], ["plain", "plain"], ["'=1", "'=1"]
    ]  # fmt: skip
