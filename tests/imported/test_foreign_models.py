"""Models of other packages: explained as they are; skipped where a package is not installed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from foreign_models import BUILDERS
from torch import nn

import glassrec
from glassrec.explain.captum_methods import CaptumMethod
from glassrec.explain.explainer import Explain
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.imported.exported import call


def _built(name: str) -> tuple[nn.Module, Any]:
    package = name.partition(":")[0]
    pytest.importorskip(package, reason=f"{package} is not installed")
    torch.manual_seed(0)
    module, batch = BUILDERS[name]()
    return module.eval(), batch


@pytest.mark.parametrize("name", BUILDERS)
def test_a_foreign_model(name: str) -> None:
    module, batch = _built(name)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped = glassrec.wrap(module, batch)
    rows = wrapped.rows(batch)
    with torch.no_grad():
        output = module(*call(module, batch).args, **call(module, batch).kwargs).flatten()
    logits = wrapped.model.predict(rows).flatten()
    found = logits.sigmoid() if wrapped.model.graph.exported.removed else logits
    assert found.sub(output).abs().max() <= 1e-6 * (1 + output.abs().max())
    wrapped.model.double()
    # Cosines have large curvature where a tower's output is small.
    steps = 1024 if name == "torch_rechub:DSSM" else 512
    fine = Explain(method=IntegratedGradients(steps=steps))
    explainer = wrapped.explainer(batch, fine)
    assert explainer.attributions().relative_delta < 1e-3
    (view,) = explainer.views(explainer.rows, 32)
    captum = CaptumMethod("IntegratedGradients", {"n_steps": 32}).attribute(view, 0)
    off = IntegratedGradients(32).attribute(view, 0).sub(captum).abs().max()
    assert off <= 1e-6 * captum.abs().max()


@pytest.mark.parametrize("name", BUILDERS)
def test_planted_neurons_of_a_foreign_model(name: str) -> None:
    module, batch = _built(name)
    layers = glassrec.wrap(module, batch).model.layers
    prunable = [
        layer for layer, each in layers.items()
        if not each.not_prunable_reason and "+" not in layer
    ]  # fmt: skip
    assert bool(prunable) == (name not in ("recbole:BPR", "torch_rechub:DIN"))
    for layer in prunable:
        linear = module.get_submodule(layer)
        with torch.no_grad():
            linear.weight[[0, 2]] = 0
            linear.bias[[0, 2]] = torch.tensor([-3.0, 1.7])
    wrapped = glassrec.wrap(module, batch)
    plan = wrapped.plan(batch)
    assert all({0, 2} <= plan.layers[layer].constants.keys() for layer in prunable)
    certificate = wrapped.certify(plan, batch)
    assert certificate.exact
    assert certificate.max_abs_logit_difference < 1e-9
    pruned = wrapped.pruned(plan)
    assert type(pruned) is type(module)
    for layer in prunable:
        before, after = module.get_submodule(layer), pruned.get_submodule(layer)
        assert len(after.weight) <= len(before.weight) - 2
    with torch.no_grad():
        outputs = [
            each(*call(each, batch).args, **call(each, batch).kwargs) for each in (module, pruned)
        ]
    assert outputs[0].sub(outputs[1]).abs().max() < 1e-5  # in float32
