"""The model of raw values in the bundle, in onnxruntime."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from bare_process import run_without
from raw_clicks import FinishedRun, new_rows

from glassrec.artifacts.programs import as_onnx
from glassrec.data.columns import Columns, Part
from glassrec.data.encoding import Encoder
from glassrec.data.events import step_names
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.rows import encode_frame
from glassrec.models.ncf import NeuMF
from glassrec.run import ReadOnlyRun
from glassrec.stages import recompute_raw
from glassrec.stages.bundle import plain_encoder
from glassrec.stages.check_findings import Passed
from glassrec.stages.program import LOGITS, export_program

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")

from glassrec.stages.raw_onnx import raw_onnx  # noqa: E402
from glassrec.stages.score_onnx import OnnxBundle, check  # noqa: E402

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "export.md"

MISSING = ("glassrec", "torch", "pyarrow", "onnx", "lightning")


def alone(bundle: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The end of `python score_onnx.py ...`, with onnxruntime and pandas alone."""
    return run_without(MISSING, bundle / "score_onnx.py", *words)


def assert_same(found: pd.Series, logits: torch.Tensor) -> None:
    """Equal to 1e-6, relative to a logit or to 1."""
    own = logits.double().numpy()
    assert (np.abs(found.to_numpy() - own) <= 1e-6 * np.maximum(1, np.abs(own))).all()


def test_raw_rows_get_the_logits_of_the_run(
    finished: FinishedRun, opened: OpenedRun, bundle: Path, tmp_path: Path
) -> None:
    rows = new_rows(finished.test)
    assert (rows["age"] == "").any()
    logits = opened.pruned.predict(encode_frame(opened, rows).batch)[:, 0]
    rows.to_csv(tmp_path / "rows.csv", index=False)
    done = alone(bundle, tmp_path / "rows.csv")
    assert done.returncode == 0, done.stderr
    (tmp_path / "scored.csv").write_text(done.stdout, encoding="utf-8")
    found = pd.read_csv(tmp_path / "scored.csv", keep_default_na=False)
    assert [*found] == [*rows, "logit", "probability"]
    assert found["city"].tolist() == rows["city"].tolist()
    assert_same(found["logit"], logits)
    assert_same(found["probability"], logits.double().sigmoid())
    for count in (1, 2):
        assert_same(OnnxBundle(bundle).score(rows.astype(str)[:count])["logit"], logits[:count])
    onnx.checker.check_model(onnx.load(bundle / "model.onnx"), full_check=True)


def test_the_example_of_the_guide_runs(
    opened: OpenedRun, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = GUIDE.read_text(encoding="utf-8").split("```py\n")[1:]
    (code,) = (block.split("```")[0] for block in blocks if "onnxruntime" in block)
    monkeypatch.chdir(bundle.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    rows = pd.DataFrame({
        "user_id": ["u_00007", "somebody"], "sku": ["sku-0003", "sku-0004"],
        "city": ["Paris", "Atlantis"], "device": "phone", "brand": ["brand 3", "brand 4"],
        "tags": ["new|sale", "sale"], "price": [9.5, 60.0], "age": [None, 31.0],
        "views": [100, 400],
    })  # fmt: skip
    logits = opened.pruned.predict(encode_frame(opened, rows).batch)[:, 0]
    assert_same(pd.Series(names["logit"]), logits)
    assert_same(pd.Series(names["probability"]), logits.double().sigmoid())


def test_a_row_that_a_run_refuses_has_no_logit(
    finished: FinishedRun, opened: OpenedRun, bundle: Path
) -> None:
    row = finished.test.head(1).astype(str)
    cells = [
        ("age", "", True), ("age", "120", True), ("age", "120.5", False), ("age", "-1", False),
        ("price", "", False), ("price", "1e30", True), ("price", "-7", True),
        ("price", "1e39", False), ("price", "inf", False), ("views", "-3", True),
        ("views", "1e38", True), ("views", "inf", False), ("views", "", False),
    ]  # fmt: skip
    rows = pd.concat([row.assign(**{name: cell}) for name, cell, _ in cells], ignore_index=True)
    found = OnnxBundle(bundle).score(rows)["logit"]
    for at, (_, _, taken) in enumerate(cells):
        one = rows.iloc[[at]]
        if taken:
            assert_same(found[[at]], opened.pruned.predict(encode_frame(opened, one).batch)[:, 0])
        else:
            assert np.isnan(found[at])
            with pytest.raises(ValueError, match="row 1"):
                encode_frame(opened, one)


def test_a_history_is_a_list_of_items(
    sequential: FinishedRun, opened_sequence: OpenedRun, sequence: Path
) -> None:
    rows = sequential.test.head(40).astype(str).reset_index(drop=True)
    given = ["", "sku-0003", "sku-0001|never| sku-0002 ", "|".join(f"sku-{k:04}" for k in range(9))]
    rows["history"] = [given[k % 4] for k in range(len(rows))]
    logits = opened_sequence.pruned.predict(encode_frame(opened_sequence, rows).batch)[:, 0]
    assert_same(OnnxBundle(sequence).score(rows)["logit"], logits)
    assert logits[0] != logits[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price,age\n1,2\n", "the column views is missing"),
        (None, "column price: could not convert"),
    ],
)
def test_an_error_names_the_column(
    finished: FinishedRun, bundle: Path, tmp_path: Path, text: str | None, message: str
) -> None:
    finished.test.head(3).assign(price="cheap").to_csv(tmp_path / "rows.csv", index=False)
    if text is not None:
        (tmp_path / "rows.csv").write_text(text)
    done = alone(bundle, tmp_path / "rows.csv")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def _change_vocabulary(model: Any) -> None:
    """Paris becomes another city."""
    keys = next(
        each.t
        for node in model.graph.node
        if node.op_type == "LabelEncoder" and node.input[0] == "city"
        for each in node.attribute
        if each.name == "keys_tensor"
    )
    keys.string_data[[*keys.string_data].index(b"Paris")] = b"Parys"


def _change_scaler(model: Any) -> None:
    """The means of all numbers, subtracted as float64, grow by a thousandth."""
    mean = next(node.input[1] for node in model.graph.node if node.op_type == "Sub")
    tensor = next(node for node in model.graph.node if node.output[0] == mean).attribute[0].t
    changed = onnx.numpy_helper.to_array(tensor) * 1.001
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed))


