"""Threads: how many a step is worth, the user's own choice, and that they sleep while they wait."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
import training_toy as toy

from glassrec.training.threads import WORK, thread_count
from glassrec.training.trainer import Trainer


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads, which the user has not asked for."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_thread_for_each_so_many_multiplications(two_threads):
    assert [thread_count(n * WORK // 2) for n in (0, 1, 3, 4, 100)] == [1, 1, 1, 2, 2]
    assert thread_count(100 * WORK, processes=2) == 1


def test_the_users_own_number_wins(two_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert thread_count(0) == 2


@pytest.mark.parametrize(("batch_size", "expected"), [(64, 1), (WORK, 2)])
def test_steps_have_their_threads_and_validation_all(
    two_threads, tmp_path, batch_size, expected, monkeypatch
):
    model, seen = toy.model(), {True: set(), False: set()}
    score = model.score

    def counting(inputs):
        seen[torch.is_grad_enabled()].add(torch.get_num_threads())
        return score(inputs)

    monkeypatch.setattr(model, "score", counting)
    optimizer = partial(torch.optim.Adam, lr=0.01)
    Trainer(max_epochs=1, batch_size=batch_size).fit(
        model, toy.dataset(), optimizer, seed=0, directory=tmp_path, quiet=True
    )
    assert seen == {True: {expected}, False: {2}}
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP of other systems says it otherwise")
@pytest.mark.parametrize(
    ("own", "expected"), [({}, "'PASSIVE'"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "'ACTIVE'")]
)
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(own, expected):
    code = "from glassrec.cli import main; main(['--version']); import torch"
    kept = {name: each for name, each in os.environ.items() if not name.startswith("OMP_")}
    shown = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **own, "OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    assert f"OMP_WAIT_POLICY = {expected}" in shown
