"""The int8 copy of a pruned model for onnxruntime, compared with the trained model.

Every row of a table has whole numbers of -127 to 127 and a scale of its own, in float16. Products
of activations with weights run in int8: weights have a scale for each output, activations one for
all rows that pass at once, so that a logit also depends a little on the rows beside it. Biases,
products of vectors, and layers that read no activations stay in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from glassrec.artifacts import Binary, Weights
from glassrec.artifacts import file_list as files
from glassrec.artifacts.programs import as_onnx
from glassrec.artifacts.pruning import Int8Comparison
from glassrec.data.batch import Batch
from glassrec.metrics.model_pair import ModelPair, agreement
from glassrec.models.base import Recommender
from glassrec.processes import each
from glassrec.prune.logit_differences import highest_permille
from glassrec.stages.context import Context, TrainedModel
from glassrec.stages.program import LOGITS, export_program


class Int8Model(nn.Module):
    """An int8 copy in onnxruntime, on the CPU, with as many threads as PyTorch has."""

    device = torch.device("cpu")

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        self.names = [each.name for each in self.session.get_inputs()]

    def forward(self, batch: Batch) -> Tensor:
        """The logits (B, K) of a batch."""
        given = {name: getattr(batch, name).numpy() for name in self.names}
        return torch.from_numpy(self.session.run(None, given)[0])

    def predict(self, batch: Batch, chunk: int = 16384) -> Tensor:
        """The logits (N, K) of any number of rows, `chunk` at a time; see `Recommender.predict`."""
        parts = [*each(batch.chunks(chunk), self, everywhere=False)]
        return torch.cat(parts) if parts else torch.empty(0, 1)


def check_int8(context: Context) -> None:
    """ValueError if no int8 copy can be made: packages are missing, or a task is a retrieval."""
    packages = ("onnx", "onnxscript", "onnxruntime")
    if lacks := [name for name in packages if find_spec(name) is None]:
        raise ValueError(
            f"prune.quantize: int8 needs {', '.join(lacks)}; pip install 'glassrec[onnx]'"
        )
    if any(target.kind == "retrieval" for target in context.dataset.schema.targets):
        raise ValueError(
            "prune.quantize: int8 is not allowed for a retrieval, whose users and items are scored "
            "apart; leave it empty"
        )


def int8_copy(context: Context, weights: Weights) -> Binary:
    """The int8 copy of the pruned model with these weights, as ONNX."""
    model = context.load_model(weights, files.PRUNED)
    return Binary(quantized(as_onnx(export_program(model, context.dataset.schema), LOGITS)))


def quantized(model: bytes, keep: Sequence[str] | None = None) -> bytes:
    """An ONNX model with int8 tables and towers.

    The products of the names `keep` stay in float32; if None, those whose inputs are no activations
    of a ReLU. Pairs and raw numbers have long tails, and the one scale of all of them would be
    coarse: logits of a DLRM of Criteo's size change 22 times as much (`benchmarks/int8.py`).
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    proto = onnx.load_from_string(model)
    _quantize_tables(proto.graph)
    _pick_columns(proto)
    del proto.graph.value_info[:]  # of weights that onnxruntime 1.20 transposes
    active = {node.output[0] for node in proto.graph.node if node.op_type == "Relu"}
    if keep is None:
        keep = [node.name for node in proto.graph.node if not active & {*node.input}]
    with TemporaryDirectory() as folder:
        path, level = Path(folder, "quantized"), logging.root.manager.disable
        logging.disable(logging.WARNING)  # it recommends a step that needs symbolic shapes
        try:
            quantize_dynamic(
                proto, path, op_types_to_quantize=["MatMul"], per_channel=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[f"{name}{end}" for name in keep for end in ("", "_MatMul")],
            )  # fmt: skip
        finally:
            logging.disable(level)
        return path.read_bytes()


def _quantize_tables(graph: Any) -> None:
    """Look rows up as int8 and multiply them with their scales, wherever float rows are read."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, tables = [], {}
    stored = {each.name: each for each in graph.initializer}
    for node in graph.node:
        table = stored.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.data_type != TensorProto.FLOAT or len(table.dims) != 2:
            nodes.append(node)
            continue
        tables[table.name], (_, ids), out = table, node.input, node.output[0]
        values, scales = f"{table.name}_int8", f"{table.name}_scale"
        for name in (values, scales):
            nodes.append(helper.make_node("Gather", [name, ids], [f"{out}_{name}"]))
            nodes.append(
                helper.make_node(
                    "Cast", [f"{out}_{name}"], [f"{out}_{name}_float"], to=TensorProto.FLOAT
                )
            )
        factors = [f"{out}_{name}_float" for name in (values, scales)]
        nodes.append(helper.make_node("Mul", factors, [out]))
    for name, table in tables.items():
        for end, part in zip(
            ("int8", "scale"), int8_rows(numpy_helper.to_array(table)), strict=True
        ):
            graph.initializer.append(numpy_helper.from_array(part, f"{name}_{end}"))
        graph.initializer.remove(table)
    del graph.node[:]
    graph.node.extend(nodes)


def _pick_columns(model: Any) -> None:
    """Pick columns of a matrix, such as pairs, by the one operation that is fast at it.

    Gather copies number by number: 5.3 of the 20 ms of 4,096 rows of a DLRM of Criteo's size.
    """
    from onnx import TensorProto, helper, shape_inference

    values = shape_inference.infer_shapes(model).graph.value_info
    matrices = {
        each.name
        for each in values
        if each.type.tensor_type.elem_type == TensorProto.FLOAT
        and len(each.type.tensor_type.shape.dim) == 2
    }
    vectors = {each.name for each in model.graph.initializer if len(each.dims) == 1}
    for node in model.graph.node:
        axis = [each.i for each in node.attribute]
        columns = node.op_type == "Gather" and axis == [1] and node.input[0] in matrices
        if columns and node.input[1] in vectors:
            node.op_type, node.domain = "ArrayFeatureExtractor", "ai.onnx.ml"
            del node.attribute[:]
    if not any(each.domain == "ai.onnx.ml" for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 4))


def int8_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows (N, E) of a table as int8, and their scales (N, 1) in float16.

    A value is off by at most half a scale, which is the largest |value| of the row over 127.
    """
    exact = np.abs(table).max(1, keepdims=True, initial=0) / 127
    scale = exact.astype(np.float16)
    scale = np.where(scale < exact, np.nextafter(scale, np.float16(np.inf)), scale)
    whole = np.divide(table, scale, out=np.zeros_like(table), where=scale > 0)
    return np.rint(whole).astype(np.int8), scale


def int8_pair(trained: TrainedModel, content: Binary, split: str = "test") -> ModelPair:
    """The trained model and an int8 copy."""
    small = cast(Recommender, Int8Model(content.content))
    return ModelPair(trained.model, small, trained.context.dataset, split)


def compare_int8(trained: TrainedModel, content: Binary) -> Int8Comparison:
    """The change of the test rows' logits from the trained model to an int8 copy."""
    pair = int8_pair(trained, content)
    before, after = pair.logits
    change = (after - before).abs()
    largest = change.max(1).values
    return Int8Comparison(
        rows=len(largest),
        max_abs_logit_difference=largest.max().item(),
        p999_abs_logit_difference=highest_permille(largest, len(largest))[-1].item(),
        mean_abs_logit_difference=change.mean().item(),
        agreement=agreement(pair, seed=trained.context.settings.seed),
        bytes=len(content.content),
    )
