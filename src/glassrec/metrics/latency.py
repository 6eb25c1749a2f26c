"""How long a model takes, beside another one in the same run.

A clock tells different times each time, and other work on the machine slows both models down. So
they take turns, and only their ratio is to be compared with that of other runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

import torch

from glassrec.data.batch import Batch
from glassrec.models.base import Recommender

SIZES = (1, 256, 4096)
"""Rows that pass the model at once."""

WARM_UP, LEAST, MOST = 2, 7, 200
"""Rounds that are not counted, and those that are: at least and at most."""


def latency(
    large: Recommender,
    small: Recommender,
    batch: Batch,
    *,
    sizes: Sequence[int] = SIZES,
    seconds: float = 0.5,
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of one forward pass, from ids that are on the device to logits, of each model.

    `latency_p50_N` is the median and `latency_p95_N` the 95th percentile with N rows at once.

    Args:
        large: the one model.
        small: the other one, on the same device.
        batch: rows to pass; they are repeated where there are fewer than a size asks for.
        sizes: each N.
        seconds: for each size, the time after which no further round begins; a slow model takes
            longer, as there are at least seven.
    """
    found: tuple[dict[str, float], dict[str, float]] = {}, {}
    for size in sizes:
        rows = batch.select(torch.arange(size) % batch.rows)
        times = torch.tensor([*_rounds((large, small), rows, seconds)], dtype=torch.float64)
        for own, each in zip(found, times.unbind(1), strict=True):
            own[f"latency_p50_{size}"] = each.quantile(0.5).item()
            own[f"latency_p95_{size}"] = each.quantile(0.95).item()
    return found


@torch.inference_mode()
def _rounds(
    models: tuple[Recommender, Recommender], rows: Batch, seconds: float
) -> Iterator[tuple[float, float]]:
    """The milliseconds that each model takes, round by round; who begins takes turns, too."""
    first, second = (_timed(model, rows.to(model.device)) for model in models)
    for _ in range(WARM_UP):
        first(), second()
    end = perf_counter() + seconds
    for done in range(MOST):
        if done >= LEAST and perf_counter() > end:
            return
        if done % 2:
            late, early = second(), first()
            yield early, late
        else:
            yield first(), second()


def _timed(model: Recommender, rows: Batch) -> Callable[[], float]:
    """A pass of the rows, which tells its milliseconds; the model is put into evaluation mode."""
    model.eval()
    away = rows.ids.device.type != "cpu"

    def run() -> float:
        start = perf_counter()
        model(rows)
        if away:  # a GPU is handed its work, and does it later
            torch.accelerator.synchronize()
        return 1000 * (perf_counter() - start)

    return run
