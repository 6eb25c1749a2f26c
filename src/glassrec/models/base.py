"""The seam of every model: `embed` looks ids up, `score` computes on vectors.

Explanations are about the vectors between the two, so the logit has no side door: all information
of a row passes through `Inputs`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast, final

import torch
from torch import Tensor, nn

from glassrec.data.batch import Batch, track_batches
from glassrec.data.schema import Schema
from glassrec.models.embedding import TABLE, JointTable, refuse_missing_numbers
from glassrec.models.layers import Hidden, PrunableLayer
from glassrec.models.layers.affine import TargetScale
from glassrec.models.layers.folding import Folding, recording
from glassrec.processes import each


class Inputs(NamedTuple):
    """The embedded features of B rows, which explanations are about."""

    dense: Tensor
    """(B, D)"""
    fields: Tensor
    """(B, F, E)"""
    history: Tensor
    """(B, T, E), zeros where there is padding"""
    steps: Tensor
    """(B, T): 1 where the history has a step, 0 where it is padding. Not explained."""

    @property
    def rows(self) -> int:
        """The number of rows B."""
        return self.dense.shape[0]

    def expand_to(self, rows: Inputs) -> Inputs:
        """These inputs, B rows or one, as the baseline of B `rows`: with the steps of those.

        Raises:
            ValueError: they are of another shape.
        """
        for name, part, other in zip(self._fields, self, rows, strict=True):
            if part.shape[1:] != other.shape[1:] or part.shape[0] not in (1, other.shape[0]):
                raise ValueError(
                    f"a baseline whose {name} are {tuple(part.shape)} does not fit rows whose "
                    f"{name} are {tuple(other.shape)}; give one row, or one a row"
                )
        history = self.history * rows.steps.unsqueeze(2)
        spread = self._replace(history=history, steps=rows.steps)
        return Inputs(*(part.expand_as(x) for part, x in zip(spread, rows, strict=True)))


LoadPart = Callable[["Recommender", Path], None]


class Recommender(nn.Module, ABC):
    """A model split once, between looking ids up and computing on vectors.

    A new model calls `super().__init__`, builds its layers, and writes `score`.

    Args:
        data: the columns of the batches that come in.
        reads: the columns of them that this model reads, in its own order. Its joint table `table`
            (rows, E) holds these fields only.
        width: E, the number of parameters of one id. All parameters of a field's id lie side by
            side in one row of the table: two embeddings of one field are two column ranges. Those
            that are no longer read need not be stored, see `narrow`; `Inputs` keep width E.
        table: of an imported model, which has `embed` and tables of its own.
    """

    _folds = False

    def __init_subclass__(cls, folds: bool = False) -> None:
        """`folds`: `score` of a folded copy works on vectors as the table stores them."""
        super().__init_subclass__()
        cls._folds = folds

    def __init__(
        self, data: Schema, reads: Schema, width: int, table: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.schema = reads
        self.width = width
        self.table: Any = JointTable(data, reads, width) if table is None else table
        self.target_scale = TargetScale(data.targets)
        self._folding = Folding()
        dense = [data.dense.index(name) for name in reads.dense]
        self._dense = slice(None) if dense == [*range(len(data.dense))] else dense
        self.register_load_state_dict_post_hook(refuse_missing_numbers)

    def embed(self, batch: Batch) -> Inputs:
        """The vectors of a batch: dense (B, D), fields (B, F, E), history (B, T, E)."""
        fields = self.table.fields(batch.ids)
        history = self.table.history(batch.history[:, : self.schema.history_length])
        return Inputs(batch.dense[:, self._dense], fields, *history)

    @abstractmethod
    def score(self, inputs: Inputs) -> Tensor:
        """The scores (B, K) of embedded rows; the only method that a new model writes.

        The score of a click or a retrieval is its logit. That of a rating is in standard units, so
        that a model does not depend on the unit of the data; see `TargetScale`.
        """

    @final
    def task_logits(self, inputs: Inputs) -> Tensor:
        """The logits (B, K) of embedded rows; the logit of a rating is its estimate in its unit.

        Raises:
            ValueError: `score` gives another shape.
        """
        scores, tasks = self.score(inputs), len(self.schema.targets)
        if scores.dim() != 2 or scores.shape[1] not in (1, tasks):
            raise ValueError(
                f"{type(self).__name__}.score gives {tuple(scores.shape)} for {inputs.rows} rows; "
                f"it must give ({inputs.rows}, {tasks}), one column per task"
            )
        return self.target_scale(scores)

    @final  # type: ignore[misc]  # nn.Module declares `forward` as an attribute
    def forward(self, batch: Batch) -> Tensor:
        """The logits (B, K) of a batch; see `folded`."""
        return (self.folded or self).batch_logits(batch)

    def batch_logits(self, batch: Batch) -> Tensor:
        """The logits (B, K) of a batch; for models that need not embed every row."""
        return self.task_logits(self.embed(batch))

    @property
    def folded(self) -> Recommender | None:
        """A copy of a pruned model for inference, see `Folding`; `forward` uses it in evaluation
        mode, without gradients, while no activations are recorded, if the model can be folded.
        """
        unfolded = self.training or torch.is_grad_enabled() or recording or not self._folds
        return None if unfolded or self.table.weight is None else self._folding.copy_of(self)

    def fold(self) -> None:
        """Make this copy of a pruned model one for inference alone, see `Folding`."""
        self._folds = False  # it is folded
        for layer in self.layers.values():
            layer.fold(self.table)
        self.table.fold()

    @torch.no_grad()
    def predict(self, batch: Batch, chunk: int = 16384) -> Tensor:
        """The logits (N, K) of any number of rows, `chunk` at a time, in evaluation mode, on the
        CPU; of several processes the first one gets them, the others (0, K).
        """
        training = self.training
        self.eval()
        parts = track_batches(batch.chunks(chunk), batch.rows)
        logits = [*each(parts, lambda x: self(x.to(self.device)).cpu(), everywhere=False)]
        self.train(training)
        return torch.cat(logits) if logits else torch.empty(0, len(self.schema.targets))

    @property
    def layers(self) -> dict[str, PrunableLayer]:
        """The layers whose neurons can be explained and pruned, by name, input side first."""
        return {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, PrunableLayer) and module.size
        }

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return cast(torch.device, self.table.read.device)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of vectors and logits."""
        return cast(torch.dtype, self.table.dtype)

    @property
    def parameter_count(self) -> int:
        """The number of parameters, tables included."""
        divided = 0 if self.table.weight is not None else self.table.numbers
        return divided + sum(parameter.numel() for parameter in self.parameters())

    def feature_pairs(self) -> Tensor | None:
        """(D + F, D + F): how strongly the weights tie each pair of features; None if unknown."""
        return None

    def dimensions(self) -> Tensor:
        """(F, E) bool: which numbers of each field's vectors `score` still reads; all if unknown.

        A model whose neurons are such numbers overrides it, so that its table shrinks with them.
        """
        return torch.ones_like(self.table.read)

    @final
    def narrow(self) -> None:
        """Shrink the table to the numbers that are still read; no bit of the logits changes."""
        self.table.narrow(self.dimensions())
        self._folding = Folding()

    @final
    def fold_norms(self) -> bool:
        """Make batch normalisations of towers a part of their weights; whether there were any."""
        return sum(m.fold_norm() for m in self.modules() if isinstance(m, Hidden)) > 0

    def take_over(self, load: LoadPart) -> bool:
        """Initialise from the runs that the settings name by `load`; whether there are any."""
        return False

    def load(
        self, weights: Mapping[str, Tensor], origin: str, *, share_table: bool = False
    ) -> None:
        """Take weights over, with the widths of pruned layers; ValueError for another model's.

        With `share_table` the joint table is the tensor of `weights`, not to be trained, and the
        others are in the precision and on the device that they have there.
        """
        own = {n: w.clone() if share_table and n != TABLE else w for n, w in weights.items()}
        try:
            self.load_state_dict(own, assign=share_table)
            self._folding = Folding()
        except RuntimeError as error:
            first, *_ = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
            raise ValueError(
                f"{origin} holds the weights of another model than this {type(self).__name__}: "
                f"{first[:200]}"
            ) from None
