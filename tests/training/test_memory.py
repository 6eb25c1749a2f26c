"""What is told of memory before training: against arithmetic, and against a process's own peak."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import training_toy as toy
from torch import nn

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema
from glassrec.models.base import Recommender
from glassrec.training.memory import AllocationCounter, Memory, estimate_memory
from glassrec.training.rowwise import RowwiseAdagrad
from glassrec.training.trainer import Trainer

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"


class Wide(Recommender):
    """A large table, 8 numbers an id, and a bias; reads the history if there is one."""

    def __init__(self, schema):
        super().__init__(schema, schema, 8)
        self.bias = nn.Parameter(torch.zeros(1))

    def score(self, inputs):
        logit = inputs.fields.sum((1, 2))[:, None] + self.bias
        history = self.schema.history_length
        return logit + inputs.history.sum((1, 2))[:, None] if history else logit


def wide(history=0, size=100_000):
    fields = (Field("user", 30_000), Field("item", size - 30_000))
    schema = Schema((), fields, user="user", item="item", history_length=history)
    none = torch.zeros(64, 0)
    ids = torch.randint(1, 30_000, (64, 2))
    split = Split(Batch(none, ids, torch.full((64, history), 30_001), none.new_ones(64, 1)))
    return Wide(schema), Dataset(schema, split, split, split)


TABLE = 100_000 * 8 * 4
READ = 2 * 8  # which numbers of each field are stored, a byte each
ROWS = 64 * (2 * 8 + 4)


@pytest.mark.parametrize(
    ("optimizer", "state", "step"),
    [
        (partial(torch.optim.Adam, fused=True), 2, 0),
        (partial(torch.optim.AdamW, fused=True, amsgrad=True), 3, 0),
        (partial(torch.optim.Adam, foreach=False), 2, 2),
        (torch.optim.Adagrad, 1, 1),
        (torch.optim.SGD, 0, 0),
        (partial(torch.optim.SGD, momentum=0.9), 1, 0),
        (partial(torch.optim.SGD, weight_decay=0.1), 0, 1),
    ],
)
def test_dense_training_takes_what_its_optimiser_asks_for(optimizer, state, step):
    model, dataset = wide()
    found = estimate_memory(Trainer(2, 32), model, dataset, optimizer)
    whole = TABLE + 4
    assert found.count == 800_001
    assert found == Memory(
        800_001, whole + READ, whole, state * whole, step * whole, whole + READ, 2 * ROWS,
        (3 + state + step) * whole + 2 * READ + ROWS,
    )  # fmt: skip
    # One epoch never holds gradients and the best weights side by side.
    single = estimate_memory(Trainer(1, 32), model, dataset, optimizer)
    assert single.peak == (2 + state) * whole + READ + max(2 * ROWS + READ, step * whole + ROWS)


@pytest.mark.parametrize(
    ("table_optimizer", "state"),
    [(RowwiseAdagrad, TABLE // 8), (torch.optim.SparseAdam, 2 * TABLE)],
)
def test_sparse_training_has_gradients_of_the_rows_of_a_batch(table_optimizer, state):
    model, dataset = wide()
    found = estimate_memory(Trainer(2, 32), model, dataset, torch.optim.SGD, table_optimizer)
    assert found.state == state
    assert found.gradients == 4 + 32 * 2 * (8 * 4 + 8)
    assert 0 < found.step < 32 * 2 * 8 * 4 * 10
    assert found.peak == pytest.approx(2 * TABLE + state, rel=0.01)
    again = estimate_memory(
        Trainer(2, 32), model, dataset, torch.optim.SGD, table_optimizer, resumes=True
    )
    assert again.peak == pytest.approx(3 * TABLE + state, rel=0.01)


BACKWARD = """
import sys, torch
sys.path[:0] = sys.argv[1:3]
from memory import resident
from test_memory import wide
torch.set_num_threads(1)
model, dataset = wide(history=int(sys.argv[3]), size=1_000_000)
batch = dataset.train.batch
model(batch)
before = resident("VmRSS")
model(batch).sum().backward()
print(resident("VmHWM") - before)
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("history", [0, 5])
def test_a_history_costs_a_second_gradient_of_the_table(history):
    folders = str(Path(__file__).parent), str(BENCHMARK.parent)
    command = [sys.executable, "-c", BACKWARD, *folders, str(history)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told = estimate_memory(
        Trainer(2, 64), *wide(history, size=1_000_000), torch.optim.SGD
    ).gradients
    assert told == (2 if history else 1) * 1_000_000 * 8 * 4 + 4
    assert told == pytest.approx(int(done.stdout), rel=0.1)


def test_the_watch_counts_what_is_there_at_one_time():
    before = torch.ones(1000)
    with AllocationCounter() as watch:
        first = before + 1
        view = first[:10]
        first.mul_(2)
        del first, view
        second = before * 2
        assert watch.most == 4000
        third = second + before
    assert watch.most == 8000
    assert third[0] == 3


def test_negatives_make_an_epoch_longer_and_are_shuffled_with_it():
    model, dataset = wide()
    drawn = replace(dataset, negatives=SimpleNamespace(per_positive=4))
    assert estimate_memory(Trainer(2, 32), model, drawn, torch.optim.SGD).rows == 3 * 5 * ROWS


def test_one_line_says_it_all():
    told = Memory(
        320_012_345, 1_280_049_380, 1_280_049_380, 2_560_098_760, 0, 1_280_049_380, 5000,
        6_400_251_900,
    )  # fmt: skip
    assert str(told) == (
        "320,012,345 parameters 1.2 GiB, gradients 1.2 GiB, optimiser state 2.4 GiB, best weights "
        "1.2 GiB, rows 4.9 KiB: about 6.0 GiB at the peak"
    )
    assert "its step 999 B, " in str(replace(told, step=999))


def test_asking_leaves_the_model_and_the_random_numbers_alone():
    model, dataset = toy.model(), toy.dataset()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    estimate_memory(Trainer(2, 32), model, dataset, torch.optim.Adam, RowwiseAdagrad)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("table_optimizer", ["Adam", "RowwiseAdagrad"])
def test_what_is_told_is_what_a_process_takes(table_optimizer):
    words = ["--rows", "1500000", "--steps", "2", "--threads", "1", "--only", table_optimizer]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *words], stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["estimate"] == pytest.approx(found["measured"], rel=0.1)
