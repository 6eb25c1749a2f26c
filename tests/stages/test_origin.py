"""Weights know what they were trained on: they are mapped by value, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glassrec.__main__ import main
from glassrec.artifacts import Facts, StoredTable, Weights
from glassrec.config import compose
from glassrec.data.columns import Part
from glassrec.data.encoding import Encoder
from glassrec.data.saved_encoder import restore_encoder
from glassrec.run import sha256

ROLES = """
label: click
user: user
item: item
categorical: [tags]
several: [tags]
dense: [price]
time: day
"""
SMALL = [
    "model.embedding=4", "model.bottom=[4]", "model.top=[6]", "trainer=cpu",
    "trainer.max_epochs=1", "trainer.batch_size=64",
]  # fmt: skip
NO_EPOCH = "trainer.max_epochs=0"
LSTM = [
    "model=lstm", "data.history=3", "trainer=cpu", "trainer.max_epochs=1", "trainer.batch_size=64",
]  # fmt: skip


def log(items: range, days: range, seed: int, rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    item = random.choice([*items], rows)
    return pd.DataFrame({
        "user": [f"u{number}" for number in random.integers(8, size=rows)],
        "item": [f"sku {number:02}" for number in item],
        "tags": random.choice(["a|b", "b", "c"], rows),
        "price": random.normal(20 + 5 * seed, 4, rows).round(6),
        "day": np.sort(random.choice([*days], rows)),
        "click": (random.random(rows) < 0.2 + 0.6 * (item % 2)).astype(int),
    })  # fmt: skip


def write(folder: Path, name: str, frame: pd.DataFrame) -> list[str]:
    frame.to_csv(folder / f"{name}.csv", index=False)
    (folder / "columns.yaml").write_text(ROLES)
    return [f"data.path={folder / name}.csv", f"data.columns={folder / 'columns.yaml'}"]


def train(directory: Path, *words: str) -> int:
    return main(["train", f"run.dir={directory}", *words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files and a run of each way to divide the first; tests only add to it."""
    folder = tmp_path_factory.mktemp("origin")
    january = log(range(10), range(31), seed=0)
    write(folder, "next", pd.concat([january, log(range(4, 13), range(31, 60), seed=1)]))
    write(folder, "other", log(range(3, 13), range(31), seed=2))
    write(folder, "strange", log(range(50, 60), range(31), seed=3))
    data = ["data=table", *write(folder, "january", january)]
    assert train(folder / "random", *data, *SMALL) == 0
    assert train(folder / "timed", *data, "data/split=by_time", *SMALL) == 0
    return folder


def encoder_of(run: Path) -> Encoder:
    return restore_encoder(
        StoredTable.load(run / "vocabulary.parquet").frame, Facts.load(run / "encoder.json").values
    )


def predictions(run: Path, frame: pd.DataFrame) -> Tensor:
    """(N, K): the logits of raw rows, by the encoder and the weights of a run's directory."""
    encoder = encoder_of(run)
    checked = compose.prepare("train", [f"run.dir={run}"])
    model = compose.build(checked)["model"](encoder.schema)
    model.load(load_file(run / "weights.safetensors"), "run")
    part = Part(frame, frame["click"].to_numpy(np.float32))
    return model.predict(encoder.encode(part).batch)


def rows_of(run: Path, *splits: str) -> set[int]:
    rows = StoredTable.load(run / "rows.parquet").frame
    return {*rows.loc[rows["split"].isin(splits), "row"]}


# --- what is stored ------------------------------------------------------------------------------


def test_weights_say_what_they_were_made_from(folder: Path) -> None:
    origin = Weights.load(folder / "random" / "weights.safetensors").origin
    encoder = Facts.load(folder / "random" / "encoder.json").values
    assert origin is not None
    assert origin["seed"] == 0
    assert origin["files"]["january.csv"] == sha256(folder / "january.csv")
    assert origin["data"]["split"]["_target_"].endswith("Random")
    assert origin["model"]["embedding"] == 4
    assert origin["vocabulary_sha256"] == encoder["vocabulary_sha256"]
    assert origin["encoder_sha256"] == encoder["encoder_sha256"]
    rows = StoredTable.load(folder / "random" / "rows.parquet").frame
    assert dict(rows["split"].value_counts()) == {"train": 240, "val": 30, "test": 30}
    assert sorted(rows["row"]) == [*range(1, 301)]


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    origin = {name: name for name in "hgfedcba"}
    for name in "ab":
        Weights({"w": torch.ones(2)}, dict(sorted(origin.items()))).save(tmp_path / name)
        origin = dict(reversed(origin.items()))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert Weights.load(tmp_path / "a").origin == origin


# --- the same file -------------------------------------------------------------------------------


