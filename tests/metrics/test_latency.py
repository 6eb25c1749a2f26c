"""Latencies of models that sleep: a clock is only tested where it cannot be wrong."""

from __future__ import annotations

import time

import pytest
import torch

from glassrec.metrics import cost as module
from glassrec.metrics.cost import latency
from glassrec.models.base import Recommender


class Sleeping(Recommender):
    """Takes some milliseconds a pass, and remembers the rows of each."""

    def __init__(self, schema, milliseconds, heard):
        super().__init__(schema, schema.select(fields=["user"]), 2)
        self.milliseconds, self.heard = milliseconds, heard

    def score(self, inputs):
        assert torch.is_inference_mode_enabled()
        assert not self.training
        self.heard.append((self.milliseconds, inputs.rows))
        time.sleep(self.milliseconds / 1000)
        return inputs.fields[:, 0]


def test_models_take_turns_and_are_timed_apart(schema, batch):
    heard = []
    slow, fast = Sleeping(schema, 6, heard), Sleeping(schema, 2, heard)
    before, after = latency(slow, fast, batch, sizes=(1, 30), seconds=0.1)
    assert before.keys() == after.keys() == {
        "latency_p50_1", "latency_p95_1", "latency_p50_30", "latency_p95_30"
    }  # fmt: skip
    for name in before:
        assert before[name] >= 6
        assert after[name] >= 2
    assert before["latency_p50_1"] > after["latency_p50_1"]
    for size in (1, 30):  # there are 12 rows
        turns = [milliseconds for milliseconds, rows in heard if rows == size]
        assert turns[:10] == [6, 2, 6, 2, 6, 2, 2, 6, 6, 2]
        assert turns.count(6) == turns.count(2) >= module.WARM_UP_ROUNDS + module.MIN_ROUNDS


def test_no_round_begins_when_time_is_over_but_for_a_few(schema, batch):
    heard = []
    slow = Sleeping(schema, 3, heard)
    latency(slow, slow, batch, sizes=(5,), seconds=0)
    assert len(heard) == 2 * (module.WARM_UP_ROUNDS + module.MIN_ROUNDS)
    heard.clear()
    quick = Sleeping(schema, 0, heard)
    latency(quick, quick, batch, sizes=(5,), seconds=60)
    assert len(heard) == 2 * (module.WARM_UP_ROUNDS + module.MAX_ROUNDS)


def test_percentiles_are_those_of_the_rounds(schema, batch, monkeypatch):
    ticks = iter(range(1000))  # each look at the clock is a second later
    monkeypatch.setattr(module, "perf_counter", lambda: next(ticks))
    model = Sleeping(schema, 0, [])
    both = latency(model, model, batch, sizes=(1,), seconds=1)
    assert both == ({"latency_p50_1": 1000, "latency_p95_1": 1000},) * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_waited_for(schema, batch):
    class Working(Sleeping):
        def score(self, inputs):
            square = torch.ones(4096, 4096, device=inputs.fields.device)
            for _ in range(50):
                square = square @ square / 4096
            return inputs.fields[:, 0] + square.sum()

    idle, busy = Sleeping(schema, 0, []).cuda(), Working(schema, 0, []).cuda()
    before, after = latency(busy, idle, batch, sizes=(8,))
    assert before["latency_p50_8"] > 10 * after["latency_p50_8"]
