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
    assert before.keys() == {
        "latency_p50_1", "latency_p95_1", "latency_p50_30", "latency_p95_30"
    }  # fmt: skip
    assert after.keys() - before.keys() == {
        "latency_threads_cpu",
        *(f"latency_{name}_{size}" for name in ("ratio", "ratio_low", "ratio_high", "spread")
          for size in (1, 30)),
    }  # fmt: skip
    assert after["latency_ratio_low_1"] <= after["latency_ratio_1"] <= after["latency_ratio_high_1"]
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
    same = {"latency_p50_1": 1000, "latency_p95_1": 1000}
    assert both[0] == same
    found = dict.fromkeys((f"latency_ratio{end}_1" for end in ("", "_low", "_high")), 1.0)
    threads = {"latency_threads_cpu": torch.get_num_threads()}
    assert both[1] == same | found | {"latency_spread_1": 1} | threads


def test_the_interval_of_a_ratio_is_that_of_its_median():
    generator = torch.Generator().manual_seed(0)
    large = 1 + torch.rand(101, generator=generator).double()
    small = large * torch.linspace(0.4, 0.6, 101).double()[torch.randperm(101, generator=generator)]
    middle, low, high = module.ratio_interval(large, small)
    assert middle == pytest.approx(0.5)
    # The ranks of a 95 % interval of the median are 50.5 ± 1.96 · √101 / 2, and a rank is .002.
    assert low == pytest.approx(0.5 - 9.85 * 0.002, abs=0.006)
    assert high == pytest.approx(0.5 + 9.85 * 0.002, abs=0.006)


def test_a_busy_machine_makes_ratios_unreliable():
    values = {"pruned/latency_threads_cpu": 2.0}
    for size in module.SIZES:
        ends = {"": 0.5, "_low": 0.4, "_high": 0.6}
        values |= {f"pruned/latency_ratio{end}_{size}": value for end, value in ends.items()}
        values[f"pruned/latency_spread_{size}"] = 1.2 if size == 1 else 3.0
    quiet, busy, _ = module.ratio_lines(values)
    words = "pruned in 0.50 (0.40 to 0.60) of the time as trained, in turns on cpu, 2 threads"
    assert quiet == f"1 row {words}"
    assert busy.endswith("2 threads; unreliable: the machine was busy")
    assert not [*module.ratio_lines({"latency_p50_1": 1.0})]  # of an earlier version


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
