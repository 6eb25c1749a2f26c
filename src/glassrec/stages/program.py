"""The program of a model: plain tensors in, logits out, as PyTorch exports it."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from glassrec.artifacts.programs import without_paths
from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.models.base import Recommender

INPUTS = ("dense", "ids", "history")
LOGITS = "logits"


class Scorer(nn.Module):
    """A model that reads plain tensors: dense (B, D), ids (B, F) and history (B, T)."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, dense: Tensor, ids: Tensor, history: Tensor) -> Tensor:
        """The logits (B, K)."""
        logits: Tensor = self.model(Batch(dense, ids, history, dense.new_empty(0)))
        return logits


def export_program(model: Recommender, data: Schema) -> ExportedProgram:
    """The program of a model, which stays as it is, on the CPU, for any number of rows."""
    rows = 3
    owned = zip(data.fields, data.offsets, strict=True)
    ids = [offset for field, offset in owned for _ in range(field.values)]
    example = (
        torch.zeros(rows, len(data.dense)),
        torch.tensor(ids).repeat(rows, 1),
        torch.zeros(rows, data.history_length, dtype=torch.long),
    )
    number = Dim("rows")
    shapes = {name: {0: number} for name in INPUTS}
    model = deepcopy(model).cpu().eval()
    with torch.no_grad():
        scorer = Scorer(model.folded or model)
    return without_paths(torch.export.export(scorer, example, dynamic_shapes=shapes))
