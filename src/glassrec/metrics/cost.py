"""Cost of a model: parameters, operations and bytes, and its latency beside another model's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.models.embedding import TABLE
from glassrec.spelling import counted

FLOP_ROWS = 64
"""Rows, at most, whose operations are counted."""

SIZES = (1, 256, 4096)
"""Rows that pass the model at once where latency is measured."""

MAX_SPREAD = 1.5
"""The spread of turns above which the machine counts as busy, and latencies as unreliable."""

WARM_UP_ROUNDS, MIN_ROUNDS, MAX_ROUNDS = 2, 7, 200


def cost(model: Recommender, weights: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
    """The cost of a model, by name.

    `parameters`, all of them, and `tower_parameters`, those outside the embedding table; `bytes` of
    all tensors as they are saved (`weights`), and `tower_bytes`, those outside the table; and
    `flops`, counted on rows of `batch`.
    """
    sizes = {name: tensor.nbytes for name, tensor in weights.items()}
    return {
        "parameters": float(model.parameter_count),
        "tower_parameters": float(model.parameter_count - model.table.weight.numel()),
        "flops": flops(model, batch),
        "bytes": float(sum(sizes.values())),
        "tower_bytes": float(sum(size for name, size in sizes.items() if name != TABLE)),
    }


@torch.no_grad()
def flops(model: Recommender, batch: Batch) -> float:
    """Floating-point operations of a row from ids to logits; a multiplication and an addition
    are two.

    Those of matrix products are counted, of which the pairs of a dot interaction are one, as they
    grow with the square of a width. Element-wise operations are not counted: biases, ReLU, gates
    and the product of two vectors, as in generalised matrix factorisation. Nor are zeros in the
    weights of a folded copy, which replace operations that are not counted.
    """
    rows = batch.slice(0, FLOP_ROWS)
    with FlopCounterMode(display=False) as counter:
        model.task_logits(model.embed(rows.to(model.device)))
    return counter.get_total_flops() / rows.rows


def latency(
    large: Recommender,
    small: Recommender,
    batch: Batch,
    *,
    sizes: Sequence[int] = SIZES,
    seconds: float = 0.5,
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of one forward pass, from ids that are on the device to logits, of each model.

    `latency_p50_N` is the median and `latency_p95_N` the 95th percentile with N rows at once, those
    of `batch`, repeated where there are fewer. Both models take turns, as other work on the machine
    slows both down: only their ratio compares with that of other runs. For each size, no further
    round begins after so many `seconds`; a slow model takes longer, as there are at least seven.

    The small model also has `latency_ratio_N`, see `ratio_interval`, and its ends
    `latency_ratio_low_N` and `latency_ratio_high_N`; `latency_spread_N`, the 90th percentile of the
    large model's turns over the 10th; and `latency_threads_DEVICE`, the threads on such a device.
    """
    found: tuple[dict[str, float], dict[str, float]] = {}, {}
    for size in sizes:
        rows = batch.select(torch.arange(size) % batch.rows)
        times = torch.tensor([*_rounds((large, small), rows, seconds)], dtype=torch.float64)
        for own, each in zip(found, times.unbind(1), strict=True):
            own[f"latency_p50_{size}"] = each.quantile(0.5).item()
            own[f"latency_p95_{size}"] = each.quantile(0.95).item()
        ratio = zip(("", "_low", "_high"), ratio_interval(times[:, 0], times[:, 1]), strict=True)
        found[1].update({f"latency_ratio{end}_{size}": value for end, value in ratio})
        slow, fast = times[:, 0].quantile(times.new_tensor([0.9, 0.1]))
        found[1][f"latency_spread_{size}"] = (slow / fast).item()
    found[1][f"latency_threads_{small.device.type}"] = float(torch.get_num_threads())
    return found


@torch.inference_mode()
def _rounds(
    models: tuple[Recommender, Recommender], rows: Batch, seconds: float
) -> Iterator[tuple[float, float]]:
    """The milliseconds of each model, round by round; they also take turns in being first."""
    first, second = (_timed(model, rows.to(model.device)) for model in models)
    for _ in range(WARM_UP_ROUNDS):
        first(), second()
    end = perf_counter() + seconds
    for done in range(MAX_ROUNDS):
        if done >= MIN_ROUNDS and perf_counter() > end:
            return
        if done % 2:
            late, early = second(), first()
            yield early, late
        else:
            yield first(), second()


def ratio_interval(large: Tensor, small: Tensor, draws: int = 1000) -> tuple[float, float, float]:
    """The median over turns (N,) of small / large, and the ends of its 95 % bootstrap interval."""
    ratios = small / large
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(ratios), (draws, len(ratios)), generator=generator)
    low, high = ratios[drawn].median(1).values.quantile(torch.tensor([0.025, 0.975]).to(ratios))
    return ratios.median().item(), low.item(), high.item()


def ratio_lines(values: Mapping[str, float]) -> Iterator[str]:
    """How many times the trained model's time a pass of the pruned one takes, for each size."""
    start = "pruned/latency_threads_"
    where = [f"{name.removeprefix(start)}, {counted(int(count), 'thread')}"
             for name, count in values.items() if name.startswith(start)]  # fmt: skip
    for rows in SIZES if where else ():  # not measured by earlier versions
        ends = (f"pruned/latency_ratio{end}_{rows}" for end in ("", "_low", "_high"))
        ratio, low, high = (values[name] for name in ends)
        spread = values[f"pruned/latency_spread_{rows}"]
        busy = "; unreliable: the machine was busy" if spread > MAX_SPREAD else ""
        yield (
            f"{counted(rows, 'row')} pruned in {ratio:.2f} ({low:.2f} to {high:.2f}) of the time "
            f"as trained, in turns on {where[0]}{busy}"
        )


def _timed(model: Recommender, rows: Batch) -> Callable[[], float]:
    """A pass of the rows, which returns its milliseconds; the model is put in evaluation mode."""
    model.eval()
    away = rows.ids.device.type != "cpu"

    def run() -> float:
        start = perf_counter()
        model(rows)
        if away:  # a GPU is handed its work, and does it later
            torch.accelerator.synchronize()
        return 1000 * (perf_counter() - start)

    return run
