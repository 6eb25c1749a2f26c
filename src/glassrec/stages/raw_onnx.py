"""An ONNX model of raw values: the encoder of a bundle as nodes in front of the model.

Inputs are the columns, by name, of N rows: numbers (N,) float64, NaN where one is missing; texts or
whole numbers (N,); lists, such as tags and a history, (N, width), filled up with '' or -1: behind
the values of a field, in front of those of a history. Outputs are the columns of `score.py`, (N,).

A graph cannot refuse a row. Where a run does, since a number is missing, outside its range, or too
far from the training rows, the outputs are NaN. This module needs the package onnx.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import nan
from typing import Any

import numpy as np
from onnx import TensorProto, compose, helper, load_from_string, numpy_helper

from glassrec.data.schema import ABSENT

TYPES: dict[str, Any] = {
    "text": TensorProto.STRING, "integer": TensorProto.INT64, "number": TensorProto.DOUBLE
}  # fmt: skip
MARKS: dict[str, Any] = {"text": "", "integer": -1, "number": nan}
"""The entries of a list that are no values, by the type of its values."""

MODEL = "/"
"""Begins the names of all values of the model. Those of the encoder begin with two."""


class Nodes(list[Any]):
    """Nodes in the order of their calculation."""

    rows = f"{MODEL}/rows"
    """(1,): the number of rows"""

    def add(self, kind: str, *inputs: Any, output: str = "", domain: str = "", **more: Any) -> str:
        """The name of the output of a new node; an input that is no name is a constant."""
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        output = output or f"{MODEL}/{len(self)}"
        self.append(helper.make_node(kind, names, [output], domain=domain, **more))
        return output

    def _constant(self, value: Any) -> str:
        return self.add("Constant", value=numpy_helper.from_array(np.asarray(value)))

    def filled(self, width: int, value: Any) -> str:
        """(N, width) of one value."""
        return self.add("Expand", value, self.add("Concat", self.rows, [width], axis=0))


def raw_onnx(model: bytes, about: Mapping[str, Any]) -> bytes:
    """The bytes of a model of raw values.

    Args:
        model: ONNX, of the tensors dense, ids and history; it gives the logits.
        about: the encoder, see `bundle.plain_encoder`.

    Raises:
        ValueError: a column cannot be an input.
    """
    inner = compose.add_prefix(load_from_string(model), MODEL)
    fields = {each["name"]: each for each in about["fields"]}
    history = [fields[each["field"]] | each for each in about["history"]]
    columns = [*(each | {"type": "number", "separator": None} for each in about["dense"])]
    columns += [*fields.values(), *history]
    names = [each["name"] for each in columns]
    results = dict.fromkeys(each[name] for each in about["outputs"] for name in ("logit", "name"))
    for name in names:
        if name in results or name[:1] in ("", MODEL):
            raise ValueError(f"the column {name!r} cannot be an input of ONNX; rename it")
    nodes = Nodes()
    nodes.add("Shape", names[0], start=0, end=1, output=nodes.rows)
    valid = _add_dense(nodes, about["dense"])
    for role, given in {"ids": fields.values(), "history": history}.items():
        parts = [nodes.filled(0, ABSENT), *(_ids(nodes, each) for each in given)]
        nodes.add("Concat", *parts, axis=1, output=f"{MODEL}{role}")
    nodes.extend(inner.graph.node)
    _add_outputs(nodes, about["outputs"], valid)
    shapes = [["rows", each["width"]] if each["separator"] else ["rows"] for each in columns]
    kinds = [TYPES[each["type"]] for each in columns]
    graph = helper.make_graph(
        nodes,
        "glassrec",
        [*map(helper.make_tensor_value_info, names, kinds, shapes)],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["rows"]) for name in results],
        inner.graph.initializer,
        value_info=inner.graph.value_info,
    )
    opsets = [each for each in inner.opset_import if each.domain != "ai.onnx.ml"]
    opsets.append(helper.make_opsetid("ai.onnx.ml", 4))
    found = helper.make_model(graph, opset_imports=opsets, ir_version=inner.ir_version)
    lists = {e["name"]: (e["separator"], "field" in e) for e in columns if e["separator"]}
    helper.set_model_props(found, {"lists": json.dumps(lists)})
    content: bytes = found.SerializeToString()
    return content


def _add_dense(nodes: Nodes, dense: list[dict[str, Any]]) -> str:
    """Add the scaled numbers, (N, D) float32; (N,) bool: whether a run takes those of a row."""
    # A column of zeros besides, cut off in the end, so that no numbers at all are no other case.
    columns = [nodes.add("Unsqueeze", each["name"], [1]) for each in dense]
    raw = nodes.add("Concat", *columns, nodes.filled(1, 0.0), axis=1)
    zeros = {"low": 0.0, "high": 0.0, "log": False, "mean": 0.0, "deviation": 1.0, "missing": []}
    of = {name: [each[name] for each in (*dense, zeros)] for name in zeros}
    missing = nodes.add("And", nodes.add("IsNaN", raw), [bool(each) for each in of["missing"]])
    low = nodes.add("GreaterOrEqual", raw, of["low"])
    inside = nodes.add("And", low, nodes.add("LessOrEqual", raw, of["high"]))
    log = nodes.add("Log", nodes.add("Add", nodes.add("Max", raw, 0.0), 1.0))
    values = nodes.add("Sub", nodes.add("Where", of["log"], log, raw), of["mean"])
    values = nodes.add("Where", missing, 0.0, nodes.add("Div", values, of["deviation"]))
    scaled = nodes.add("Cast", values, to=TensorProto.FLOAT)
    nodes.add("Slice", scaled, [0], [len(dense)], [1], output=f"{MODEL}dense")
    finite = nodes.add("Not", nodes.add("IsInf", scaled))
    right = nodes.add("And", nodes.add("Or", missing, inside), finite)
    least = nodes.add("ReduceMin", nodes.add("Cast", right, to=TensorProto.INT64), [1], keepdims=0)
    return nodes.add("Cast", least, to=TensorProto.BOOL)


def _ids(nodes: Nodes, field: Mapping[str, Any]) -> str:
    """(N, width) ids of a field, or of a history of its values."""
    kind, first, mark = field["type"], field["first_id"], MARKS[field["type"]]
    ids = {value: at for at, value in enumerate(field["values"], first + 1)}
    empty = ids.get(mark, first)
    if field["separator"]:
        if mark in ids and kind != "text":
            raise ValueError(f"{field['name']} has the value {mark}, which marks no value in ONNX")
        ids[mark] = 0 if "field" in field else ABSENT
    ids = ids or {mark: first}  # an encoder needs a value
    keys = [each.encode() if kind == "text" else each for each in ids]
    found = nodes.add(
        "LabelEncoder",
        field["name"],
        domain="ai.onnx.ml",
        keys_tensor=helper.make_tensor("keys", TYPES[kind], [len(ids)], keys),
        values_tensor=numpy_helper.from_array(np.array([*ids.values()])),
        default_tensor=numpy_helper.from_array(np.array([first])),
    )
    if not field["separator"]:
        return nodes.add("Unsqueeze", found, [1])
    # A list without values has one value, which is empty; a history has none.
    none = nodes.add("And", nodes.add("Equal", found, ABSENT), np.arange(field["width"]) == 0)
    return found if "field" in field else nodes.add("Where", none, empty, found)


def _add_outputs(nodes: Nodes, outputs: list[dict[str, Any]], valid: str) -> None:
    """Add the logit and the prediction of each task, NaN where the numbers are not valid."""
    for at, each in enumerate(outputs):
        logit = nodes.add("Gather", f"{MODEL}logits", at, axis=1)
        logit = nodes.add("Cast", logit, to=TensorProto.DOUBLE)
        nodes.add("Where", valid, logit, nan, output=each["logit"])
        shown = "Sigmoid" if each["kind"] == "click" else "Identity"
        nodes.add(shown, each["logit"], output=each["name"])
