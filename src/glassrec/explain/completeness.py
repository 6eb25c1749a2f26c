"""Does a layer's conductance add up, and to what?

A layer is a cut where all that the logit knows of the inputs passes through it. There the units add
up to the logit's difference from the baseline. Elsewhere, as in a bottom layer of DLRM or in one
branch of NeuMF, they add up to what flows through the layer: the difference less what flows around
it, which is the integral of the inputs' gradient with the layer's emissions held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.conductance import Rule, conductance
from glassrec.explain.game import double
from glassrec.explain.path import average, path, portions, trapezoid
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import PrunableLayer


def completeness(
    model: Recommender,
    rows: Iterable[tuple[Inputs, Inputs]],
    *,
    steps: int,
    rule: Rule = "trapezoid",
    task: int = 0,
) -> pd.DataFrame:
    """How well each layer's conductance adds up to what flows through it, one row a layer.

    Args:
        model: in evaluation mode.
        rows: embedded rows, as many at a time as fit memory, beside their baselines.
        steps: of the path.
        rule: how the conductance is integrated; what flows around a layer, by the trapezoid.
        task: the column of the logits.

    Returns:
        layer, units, cut: whether it is one; flow_share: mean |flow through it| over mean |logit
        difference|; delta: mean |Σ units − flow through it| over the same. A recurrent layer counts
        by its last emission.
    """
    cuts = [is_cut(model, layer, task) for layer in model.layers.values()]
    found = [
        _sizes(model, cuts, inputs, baseline.expand_to(inputs), steps, rule, task)
        for inputs, baseline in rows
    ]
    assert found, "no rows were given"
    difference, through, missed = torch.stack(found).sum(0).cpu().T.numpy()
    scale = np.maximum(difference, np.finfo(np.float64).tiny)
    return pd.DataFrame(
        {
            "layer": list(model.layers),
            "units": [len(layer.units) for layer in model.layers.values()],
            "cut": cuts,
            "flow_share": through / scale,
            "delta": missed / scale,
        }
    )


def is_cut(model: Recommender, layer: PrunableLayer, task: int) -> bool:
    """Whether the task's logit depends on the inputs through the layer alone.

    Found from the graph of one forward, not from values: held, a cut leaves no way to the inputs.
    """
    reads, weight = model.schema, model.table.weight
    columns, fields, steps = len(reads.dense), len(reads.fields), reads.history_length
    shapes = [(columns,), (fields, model.width), (steps, model.width), (steps,)]
    row = Inputs(*(weight.new_ones(1, *shape).requires_grad_() for shape in shapes))
    with held(layer):
        logit = model.task_logits(row)[:, task]
    if not logit.requires_grad:  # neither do the weights
        return True
    ways = torch.autograd.grad(logit, row, allow_unused=True)
    return not any(way is not None and way.numel() for way in ways)


@contextmanager
def held(layer: PrunableLayer) -> Iterator[None]:
    """While the context is open, no gradient passes through what the layer emits."""
    handle = layer.activation_module.register_forward_hook(lambda _, __, emitted: emitted.detach())
    try:
        yield
    finally:
        handle.remove()


def _sizes(
    model: Recommender,
    cuts: list[bool],
    inputs: Inputs,
    baseline: Inputs,
    steps: int,
    rule: Rule,
    task: int,
) -> Tensor:
    """(L, 3) float64: the sums over rows of |difference|, |flow through| and |what units miss|."""
    flows = conductance(model, inputs, baseline, steps=steps, rule=rule, task=task).layers
    with torch.no_grad():
        on, off = (double(model.task_logits(rows)[:, task]) for rows in (inputs, baseline))
    sizes = []
    for (name, layer), cut in zip(model.layers.items(), cuts, strict=True):
        around = 0 if cut else _around(model, layer, inputs, baseline, steps, task)
        through = on - off - around
        missed = double(flows[name]).sum(1) - through
        sizes.append(torch.stack([on - off, through, missed]).abs().sum(1))
    return torch.stack(sizes) if sizes else on.new_zeros(0, 3)


def _around(
    model: Recommender,
    layer: PrunableLayer,
    inputs: Inputs,
    baseline: Inputs,
    steps: int,
    task: int,
) -> Tensor:
    """(B,) float64: what reaches the logit by ways that do not pass through the layer."""
    found, rule = [], trapezoid(steps)
    for rows, beside in portions(inputs, baseline, steps + 1):
        points = path(rows, beside, rule.nodes)
        with held(layer):
            logits = model.task_logits(points)[:, task]
        gradients = torch.autograd.grad(logits.sum(), points, materialize_grads=True)
        along = zip(gradients, rows, beside, strict=True)
        parts = [average(gradient, rule) * (x - b) for gradient, x, b in along]
        found.append(double(torch.cat([part.flatten(1) for part in parts], 1)).sum(1))
    return torch.cat(found)
