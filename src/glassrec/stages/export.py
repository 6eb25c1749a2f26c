"""Export: the pruned model for who does not have Glassrec."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import ClassVar

from torch.export import ExportedProgram
from torch.onnx import OnnxExporterError

from glassrec.artifacts import Binary, Facts
from glassrec.models.program import as_onnx, as_pt2, description, export_program
from glassrec.stages.prune import Pruning
from glassrec.stages.stage import Stage

PRUNED = ["pruned.safetensors"]


class Exporting(Stage):
    """The pruned model as a program, and what its inputs are."""

    name: ClassVar[str] = "export"

    def __init__(self, pruned: Pruning) -> None:
        super().__init__(pruned.settings, pruned.log, pruned.given)
        self.pruned = pruned

    def tell(self) -> None:
        """Write `model.pt2`, `model.json` and, where it can be, `model.onnx`."""
        self.pruned.weights  # noqa: B018  made first
        self.once(
            "model.pt2", Binary, lambda: Binary(as_pt2(self._program)), inputs=PRUNED, needs=()
        )
        self.say("model.pt2: torch.export.load(...).module()(dense, ids, history) gives the logits")
        self.once("model.json", Facts, self._describe, inputs=PRUNED, needs=())
        self.say("model.json: the columns that go in, and the tasks that come out")
        self._write_onnx()

    def _write_onnx(self) -> None:
        def make() -> Binary:
            for package in ("onnx", "onnxscript"):
                import_module(package)  # before the work, and in fewer words than PyTorch's
            return Binary(as_onnx(self._program))

        try:
            self.once("model.onnx", Binary, make, inputs=PRUNED, needs=())
        except ModuleNotFoundError as error:
            why = f"the package {error.name} is missing: pip install 'glassrec[onnx]'"
        except (OnnxExporterError, ValueError) as error:
            why = str(error).splitlines()[0]
        else:
            self.say("model.onnx: the same for ONNX runtimes")
            return
        self.run.forget("model.onnx")
        self.say(f"model.onnx is not written: {why}")

    @cached_property
    def _program(self) -> ExportedProgram:
        return export_program(self.pruned.model, self.pruned.trained.dataset.schema)

    def _describe(self) -> Facts:
        return Facts(description(self.pruned.model, self.pruned.trained.dataset.schema))
