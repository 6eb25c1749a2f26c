"""Models of other packages: explained as they are; skipped where a package is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import BUILDERS
from torch import nn

import glassrec
from glassrec.explain.captum_methods import CaptumMethod
from glassrec.explain.explainer import Explain
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.imported.exported import call, map_tensors

NOT_CUT = {"recbole:BPR", "torch_rechub:DIN", "recbole:FM"}
"""Models without a neuron that can be cut."""

FLOAT32 = {"torch_rechub:AutoInt", "torch_rechub:PooledWideDeep"}
"""Models whose code makes float32 itself."""

STEPS = {"torch_rechub:DSSM": 1024, "torch_rechub:PLE": 4096, "recbole:PNN": 4096,
         "deepctr_torch:SharedBottom": 4096}  # fmt: skip
"""Nodes of the path where 512 are too few: small differences, kinks, and cosines."""


def _built(name: str) -> tuple[nn.Module, Any]:
    package = name.partition(":")[0]
    pytest.importorskip(package, reason=f"{package} is not installed")
    torch.manual_seed(0)
    module, batch = BUILDERS[name]()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval(), batch


@pytest.mark.parametrize("name", BUILDERS)
def test_a_foreign_model(name: str) -> None:
    module, batch = _built(name)
    wrapped = glassrec.wrap(module, batch)
    rows = wrapped.rows(batch)
    with torch.no_grad():
        output = module(*call(module, batch).args, **call(module, batch).kwargs).flatten()
    logits = wrapped.model.predict(rows).flatten()
    found = logits.sigmoid() if wrapped.model.graph.exported.removed else logits
    assert found.sub(output).abs().max() <= 1e-6 * (1 + output.abs().max())
    wrapped.model.double()
    fine = Explain(method=IntegratedGradients(steps=STEPS.get(name, 512)))
    explainer = wrapped.explainer(batch, fine)
    assert explainer.attributions().relative_delta < 1e-3
    (view,) = explainer.views(explainer.rows, 32)
    captum = CaptumMethod("IntegratedGradients", {"n_steps": 32}).attribute(view, 0)
    off = IntegratedGradients(32).attribute(view, 0).sub(captum).abs().max()
    assert off <= 1e-6 * captum.abs().max()


RELOAD = """
import sys
import torch
sys.path[:0] = sys.argv[2:]
from foreign_models import BUILDERS
from plain_modules import resize
name, state, args, kwargs, expected = torch.load(sys.argv[1], weights_only=True)
with torch.no_grad():
    found = resize(BUILDERS[name]()[0], state)(*args, **kwargs)
assert "glassrec" not in sys.modules
print("off", float((found - expected).abs().max()))
"""


@pytest.mark.parametrize("name", BUILDERS)
def test_planted_neurons_of_a_foreign_model(name: str, tmp_path: Path) -> None:
    module, batch = _built(name)
    if name not in FLOAT32:
        module, batch = module.double(), map_tensors(batch, _double)
    most = 1e-5 if name in FLOAT32 else 1e-9
    layers = glassrec.wrap(module, batch).model.layers
    prunable = [
        layer for layer, each in layers.items()
        if not each.not_prunable_reason and "+" not in layer
    ]  # fmt: skip
    assert bool(prunable) == (name not in NOT_CUT)
    for layer in prunable:
        linear = module.get_submodule(layer)
        with torch.no_grad():
            linear.weight[[0, 2]] = 0
            linear.bias[[0, 2]] = torch.tensor([-3.0, 1.7]).to(linear.bias)
    wrapped = glassrec.wrap(module, batch)
    plan = wrapped.plan(batch)
    for layer in prunable:  # where all neurons are constant, one stays
        constants = plan.layers[layer].constants.keys()
        assert {0, 2} <= constants or len(constants) == layers[layer].size - 1
    certificate = wrapped.certify(plan, batch)
    assert certificate.exact
    assert certificate.max_abs_logit_difference < 1e-9
    pruned = wrapped.pruned(plan)
    assert type(pruned) is type(module)
    for layer in prunable:
        before, after = module.get_submodule(layer), pruned.get_submodule(layer)
        assert len(after.weight) <= len(before.weight) - 2
    given = call(module, batch)
    with torch.no_grad():
        expected, found = (each(*given.args, **given.kwargs) for each in (module, pruned))
    assert found.sub(expected).abs().max() < most
    program = wrapped.program(plan).module()
    assert program(*given.args, **given.kwargs).sub(expected).abs().max() < most
    file = tmp_path / "state.pt"
    torch.save((name, pruned.state_dict(), given.args, given.kwargs, expected), file)
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    command = [sys.executable, "-I", "-c", RELOAD, str(file), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    assert float(done.stdout.split("off ")[1].split()[0]) < most


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
