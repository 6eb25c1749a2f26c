"""How many rows fit: counted by hand for a known model, and measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.explain.path import MIN_ROWS_AT_ONCE, rows_at_once
from glassrec.models.base import Inputs, Recommender

MIB = 2**20


class Tower(Recommender):
    """One hidden layer over dense columns."""

    def __init__(self, columns: int, hidden: int) -> None:
        reads = Schema(tuple(f"I{place}" for place in range(columns)))
        super().__init__(reads, reads, 1)
        self.net = nn.Sequential(nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def score(self, inputs: Inputs) -> Tensor:
        return self.net(inputs.dense)


def _row(columns: int) -> Inputs:
    return Inputs(*(torch.ones(1, *shape) for shape in ((columns,), (0, 1), (0, 1), (0,))))


def test_rows_are_counted_by_what_a_backward_pass_needs() -> None:
    # Kept for a row: 10 inputs, and 30 numbers behind the ReLU. Each meets its gradient, and the
    # row itself is held beside: 2 · 4 bytes · (10 + 10 + 30).
    assert rows_at_once(Tower(10, 30), _row(10), 400 * 1000) == 1000
    assert rows_at_once(Tower(10, 60), _row(10), 640 * 1000) == 1000
    # Weights count once, not a row.
    assert rows_at_once(Tower(1000, 1), _row(1000), 8 * 2001 * 50) == 50


def test_more_memory_is_more_rows_and_a_larger_model_fewer() -> None:
    budgets = [rows_at_once(Tower(10, 30), _row(10), mib * MIB) for mib in (1, 4, 16)]
    assert budgets[2] == pytest.approx(4 * budgets[1], rel=1e-3)
    assert budgets[1] == pytest.approx(4 * budgets[0], rel=1e-3)
    small, large = (rows_at_once(Tower(10, hidden), _row(10), MIB) for hidden in (30, 300))
    assert large < small / 5
    assert rows_at_once(Tower(10, 30), _row(10), 1) == MIN_ROWS_AT_ONCE


def test_rows_grow_with_the_budget_for_every_model(
    model: Recommender, build: Callable[..., Recommender]
) -> None:
    width, reads = model.width, model.schema
    shapes = (
        (len(reads.dense),), (len(reads.fields), width), (reads.history_length, width),
        (reads.history_length,),
    )  # fmt: skip
    row = Inputs(*(torch.ones(1, *shape) for shape in shapes))
    few, many = (rows_at_once(model, row, mib * MIB) for mib in (1, 8))
    assert few > MIN_ROWS_AT_ONCE
    assert many == pytest.approx(8 * few, rel=0.02)  # rounded down
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize("hidden", [10, 500])
def test_the_true_peak_is_about_the_budget(hidden: int) -> None:
    """In a process of its own, in which freed memory goes back to the system at once."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(Path(__file__).parent), str(hidden)],
        env={"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", "PYTHONPATH": SOURCES},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 0.4 * 64 < float(done.stdout) < 1.5 * 64


SOURCES = str(Path(sys.modules["glassrec"].__path__[0]).parent)

PEAK = """
import sys
from pathlib import Path
import torch
sys.path.append(sys.argv[1])
from test_memory import Tower, _row
from glassrec.explain.explainer import rows_at_once
from glassrec.models.base import Inputs

def resident(key):
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(key))
    return int(line.split()[1]) / 1024

def differentiate(rows):
    inputs = Inputs(*(torch.randn(rows, *part.shape[1:]) for part in _row(50)))
    inputs.dense.requires_grad_()
    torch.autograd.grad(model.task_logits(inputs).sum(), inputs.dense)

model = Tower(50, int(sys.argv[2]))
rows = rows_at_once(model, _row(50), 64 * 2**20)
differentiate(8)
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
differentiate(rows)
print(resident("VmHWM") - before)
"""
