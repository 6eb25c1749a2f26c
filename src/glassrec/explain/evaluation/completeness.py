"""Completeness of each layer's conductance: what it adds up to, and with which error.

A layer is a bottleneck if all paths from the inputs to the logit pass it. Its conductances add up
to the logit's difference from the baseline. Elsewhere, as in a bottom layer of DLRM or in one
branch of NeuMF, they add up to the flow through the layer: the difference less the flow around it,
which is the integral of the inputs' gradient with the layer detached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.masking import MaskedModel, to_float64
from glassrec.explain.neurons import Conductance
from glassrec.explain.path import average, path_chunks, straight_path, trapezoid
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import PrunableLayer


def layer_completeness(views: Iterable[MaskedModel], *, steps: int) -> pd.DataFrame:
    """The completeness error of each layer's conductance, by a path of so many steps.

    Returns:
        One row for each layer: layer; units: its number of neurons; cut: whether it is a
        bottleneck; flow_share: mean |flow through it| over mean |logit difference|; delta: mean
        |Σ conductances − flow through it| over the same. A recurrent layer counts by its last
        activation.
    """
    found: list[Tensor] = []
    bottlenecks: list[bool] = []
    layers: dict[str, PrunableLayer] = {}
    for view in views:
        layers = layers or view.model.layers
        bottlenecks = bottlenecks or [
            is_bottleneck(view.model, layer, view.task) for layer in layers.values()
        ]
        found.append(_sizes(view, bottlenecks, steps))
    assert found, "no rows were given"
    difference, through, error = torch.stack(found).sum(0).cpu().T.numpy()
    scale = np.maximum(difference, np.finfo(np.float64).tiny)
    columns = {
        "layer": list(layers),
        "units": [len(layer.units) for layer in layers.values()],
        "cut": bottlenecks,
        "flow_share": through / scale,
        "delta": error / scale,
    }
    return pd.DataFrame(columns)


def is_bottleneck(model: Recommender, layer: PrunableLayer, task: int) -> bool:
    """Whether the task's logit depends on the inputs through the layer alone.

    Found from the graph of one forward, not from values: with a bottleneck detached, no path leads
    to the inputs.
    """
    reads, like = model.schema, torch.empty(0, dtype=model.dtype, device=model.device)
    columns, fields, steps = len(reads.dense), len(reads.fields), reads.history_length
    shapes = [(columns,), (fields, model.width), (steps, model.width), (steps,)]
    row = Inputs(*(like.new_ones(1, *shape).requires_grad_() for shape in shapes))
    with detach_layer(layer):
        logit = model.task_logits(row)[:, task]
    if not logit.requires_grad:  # neither do the weights
        return True
    paths = torch.autograd.grad(logit, row, allow_unused=True)
    return not any(path is not None and path.numel() for path in paths)


@contextmanager
def detach_layer(layer: PrunableLayer) -> Iterator[None]:
    """While the context is open, no gradient passes through the layer's activations."""
    handle = layer.activation_module.register_forward_hook(
        lambda _, __, activation: activation.detach()
    )
    try:
        yield
    finally:
        handle.remove()


def _sizes(view: MaskedModel, bottlenecks: list[bool], steps: int) -> Tensor:
    """(L, 3) float64: the sums over rows of |difference|, |flow through the layer| and |error|."""
    model, inputs, baseline, task = view.model, view.inputs, view.baseline, view.task
    flows = Conductance(steps).values(model, inputs, baseline, task)
    with torch.no_grad():
        on, off = (to_float64(model.task_logits(rows)[:, task]) for rows in (inputs, baseline))
    sizes = []
    for (name, layer), whole in zip(model.layers.items(), bottlenecks, strict=True):
        through = on - off - (0 if whole else _flow_around(view, layer, steps))
        # Of a recurrent layer, the last activation.
        error = to_float64(flows[name][-1]).sum(1) - through
        sizes.append(torch.stack([on - off, through, error]).abs().sum(1))
    return torch.stack(sizes) if sizes else on.new_zeros(0, 3)


def _flow_around(view: MaskedModel, layer: PrunableLayer, steps: int) -> Tensor:
    """(B,) float64: what reaches the logit by paths that do not pass the layer."""
    found, rule = [], trapezoid(steps)
    for rows, bases in path_chunks(view.inputs, view.baseline, steps + 1):
        points = straight_path(rows, bases, rule.nodes)
        with detach_layer(layer):
            logits = view.model.task_logits(points)[:, view.task]
        gradients = torch.autograd.grad(logits.sum(), points, materialize_grads=True)
        changes = zip(gradients, rows, bases, strict=True)
        parts = [average(gradient, rule) * (x - b) for gradient, x, b in changes]
        found.append(to_float64(torch.cat([part.flatten(1) for part in parts], 1)).sum(1))
    return torch.cat(found)
