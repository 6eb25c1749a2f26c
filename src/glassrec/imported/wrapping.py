"""`glassrec.wrap`: open a trained module, explain it, and remove the neurons that do nothing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from glassrec.artifacts import Attributions, Certificate, PrunePlan
from glassrec.artifacts.programs import as_onnx, as_pt2
from glassrec.data.batch import Batch, Split
from glassrec.data.dataset import Dataset
from glassrec.data.schema import ABSENT, TaskKind
from glassrec.explain.explainer import ROUNDING, Explain, Explainer
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.selection import Selection
from glassrec.imported.exported import UnsupportedModelError, attribute, call, flatten
from glassrec.imported.graph_program import graph_program
from glassrec.imported.imported_model import ImportedModel
from glassrec.imported.layer_finder import LayerFinder
from glassrec.imported.split_graph import split_graph
from glassrec.prune.pruner import Pruner
from glassrec.prune.surgery import prune_model
from glassrec.spelling import brief

MAX_NODES = 1024
"""Nodes of the path up to which integrated gradients of single rows are refined."""

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
    copy = _copied(module)
    model = ImportedModel(copy, split_graph(copy, batch), kind)
    LayerFinder(model).add_layers()
    wrapped = WrappedModule(model.eval(), batch)
    wrapped.check(copy)
    return wrapped


def _copied(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, so that the module stays as it is."""
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedModelError(
            "TorchScript has no code to open; wrap the module it is made of"
        )
    for path, part in module.named_modules():
        if getattr(part, "max_norm", None) is not None:
            raise UnsupportedModelError(f"{path}.max_norm changes weights in forward; set it None")
    return deepcopy(module).eval()


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
        if not found:
            raise ValueError("there is no batch; give one in the form of the example, or several")
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
        if not isinstance(settings, Explain | None):
            found = f"the settings are {type(settings).__name__}, and not Explain"
            raise TypeError(f"{found}; several inputs are one batch: (user, item)")
        settings = settings or Explain(select=Selection(rows=None))
        settings = replace(settings, select=replace(settings.select, split="train"))
        return settings.build_explainer(self.model, self.dataset(batches), seed)

    def explain(self, batches: Any, settings: Explain | None = None, seed: int = 0) -> Attributions:
        """Attributions (B, P) of the logit of each row to its dense columns and fields.

        Rows whose completeness error (`delta`) exceeds the tolerance, as a share of the mean logit
        difference, get more nodes of the path, up to `MAX_NODES`, or else a warning names them.
        """
        explainer = self.explainer(batches, settings, seed)
        found, method = explainer.attributions(), explainer.method
        tolerance, difference = explainer.settings.tolerance, found.logits - found.baseline_logits
        most = tolerance * difference.abs().mean() + ROUNDING * found.logits.abs().mean()
        off = (found.delta.abs() > most).nonzero().flatten()
        while isinstance(method, IntegratedGradients) and len(off) and method.steps < MAX_NODES:
            method = replace(method, steps=2 * method.steps)
            found.values[off] = explainer.explained(method, explainer.rows[off]).values
            off = off[found.delta[off].abs() > most]
        if method.complete and len(off):
            text = f"{len(off):,} of {len(found.rows):,} rows, such as {brief(off.tolist())}"
            text = f"{method.name}: the completeness error of {text}, exceeds {tolerance:.1%} of "
            text += "the mean logit difference, see `delta`; take another method, such as Shapley"
            warnings.warn(text, stacklevel=2)
        return found

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
        small = self._smaller(plan)
        module = deepcopy(small.module)
        for name in small.graph.exported.added.values():
            if not attribute(module, name).any():
                module.get_submodule(name.rpartition(".")[0]).register_parameter("bias", None)
        try:
            WrappedModule(small, self.example).check(module)
        except Exception as error:  # of the user's code
            raise UnsupportedModelError(
                f"the code of {type(module).__name__} relies on the old sizes of its layers: "
                f"{error!r}; wrapped.save(plan, 'model.pt2') writes it without this code"
            ) from error
        return module

    def program(self, plan: PrunePlan) -> ExportedProgram:
        """The module without the neurons of a plan as a program, see `graph_program`."""
        return graph_program(self._smaller(plan), self.example)

    def save(self, plan: PrunePlan, path: str | Path) -> None:
        """Write the program as `model.pt2`, for `torch.export.load`, or as `model.onnx`."""
        ending = Path(path).suffix
        if ending not in (".pt2", ".onnx"):
            raise ValueError(f"{path}: a program is a file .pt2 or .onnx")
        program = self.program(plan)
        Path(path).write_bytes(as_pt2(program) if ending == ".pt2" else as_onnx(program, "output"))

    def _smaller(self, plan: PrunePlan) -> ImportedModel:
        """The pruned model in the precision of the module."""
        return cast(ImportedModel, prune_model(self.model, plan)).to(self.model.table.weight.dtype)

    @torch.no_grad()
    def check(self, module: nn.Module) -> None:
        """UnsupportedModelError if the module computes other numbers than the split graph."""
        logits = self.model(self.rows(self.example))
        given = call(module, self.example)
        output = module(*given.args, **given.kwargs).reshape(logits.shape)
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
