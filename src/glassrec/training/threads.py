"""Threads of the processor: how many a training step is worth, and how they wait.

OpenMP's threads spin while they wait for each other. With another busy process on the machine they
wait for a thread that does not run, and a step takes up to thirty times as long. PyTorch is not
imported here until a step is measured: the command line imports this module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WORK = 2**26
"""Multiplications of a forward pass from which on another thread shortens a step."""

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def wait_passively() -> None:
    """Let threads sleep while they wait, unless the user has set how, or PyTorch has started."""
    if "torch" not in sys.modules and not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def thread_count(work: int, processes: int = 1) -> int:
    """The threads for a step: the user's own number, or one for each `WORK`, at most all cores.

    It depends on settings and machine alone, and not on what else runs: with another number the
    last bits of the weights differ.

    Args:
        work: multiplications of a forward pass.
        processes: that train on this machine at the same time.
    """
    import torch

    here = torch.get_num_threads()
    if any(name in os.environ for name in _NUMBER):
        return here
    return max(1, min(work // WORK, here // processes))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute on so many threads inside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
