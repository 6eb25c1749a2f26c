"""A pruned module as a program, where the code of its class does not allow smaller layers."""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from glassrec.artifacts.programs import without_paths
from glassrec.imported.exported import call, export_call, map_tensors
from glassrec.imported.imported_model import ImportedModel


class GraphModule(nn.Module):
    """The operations of a module with the inputs of its `forward` and with its output."""

    def __init__(self, model: ImportedModel, signature: inspect.Signature) -> None:
        super().__init__()
        self.module, self._signature = model.module, signature
        self._exported = exported = model.graph.exported
        self._order = exported.cone([exported.output], exported.leaves.values(), sizes=True)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The output of the module."""
        values = self._exported.inputs(self._signature.bind(*args, **kwargs).arguments)
        self._exported.run(self._order, values, self.module, None)
        return cast(Tensor, values[self._exported.output])


def graph_program(model: ImportedModel, example: Any) -> ExportedProgram:
    """The program of a pruned model: called as the module, with the structure of the example."""
    given, rows = call(model.module, example), model.encode(example).rows
    args, kwargs = (map_tensors(each, torch.zeros_like) for each in given[:2])
    module = GraphModule(model, given.signature).eval()
    program = export_call(module, given._replace(args=args, kwargs=kwargs), rows)
    return without_paths(program)
