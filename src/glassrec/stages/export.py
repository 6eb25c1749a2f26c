"""Export: the pruned model for use without Glassrec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module

from torch.export import ExportedProgram
from torch.onnx import OnnxExporterError

from glassrec.artifacts import Binary, Facts
from glassrec.artifacts.file_list import ONNX, PROGRAM, PROGRAM_FACTS
from glassrec.models.program import as_onnx, as_pt2, description, export_program
from glassrec.stages.prune import PruneResult


@dataclass(frozen=True)
class ExportResult:
    """The files of the exported model."""

    no_onnx: str
    """why there is no file for ONNX runtimes; empty if there is one"""


def export(pruned: PruneResult) -> ExportResult:
    """Store the pruned model as a program, with the description of its inputs."""
    context = pruned.context

    @cache
    def program() -> ExportedProgram:
        return export_program(pruned.model, context.dataset.schema)

    def onnx() -> Binary:
        for package in ("onnx", "onnxscript"):
            import_module(package)  # before the work, and with a shorter message than PyTorch's
        return Binary(as_onnx(program()))

    context.once(PROGRAM, lambda: Binary(as_pt2(program())))
    context.once(PROGRAM_FACTS, lambda: Facts(description(pruned.model, context.dataset.schema)))
    try:
        context.once(ONNX, onnx)
        return ExportResult("")
    except ModuleNotFoundError as error:
        reason = f"the package {error.name} is missing: pip install 'glassrec[onnx]'"
    except (OnnxExporterError, ValueError) as error:
        reason = str(error).splitlines()[0]
    context.run.forget(ONNX)
    return ExportResult(reason)
