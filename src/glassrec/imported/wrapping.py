"""`glassrec.wrap`: open a trained module, explain it, and remove the neurons that do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.artifacts import Attributions, Certificate, PrunePlan
from glassrec.data.batch import Batch, Split
from glassrec.data.dataset import Dataset
from glassrec.data.schema import ABSENT, TaskKind
from glassrec.explain.explainer import Explain, Explainer
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.explain.selection import Selection
from glassrec.imported.exported import UnsupportedModelError, attribute, call, flatten
from glassrec.imported.imported_model import ImportedModel, split_graph
from glassrec.imported.layer_finder import LayerFinder
from glassrec.prune.pruner import Pruner
from glassrec.prune.surgery import prune_model

SAME = 1e-5
"""The share of the largest output by which the split module may differ from it, in float32."""


def wrap(module: nn.Module, batch: Any, *, kind: TaskKind = "click") -> WrappedModule:
    """Open a trained module for explanation and pruning.

    It is exported by `torch.export` and split at its embedding look-ups. A sigmoid at its end is
    left out: explanations are of the logit. The module itself stays as it is.

    Args:
        module: its `forward` returns one score a row, (B,) or (B, K).
        batch: an example of its inputs, of two rows or more: a tensor, a tuple of the arguments of
            `forward`, a dict by their names, or tensors nested in tuples, lists and dicts.
        kind: `click` where the score is a logit or a probability, else `rating`.

    Raises:
        UnsupportedModelError: the module cannot be exported, or an id reaches its output past
            the look-ups. The message names the operation and your line.
    """
    copy = deepcopy(module).eval()
    model = ImportedModel(copy, split_graph(copy, batch), kind)
    LayerFinder(model).add_layers()
    wrapped = WrappedModule(model.eval(), batch)
    wrapped.check(module)
    return wrapped


@dataclass(frozen=True)
class WrappedModule:
    """A module behind the seam of all recommenders, see `wrap`.

    Attributes:
        model: the recommender: every method, curve and certificate takes it.
        example: the batch of inputs that it was wrapped with.
    """

    model: ImportedModel
    example: Any

    def __str__(self) -> str:
        """The look-ups, the dense columns, and what was left out, a line each."""
        graph, model = self.model.graph, self.model
        lines = [f"{type(model.module).__name__}: {len(model.schema.fields)} fields, "
                 f"{len(model.schema.dense)} dense columns"]  # fmt: skip
        for name, size in zip(model.schema.field_names, graph.sizes.values(), strict=True):
            lines.append(f"field {name}: {size} numbers")
        lines += [f"left out: {each}" for each in graph.exported.removed]
        for name, layer in model.layers.items():
            reason = layer.not_prunable_reason
            lines.append(f"{name}: {layer.size} neurons" + (f", kept: {reason}" if reason else ""))
        return "\n".join(lines)

    def rows(self, batches: Any, labels: Tensor | None = None) -> Batch:
        """A batch in the form of the example, or several, as rows; labels are (B,) or (B, K)."""
        one = isinstance(batches, (Tensor, tuple, dict))
        one = one or dict(flatten(batches)).keys() == dict(flatten(self.example)).keys()
        found = [self.model.encode(each) for each in ([batches] if one else batches)]
        rows = Batch(*map(_stacked, zip(*found, strict=True), (0, ABSENT, ABSENT, 0)))
        if labels is None:
            return rows
        return rows._replace(targets=labels.reshape(rows.targets.shape).to(rows.targets))

    def dataset(self, batches: Any, labels: Tensor | None = None) -> Dataset:
        """The rows as a dataset, all of them in its split `train`."""
        rows = batches if isinstance(batches, Batch) else self.rows(batches, labels)
        none = Split(rows.slice(0, 0))
        return Dataset(self.model.schema, Split(rows), none, none)

    def explainer(self, batches: Any, settings: Explain | None = None, seed: int = 0) -> Explainer:
        """An explainer of these rows; they are also those that the baseline is the mean of."""
        settings = settings or Explain(select=Selection(rows=None))
        settings = replace(settings, select=replace(settings.select, split="train"))
        return settings.build_explainer(self.model, self.dataset(batches), seed)

    def explain(self, batches: Any, settings: Explain | None = None, seed: int = 0) -> Attributions:
        """Attributions (B, P) of the logit of each row to its dense columns and fields."""
        return self.explainer(batches, settings, seed).attributions()

    def plan(self, batches: Any, pruner: Pruner | None = None, seed: int = 0) -> PrunePlan:
        """The neurons to prune; by default those that are constant on all of these rows."""
        data = self.dataset(batches)
        scores = neuron_scores(self.explainer(data.train.batch, seed=seed))
        return (pruner or Pruner()).plan(self.model, scores, data, seed=seed)

    def certify(self, plan: PrunePlan, batches: Any) -> Certificate:
        """The comparison of the module and the pruned one on these rows, in float64."""
        pruner, data = Pruner(), self.dataset(batches)
        pruned = pruner.prune(self.model, plan)
        return pruner.certify(self.model, pruned, plan, data, files={}, given={})

    def pruned(self, plan: PrunePlan) -> nn.Module:
        """A copy of the module without the neurons of a plan: of its class, with smaller layers.

        A linear layer without bias has one where it took over constants.

        Raises:
            UnsupportedModelError: the code of the class relies on the old sizes.
        """
        small = cast(ImportedModel, prune_model(self.model, plan)).to(self.model.table.weight.dtype)
        module = deepcopy(small.module)
        for name in small.graph.exported.added.values():
            if not attribute(module, name).any():
                module.get_submodule(name.rpartition(".")[0]).register_parameter("bias", None)
        try:
            WrappedModule(small, self.example).check(module)
        except Exception as error:  # of the user's code
            name = type(module).__name__
            text = f"the code of {name} relies on the old sizes of its layers: {error!r}"
            raise UnsupportedModelError(text) from error
        return module

    @torch.no_grad()
    def check(self, module: nn.Module) -> None:
        """UnsupportedModelError if the module computes other numbers than the split graph."""
        logits = self.model(self.rows(self.example))
        training = module.training
        given = call(module, self.example)
        output = module.eval()(*given.args, **given.kwargs).reshape(logits.shape)
        module.train(training)
        found = logits.sigmoid() if self.model.graph.exported.removed else logits
        if not torch.allclose(found, output, rtol=0, atol=SAME * max(1, output.abs().max())):
            off = (found - output).abs().max().item()
            raise UnsupportedModelError(
                f"split at its look-ups, {type(module).__name__} gives scores that are off by "
                f"{off:.2g}; does its forward draw random numbers or keep a state?"
            )


def _stacked(parts: Sequence[Tensor], fill: float) -> Tensor:
    """Batches of rows below each other, those with shorter bags padded."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, width - part.shape[1]), value=fill) for part in parts])
