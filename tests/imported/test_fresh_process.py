"""Pruned modules in a fresh process: the state in a smaller instance, and programs without code."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_modules import MODULES, build
from test_prune_module import PLANTED, output, plant
from torch import Tensor, nn

import glassrec
from glassrec.artifacts import PrunePlan
from glassrec.imported.exported import UnsupportedModelError, call
from glassrec.imported.wrapping import WrappedModule

RELOAD = """
import sys
import torch
from plain_modules import MODULES, resize
state, batch, expected = torch.load(sys.argv[1], weights_only=True)
args, kwargs = batch
with torch.no_grad():
    found = resize(MODULES[sys.argv[2]](), state)(*args, **kwargs)
    again = torch.load(sys.argv[3], weights_only=False)(*args, **kwargs)
assert "glassrec" not in sys.modules
print(float((found - expected).abs().max()), float((again - expected).abs().max()))
"""

RUN = """
import sys
import torch
for path in sys.argv[1:]:
    *batches, = torch.load(path + ".rows", weights_only=True)
    module = torch.export.load(path + ".pt2").module()
    for args, kwargs, expected in batches:
        print(float((module(*args, **kwargs) - expected).abs().max()))
assert not {"glassrec", "plain_modules"} & {*sys.modules}
"""


def _python(code: str, *arguments: Any, path: Path | None = None) -> list[float]:
    """The numbers that a fresh process prints; it imports installed packages, and from a path."""
    start = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    command = [sys.executable, "-I", "-c", start + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    return [float(word) for word in done.stdout.split()]


def _pruned(name: str) -> tuple[nn.Module, Any, WrappedModule, PrunePlan]:
    module, batch = build(name)
    plant(module, PLANTED[name])
    wrapped = glassrec.wrap(module, batch)
    return module, batch, wrapped, wrapped.plan(batch)


def test_the_state_of_a_pruned_module_loads_in_a_fresh_process(tmp_path: Path) -> None:
    name = "SharedTable"  # with a batch norm
    module, batch, wrapped, plan = _pruned(name)
    pruned, given = wrapped.pruned(plan), call(module, batch)
    with torch.no_grad():
        expected = module(*given.args, **given.kwargs)
    state = pruned.state_dict()
    assert state["deep.0.weight"].shape[0] < module.deep[0].out_features
    torch.save((state, (given.args, given.kwargs), expected), tmp_path / "state.pt")
    torch.save(pruned, tmp_path / "module.pt")
    files = tmp_path / "state.pt", name, tmp_path / "module.pt"
    assert max(_python(RELOAD, *files, path=Path(__file__).parent)) < 1e-9


class ReliesOnSizes(nn.Module):
    """A view to the old number of neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.hidden, self.out = nn.Embedding(9, 4), nn.Linear(4, 16), nn.Linear(16, 1)

    def forward(self, ids: Tensor, *, age: Tensor) -> Tensor:
        hidden = torch.relu(self.hidden(self.table(ids))).view(-1, 16)
        return torch.sigmoid(self.out(hidden).squeeze(1) + age)

    @staticmethod
    def example() -> Any:
        return {"ids": torch.arange(9), "age": torch.rand(9).double()}


def _sized() -> tuple[nn.Module, Any, WrappedModule, PrunePlan]:
    torch.manual_seed(0)
    module, batch = ReliesOnSizes().double().eval(), ReliesOnSizes.example()
    plant(module, ["hidden"])
    wrapped = glassrec.wrap(module, batch)
    return module, batch, wrapped, wrapped.plan(batch)


def test_the_error_of_a_class_that_relies_on_sizes_names_the_program() -> None:
    _, _, wrapped, plan = _sized()
    assert plan.dropped == 2
    with pytest.raises(UnsupportedModelError, match=r"relies on the old sizes.*save\(plan, 'model"):
        wrapped.pruned(plan)
    with pytest.raises(ValueError, match=r"x.pth: a program is a file .pt2 or .onnx"):
        wrapped.save(plan, "x.pth")


def test_programs_run_with_pytorch_alone(tmp_path: Path) -> None:
    names = ["ReliesOnSizes", "Bags"]
    for name in names:
        module, batch, wrapped, plan = _sized() if name == names[0] else _pruned(name)
        wrapped.save(plan, tmp_path / f"{name}.pt2")
        calls = []
        for rows in (batch, type(module).example(), _some(batch) if name != "Bags" else batch):
            given = call(module, rows)
            with torch.no_grad():
                calls.append([given.args, given.kwargs, module(*given.args, **given.kwargs)])
        torch.save(calls, tmp_path / f"{name}.rows")
    found = _python(RUN, *(tmp_path / name for name in names))
    assert len(found) == 6
    assert max(found) < 1e-9


def _some(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first rows."""
    return {name: tensor[:5] for name, tensor in batch.items()}


def test_a_program_is_smaller_and_holds_none_of_the_rows(tmp_path: Path) -> None:
    module, _, wrapped, plan = _sized()
    program = wrapped.program(plan)
    shapes = sorted(tuple(tensor.shape) for tensor in program.state_dict.values())
    assert shapes == [(1,), (1, 14), (9, 4), (14,), (14, 4)]
    _, kwargs = program.example_inputs
    assert not kwargs["age"].any()
    assert module.hidden.out_features == 16
    assert not any("stack_trace" in node.meta for node in program.graph.nodes)


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="onnxscript is not installed")
@pytest.mark.parametrize("name", ["ReliesOnSizes", "CrossNetwork"])
def test_onnx_of_a_pruned_module(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    module, batch, wrapped, plan = _sized() if name == "ReliesOnSizes" else _pruned(name)
    wrapped.save(plan, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for rows in (batch, batch[:3] if isinstance(batch, Tensor) else _some(batch)):
        feeds = rows if isinstance(rows, dict) else {"x": rows}
        found = session.run(None, {key: value.numpy() for key, value in feeds.items()})[0]
        assert np.abs(found.flatten() - output(module, rows).numpy()).max() < 1e-9


def test_programs_of_all_plain_modules() -> None:
    for name in MODULES:
        module, batch, wrapped, plan = _pruned(name)
        program = wrapped.program(plan).module()
        for rows in (batch, type(module).example()):
            given = call(module, rows)
            off = program(*given.args, **given.kwargs).flatten() - output(module, rows)
            assert off.abs().max() < 1e-9
