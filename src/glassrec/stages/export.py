"""Export: the pruned model as a program, one file that PyTorch runs without Glassrec, and ONNX.

Their inputs are tensors in the data's own columns, as in a `Batch` without targets; the bundle
beside them takes raw rows.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.onnx import OnnxExporterError

from glassrec.artifacts import Binary, Facts, File
from glassrec.artifacts.file_list import (
    BUNDLE_INT8,
    BUNDLE_ONNX,
    INT8,
    ONNX,
    PROGRAM,
    PROGRAM_FACTS,
    PRUNED,
)
from glassrec.artifacts.file_list import DLRM_CHECKPOINT as CHECKPOINT
from glassrec.artifacts.programs import as_onnx, as_pt2
from glassrec.data.schema import ABSENT, UNSEEN, Schema
from glassrec.models.base import Recommender
from glassrec.models.dlrm import DLRM
from glassrec.models.dlrm_checkpoint import to_layout
from glassrec.prune.precision import to_float32_where_equal
from glassrec.stages.bundle import bundle, plain_encoder, stored_encoder
from glassrec.stages.context import Context
from glassrec.stages.program import LOGITS, export_program
from glassrec.stages.prune import PruneResult


def description(model: Recommender, data: Schema) -> dict[str, Any]:
    """How to call the program: names and order of all columns, and the sizes.

    The name of a field of several values comes several times among the columns of the ids.
    """
    fields = [
        {"name": field.name, "columns": [*data.id_columns(field.name)], "first_id": offset,
         "size": field.size}
        for field, offset in zip(data.fields, data.offsets, strict=True)
    ]  # fmt: skip
    columns = [field.name for field in data.fields for _ in range(field.values)]
    return {
        "model": type(model).__name__,
        "inputs": {
            "dense": {"type": "float32", "columns": [*data.dense]},
            "ids": {"type": "int64", "columns": columns, "fields": fields},
            "history": {"type": "int64", "columns": data.history_length, "field": data.item},
        },
        "outputs": {LOGITS: [{"name": t.name, "kind": t.kind} for t in data.targets]},
        "reads": [*model.schema.dense, *model.schema.field_names],
        "units": {name: len(layer.units) for name, layer in model.layers.items()},
        "notes": [
            "inputs and output have a row each: dense (rows, columns), and so on",
            "dense columns are scaled as in training",
            f"an id is the field's first_id plus {UNSEEN} for a value unseen in training, or plus "
            "its index in the field's vocabulary, counted from 1"
            if data.unseen
            else "an id is the field's first_id plus its number in the data",
            f"{ABSENT} stands where a field of several columns has fewer values",
            "history: ids of the field, oldest first, with zeros in front where there are fewer",
        ],
    }


@dataclass(frozen=True)
class ExportResult:
    """The files of the exported model."""

    not_written: Mapping[str, str]
    """why there is no such file for ONNX runtimes, by its name"""
    checkpoint: str | None
    """what the checkpoint of facebookresearch/dlrm is, or why there is none; None without a DLRM"""
    golden: int | None
    """the number of golden rows in the bundle; None without one, as the data has no raw rows"""


def export(pruned: PruneResult) -> ExportResult:
    """Store the pruned model as a program, with the description of its inputs, and as a bundle.

    No data is read if the run has an encoder.
    """
    context = pruned.context
    encoder = stored_encoder(context.run)
    schema = context.dataset.schema if encoder is None else encoder.schema

    @cache
    def model(*, float64: bool = False) -> Recommender:
        small = context.settings.model(schema)
        small = small.double() if float64 else small
        small.load(pruned.weights.tensors, str(context.run.dir / PRUNED.name))
        return small.eval()

    @cache
    def program() -> ExportedProgram:
        return export_program(model(), schema)

    def onnx() -> bytes:
        for package in ("onnx", "onnxscript"):
            import_module(package)  # before the work, and with a shorter message than PyTorch's
        return as_onnx(program(), LOGITS)

    def layout() -> bytes:
        file = io.BytesIO()
        torch.save(to_float32_where_equal(to_layout(cast(DLRM, model(float64=True)))), file)
        return file.getvalue()

    def raw(about: Mapping[str, Any]) -> bytes:
        from glassrec.stages.raw_onnx import raw_onnx  # here, as it imports onnx

        return raw_onnx(context.run.load(ONNX).content, about)

    exported = context.once(PROGRAM, lambda: Binary(as_pt2(program())))
    context.once(PROGRAM_FACTS, lambda: Facts(description(model(), schema)))
    checkpoint = golden = None
    reasons = _written(context, ONNX, onnx)
    if encoder is not None:
        about = plain_encoder(encoder)
        reasons = reasons or _written(context, BUNDLE_ONNX, lambda: raw(about))
        if context.run.has(INT8):
            from glassrec.stages.raw_onnx import raw_onnx

            int8 = context.run.load(INT8).content
            reasons = reasons | _written(context, BUNDLE_INT8, lambda: raw_onnx(int8, about))
        golden = bundle(context, encoder, model, exported)
    if isinstance(model(), DLRM):
        why = _written(context, CHECKPOINT, layout).get(CHECKPOINT.name)
        checkpoint = f"not written: {why}" if why else "the same for facebookresearch/dlrm"
    return ExportResult(reasons, checkpoint, golden)


def _written(context: Context, file: File[Binary], make: Callable[[], bytes]) -> dict[str, str]:
    """Store a file of another format; its name and the reason if that cannot be made."""
    try:
        context.once(file, lambda: Binary(make()))
        return {}
    except ModuleNotFoundError as error:
        reason = f"the package {error.name} is missing: pip install 'glassrec[onnx]'"
    except (OnnxExporterError, ValueError) as error:
        reason = str(error).splitlines()[0]
    context.run.forget(file)
    return {file.name: reason}
