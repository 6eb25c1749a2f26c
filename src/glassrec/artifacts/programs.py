"""Programs of `torch.export` as the bytes of files: PyTorch's own format, and ONNX."""

from __future__ import annotations

import io
import logging
import warnings
from importlib import import_module
from typing import Any

import torch
from torch.export import ExportedProgram

MAX_ONNX_BYTES = 2**31 - 2**20
"""Bytes of weights that one ONNX file can hold, with some room for the graph."""


def without_paths(program: ExportedProgram) -> ExportedProgram:
    """The program, in which no operation names a file of this machine any more."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def as_pt2(program: ExportedProgram) -> bytes:
    """The bytes that `torch.export.load` reads."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def as_onnx(program: ExportedProgram, output: str) -> bytes:
    """The bytes that an ONNX runtime reads.

    Raises:
        ModuleNotFoundError: the packages onnx and onnxscript are not installed.
        torch.onnx.OnnxExporterError: PyTorch's exporter cannot express the model.
        ValueError: the model is too large for one file.
    """
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size >= MAX_ONNX_BYTES:
        raise ValueError(f"an ONNX file ends at 2 GiB, and the weights have {size / 2**30:.1f} GiB")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # no model needs torchvision
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of PyTorch's own code
        found = torch.onnx.export(
            program, dynamo=True, verbose=False, output_names=[output],
            custom_translation_table={torch.ops.aten.index_add.default: _index_add},
        )  # fmt: skip
    assert found is not None, "no file was named"
    content: bytes = found.model_proto.SerializeToString()
    return content


def _index_add(self: Any, dim: int, index: Any, source: Any, alpha: float = 1.0) -> Any:
    """`torch.index_add` as a product with a matrix of zeros and ones.

    PyTorch's own translation is a ScatterND of sums. With two threads onnxruntime (1.20.0, 1.32.0)
    loses some of their terms, now and then.
    """
    op: Any = import_module("onnxscript").opset18
    size, axes = op.Shape(self, start=dim, end=dim + 1), [*range(len(source.shape))]
    places = op.Range(op.Constant(value_int=0), op.Squeeze(size), op.Constant(value_int=1))
    same = op.Equal(op.Unsqueeze(index, op.Constant(value_ints=[1])), places)
    weights = op.Mul(op.CastLike(same, source), op.CastLike(op.Constant(value_float=alpha), source))
    axes[dim], axes[-1] = axes[-1], axes[dim]
    sums = op.MatMul(op.Transpose(source, perm=axes), weights)
    return op.Add(self, op.Transpose(sums, perm=axes))