def _change_weight(model: Any) -> None:
    tensor = next(each for each in model.graph.initializer if each.name.endswith("bias"))
    changed = onnx.numpy_helper.to_array(tensor) + np.float32(0.1)
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))


@pytest.mark.parametrize("change", [_change_vocabulary, _change_scaler, _change_weight])
def test_golden_rows_find_a_change(
    bundle: Path, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    assert [*check(bundle)] == []
    model = onnx.load(bundle / "model.onnx")
    change(model)
    onnx.save(model, tmp_path / "model.onnx")
    shutil.copy(bundle / "golden.csv", tmp_path)
    assert any(": logit is " in line for line in check(tmp_path))


@pytest.mark.parametrize("name", ["bundle", "sequence"])
def test_the_script_scores_the_golden_rows(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(name)
    assert "model.onnx" in json.loads((folder / "manifest.json").read_text())
    done = alone(folder, "--check")
    assert (done.returncode, done.stdout) == (0, "the golden rows are as exported\n"), done.stderr


def test_verify_covers_the_model(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    run = ReadOnlyRun(tmp_path, {})
    (passed,) = recompute_raw.check_onnx(run)
    assert isinstance(passed, Passed)
    rows = pd.read_csv(bundle / "golden.csv", dtype=str, keep_default_na=False)
    rows.loc[3, "expected/logit"] = "0.123"
    rows.to_csv(tmp_path / "bundle" / "golden.csv", index=False)
    wrong, _ = recompute_raw.check_onnx(run)
    assert str(wrong).startswith("bundle/model.onnx: row 3: logit is ")
    monkeypatch.setattr(recompute_raw, "find_spec", lambda name: None)
    (passed,) = recompute_raw.check_onnx(run)
    assert "by its hash alone, as onnxruntime is not installed" in str(passed)


def tensors_as_logits() -> bytes:
    """A model whose logits are all numbers that it is given: dense, then ids, then history."""
    from onnx import TensorProto, helper

    kinds = {"dense": TensorProto.FLOAT, "ids": TensorProto.INT64, "history": TensorProto.INT64}
    nodes = [helper.make_node("Cast", [name], [f"{name}_"], to=1) for name in kinds]
    nodes.append(helper.make_node("Concat", [f"{name}_" for name in kinds], ["logits"], axis=1))
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "same", inputs, outputs)
    opsets = [helper.make_opsetid("", 18)]
    found: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return found


def encoded(about: dict[str, Any], inputs: dict[str, np.ndarray], width: int) -> np.ndarray:
    """The tensors (N, width) that the nodes in front of a model give it."""
    outputs = [{"name": f"{k}", "logit": f"logit {k}", "kind": "rating"} for k in range(width)]
    content = raw_onnx(tensors_as_logits(), about | {"outputs": outputs})
    found = runtime.InferenceSession(content).run([each["name"] for each in outputs], inputs)
    return np.stack(found, 1)


def tensors(encoder: Encoder, frame: pd.DataFrame) -> np.ndarray:
    batch = encoder.encode(Part(frame, np.zeros((len(frame), len(encoder.schema.targets))))).batch
    return np.concatenate([batch.dense, batch.ids, batch.history], 1)


def test_numbers_of_any_size_and_whole_numbers_as_items() -> None:
    random = np.random.default_rng(0)
    train = pd.DataFrame({
        "user": random.integers(5, size=50) * 10**12,
        "item": random.integers(-7, 0, size=50) * 2,
        "time": 1.7e9 + random.random(50),  # float32 has no digits for it
        "count": random.integers(10**6, size=50) ** 3.0,
        "same": 4.0,
    })  # fmt: skip
    steps = pd.DataFrame(np.full((50, 3), None, object), columns=step_names(3))
    columns = Columns(
        label="label", user="user", item="item", dense=("time", "count", "same"),
        missing_ok=("count",), log=("count",),
    )  # fmt: skip
    encoder = Encoder.fit(pd.concat([train, steps], axis=1), columns, history=3)
    rows = pd.DataFrame({
        "user": [0, 10**12, 7], "item": [-2, -4, 5], "time": [1.7e9, 1.7e9 + 0.25, -3.0],
        "count": [np.nan, 0.5, -8.0], "same": [4.0, 5.0, 1e20],
    })  # fmt: skip
    past = pd.DataFrame([[None, None, None], [None, -4, 99], [-6, -6, -2]], columns=step_names(3))
    inputs = {name: rows[name].to_numpy() for name in rows}
    inputs["history"] = np.array([[-1, -1, -1], [-1, -4, 99], [-6, -6, -2]])
    found = encoded(plain_encoder(encoder), inputs, 8)
    np.testing.assert_array_equal(found, tensors(encoder, pd.concat([rows, past], axis=1)))


def test_fields_without_numbers_known_values_or_tags() -> None:
    train = pd.DataFrame({
        "tags": ["a|b|c", "", "ü|a"], "rare": ["x", "y", "z"], "size": [0.5, 1.5, 0.5],
    })  # fmt: skip
    columns = Columns(label="label", categorical=("tags", "rare", "size"), several=("tags",))
    for least in (1, 2):  # then no `rare` is known, and neither is the empty tag
        encoder = Encoder.fit(train, columns, min_count=least)
        rows = pd.DataFrame({
            "tags": ["", "b", "a|q|ü", "c"], "rare": ["", "y", "?", "x"], "size": [0.5, 2, 1.5, 9],
        })  # fmt: skip
        inputs = {name: rows[name].to_numpy(object) for name in ("tags", "rare")}
        inputs["tags"] = np.array(
            [["", "", ""], ["b", "", ""], ["a", "q", "ü"], ["c", "", ""]], object
        )
        inputs["size"] = rows["size"].to_numpy()
        found = encoded(plain_encoder(encoder), inputs, 5)
        np.testing.assert_array_equal(found, tensors(encoder, rows))


@pytest.mark.parametrize("name", ["/inner", "label/logit"])
def test_a_column_that_no_input_can_be_is_named(name: str) -> None:
    encoder = Encoder.fit(pd.DataFrame({name: ["a"]}), Columns(label="x", categorical=(name,)))
    about = plain_encoder(encoder)
    about["outputs"][0]["logit"] = "label/logit"
    with pytest.raises(ValueError, match=f"column '{name}' cannot be an input of ONNX; rename"):
        raw_onnx(tensors_as_logits(), about)


def test_a_pruned_model_of_two_tasks_on_whole_numbers() -> None:
    random = np.random.default_rng(0)
    train = pd.DataFrame({
        "user": random.integers(20, size=90), "item": random.integers(30, size=90),
        "stars": random.integers(1, 6, 90).astype(float),
    })  # fmt: skip
    encoder = Encoder.fit(train, Columns(label="click", rating="stars", user="user", item="item"))
    torch.manual_seed(0)
    model = NeuMF(encoder.schema, factors=4)
    torch.nn.init.normal_(model.table.weight)
    for layer in model.layers.values():  # every other neuron goes
        layer.keep(torch.arange(1, len(layer.units), 2), torch.zeros(len(layer.units)))
    content = as_onnx(export_program(model, encoder.schema), LOGITS)
    session = runtime.InferenceSession(raw_onnx(content, plain_encoder(encoder)))
    rows = train[["user", "item"]] + [0, 12]  # some items are unseen
    names = ["click/logit", "click/probability", "stars/logit", "stars/estimate"]
    assert [each.name for each in session.get_outputs()] == names
    inputs = {name: rows[name].to_numpy() for name in rows}
    click, probability, _, stars = session.run(names, inputs)
    logits = model.predict(encoder.encode(Part(rows, np.zeros((90, 2)))).batch).double()
    for found, own in ((click, logits[:, 0]), (stars, logits[:, 1])):
        assert_same(pd.Series(found), own)
    assert_same(pd.Series(probability), logits[:, 0].sigmoid())
