"""The processes of one run, started by torchrun: each does its share, and the first one writes.

Shares are whole chunks of rows, and the results of chunks are put together in the order of the
chunks. So no result depends on the number of processes. All processes go through the same calls of
`gather`, `to_first` and `from_first` in the same order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

R = TypeVar("R")
T = TypeVar("T")

_TIMEOUT = timedelta(days=30)
"""Others wait while the first process works alone; the end of a process breaks its connections."""

_state = {"joined": False, "alone": 0}


def launched() -> int:
    """The number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def is_first() -> bool:
    """Whether this process prints and writes files."""
    return launched() == 1 or os.environ["RANK"] == "0"


def count() -> int:
    """How many processes share the work here."""
    return launched() if _state["joined"] and not _state["alone"] else 1


def rank() -> int:
    """The number of this process among them."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def on_this_machine() -> int:
    """How many processes torchrun started on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() > 1 else 1


@contextmanager
def joined(cuda: bool = False) -> Iterator[None]:
    """Connect the processes, which share the work inside."""
    if launched() == 1:
        yield
        return
    import torch
    from torch import distributed

    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    distributed.init_process_group(backend, timeout=_TIMEOUT)
    _state["joined"] = True
    try:
        yield
    finally:
        _state["joined"] = False
        distributed.destroy_process_group()


@contextmanager
def connected() -> Iterator[None]:
    """ValueError inside if another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if launched() == 1 or not re.search("gloo|Connection|NCCL", str(error)):
            raise
        raise ValueError(
            "another process of this run has ended; see its message, and repeat the command to go "
            "on from here"
        ) from error


@contextmanager
def alone() -> Iterator[None]:
    """Let this process do the work inside by itself; the others take no part in it."""
    _state["alone"] += 1
    try:
        yield
    finally:
        _state["alone"] -= 1


def gather(value: T) -> list[T]:
    """The values of all processes, in their order; tensors arrive on the CPU."""
    if count() == 1:
        return [value]
    from torch import Tensor, distributed
    from torch.utils._pytree import tree_map

    there = tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, value)
    found: list[Any] = [None] * count()
    with connected():
        distributed.all_gather_object(found, there)
    return found


def to_first(value: T) -> list[T]:
    """The values of all processes, in their order, in the first process; none in the others."""
    if count() == 1:
        return [value]
    from torch import distributed

    found: list[Any] = [None] * count() if is_first() else []
    with connected():
        distributed.gather_object(value, found or None)
    return found


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, where alone it is called; the others wait."""
    if count() == 1:
        return make()
    value = None
    if is_first():
        with alone():
            value = make()
    return gather(value)[0]  # type: ignore[return-value]


def share(parts: Iterable[T]) -> Iterator[T]:
    """Every n-th of the parts, beginning with the number of this process."""
    return islice(parts, rank(), None, count())


def each(parts: Iterable[T], work: Callable[[T], R], *, everywhere: bool = True) -> Iterator[R]:
    """The results of `work` on all parts, in their order, which the processes share; in the first
    process alone where they are not needed `everywhere`.
    """
    remaining = iter(parts)
    while batch := [*islice(remaining, count())]:
        own = work(batch[rank()]) if rank() < len(batch) else None
        yield from (gather if everywhere else to_first)(own)[: len(batch)]  # type: ignore[misc]