def test_another_seed_is_refused_where_held_out_rows_were_trained_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "fresh", f"start={folder / 'random'}", "seed=1", *SMALL) == 2
    heard = capsys.readouterr()
    assert train(tmp_path / "seed 1", "data=table", "seed=1", *data_of(folder), *SMALL) == 0
    trained = rows_of(folder / "random", "train")
    leaked = len(rows_of(tmp_path / "seed 1", "val") & trained)
    assert f"{leaked} of the 30 val rows" in heard.err
    assert "seed" in heard.err
    assert "epoch" not in heard.out
    assert not (tmp_path / "fresh" / "record.json").exists()


def data_of(folder: Path, name: str = "january") -> list[str]:
    return [f"data.path={folder / name}.csv", f"data.columns={folder / 'columns.yaml'}"]


def test_data_model_and_seed_are_those_of_the_start(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["trainer=cpu", "trainer.max_epochs=0"]
    assert train(tmp_path / "run", f"start={folder / 'random'}", *words) == 0
    assert "the same as here" in capsys.readouterr().out
    found = load_file(tmp_path / "run" / "weights.safetensors")
    for name, tensor in load_file(folder / "random" / "weights.safetensors").items():
        assert torch.equal(found[name], tensor)


def test_an_epoch_that_is_worse_leaves_the_start(folder: Path, tmp_path: Path) -> None:
    words = ["optimizer=sgd", "optimizer.lr=100", "trainer=cpu", "trainer.max_epochs=2"]
    assert train(tmp_path / "run", f"start={folder / 'timed'}", *words, "optimizer.momentum=0") == 0
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert [*history["epoch"]] == [0, 1, 2]
    assert history["val/auroc"].idxmax() == 0
    found = load_file(tmp_path / "run" / "weights.safetensors")
    for name, tensor in load_file(folder / "timed" / "weights.safetensors").items():
        assert torch.equal(found[name], tensor)


# --- another file --------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], LSTM])
def test_embeddings_are_mapped_by_value(folder: Path, tmp_path: Path, words: list[str]) -> None:
    start = folder / "random"
    if "model=lstm" in words:
        start, split = tmp_path / "lstm", "data/split=by_time"
        assert train(start, "data=table", split, *data_of(folder), *words) == 0
    new = data_of(folder, "other")
    assert train(tmp_path / "run", f"start={start}", *new, "trainer=cpu", NO_EPOCH) == 0
    there, here = (encoder_of(run).vocabularies["item"] for run in (start, tmp_path / "run"))
    assert len(there.values) == len(here.values) == 10
    assert [*there.values] != [*here.values]
    frame = pd.read_csv(folder / "other.csv", dtype={"tags": str})
    frame = frame.assign(**{f"history[-{n}]": frame["item"].shift(n) for n in (1, 2, 3)})
    frame = frame[3:]
    expected = predictions(start, frame)  # values that it does not know have its unseen vector
    assert torch.equal(predictions(tmp_path / "run", frame), expected)
    assert expected.std() > 0


def test_next_month_s_file_is_trained_on_and_its_new_items_are_reported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = data_of(folder, "next")
    words = [f"start={folder / 'timed'}", *new, "trainer=cpu", "trainer.max_epochs=1"]
    assert train(tmp_path / "run", *words, "table_optimizer=sparse_adam") == 0
    assert "item 10 known, 3 new, 0 no longer there" in capsys.readouterr().out
    assert [*pd.read_csv(tmp_path / "run" / "history.csv")["epoch"]] == [0, 1]
    scalers = encoder_of(tmp_path / "run").scalers
    assert scalers == encoder_of(folder / "timed").scalers
    january = pd.read_csv(folder / "january.csv")["price"][:210]
    assert scalers["price"].mean == pytest.approx(january.mean())


def test_rows_of_earlier_starts_are_not_forgotten(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["trainer=cpu", "trainer.max_epochs=1"]
    start = f"start={folder / 'random'}"
    assert train(tmp_path / "second", start, *data_of(folder, "other"), *words) == 0
    start = f"start={tmp_path / 'second'}"
    assert train(tmp_path / "third", start, *data_of(folder), "seed=1", *words) == 2
    assert "of the 30 val rows" in capsys.readouterr().err
    assert train(tmp_path / "third", start, *data_of(folder), *words) == 0


@pytest.mark.parametrize(
    ("words", "said", "loads"),
    [(["model.embedding=8"], "holds the weights of another model", False),
     (["model=gmf"], "holds the weights of another model, DLRM, than this GMF", False),
     (["data.path={}/strange.csv"], "no value of item is known", True)],
)  # fmt: skip
def test_another_model_or_a_file_of_other_things_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    words: list[str], said: str, loads: bool,
) -> None:  # fmt: skip
    given = [word.format(folder) for word in words]
    words = [f"start={folder / 'random'}", *given, "trainer=cpu", "trainer.max_epochs=1"]
    assert train(tmp_path / "run", *words) == 2
    heard = capsys.readouterr()
    assert said in heard.err
    assert ("loading the data" in heard.out) == loads
    assert "epoch" not in heard.out


# --- files without a run -------------------------------------------------------------------------


def test_weights_without_origin_start_and_it_is_said_what_was_not_checked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(load_file(folder / "random" / "weights.safetensors"), tmp_path / "mine.safetensors")
    words = [f"start={tmp_path}/mine.safetensors", "data=table", *data_of(folder), *SMALL]
    assert train(tmp_path / "run", *words, "seed=1") == 0
    said = capsys.readouterr().out
    assert "origin unknown" in said
    assert "held-out rows" in said
    origin = Weights.load(tmp_path / "run" / "weights.safetensors").origin
    assert origin is not None
    assert origin["start"] == "unknown"


def test_weights_alone_start_a_run_of_the_same_data_and_no_other(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (folder / "random" / "weights.safetensors").read_bytes()
    (tmp_path / "mine.safetensors").write_bytes(content)
    words = [f"start={tmp_path}/mine.safetensors", "data=table", *data_of(folder), *SMALL[3:]]
    assert train(tmp_path / "run", *words) == 0  # the file says which model
    assert train(tmp_path / "seed 1", *words, "seed=1") == 2
    assert "another seed (0, here 1)" in capsys.readouterr().err
    assert train(tmp_path / "other", *words, *data_of(folder, "other")) == 2
    assert "another vocabulary_sha256" in capsys.readouterr().err


# --- the parts of a NeuMF ------------------------------------------------------------------------


@pytest.mark.long
def test_the_parts_of_a_neumf_are_checked_and_mapped_too(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=table", *data_of(folder), "model.factors=2", "trainer=cpu"]
    words += ["trainer.max_epochs=1", "trainer.batch_size=64"]
    for name in ("gmf", "mlp"):
        assert train(tmp_path / name, f"model={name}", *words) == 0
    joined = ["model=neumf", *words]
    joined += [f"model.pretrained.{name}={tmp_path / name}" for name in ("gmf", "mlp")]
    assert train(tmp_path / "leak", *joined, "seed=1") == 2
    heard = capsys.readouterr().err
    assert "model.pretrained.gmf: " in heard
    assert "of the 30 val rows" in heard
    frame = pd.read_csv(folder / "other.csv", dtype={"tags": str})
    none = ["trainer.max_epochs=0", *data_of(folder, "other")]
    assert train(tmp_path / "neumf", *joined, *none) == 0
    parts = [predictions(tmp_path / name, frame) for name in ("gmf", "mlp")]
    torch.testing.assert_close(predictions(tmp_path / "neumf", frame), sum(parts) / 2)
    assert train(tmp_path / "neumf 1", *joined, "optimizer=sgd", "optimizer.lr=1e-9") == 0
    assert [*pd.read_csv(tmp_path / "neumf 1" / "history.csv")["epoch"]] == [0, 1]


# --- what is composed ----------------------------------------------------------------------------


def test_words_choose_anew_what_the_start_gives(folder: Path) -> None:
    start = f"start={folder / 'timed'}"
    config = compose.compose("run", [start])
    assert config["data"]["path"] == str(folder / "january.csv")
    assert config["data"]["split"]["_target_"].endswith("ByTime")
    assert config["model"]["embedding"] == 4
    config = compose.compose("run", [start, "data/split=random", "data.split.test=0.3", "seed=7"])
    assert config["data"]["split"] == {
        "_target_": "glassrec.data.splits.Random", "validation": 0.1, "test": 0.3,
        "seed": None,
    }  # fmt: skip
    assert config["data"]["path"] == str(folder / "january.csv")
    assert config["seed"] == 7
    config = compose.compose("run", [start, "data=planted", "model=gmf"])
    assert config["data"]["_target_"].endswith("Planted")
    assert config["model"]["_target_"].endswith("GMF")
    assert json.dumps(config["model"]).count("embedding") == 0


def test_a_start_that_reads_other_columns_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roles = tmp_path / "columns.yaml"
    roles.write_text(ROLES.replace("time: day\n", "chronological: true\n"))
    words = [f"start={folder / 'random'}", f"data.columns={roles}", "data/split=by_time"]
    assert train(tmp_path / "run", *words, "trainer=cpu", "trainer.max_epochs=1") == 2
    assert "columns" in capsys.readouterr().err  # rows could not be compared, nor a leak found
