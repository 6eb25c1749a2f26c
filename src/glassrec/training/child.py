"""A function for a process that ends when its parent does, even by SIGKILL.

It needs the standard library alone, as it is there before imports that take long.
"""

from __future__ import annotations

import os
import threading
from importlib import import_module
from time import sleep
from typing import Any

LOOK_EVERY = 0.25
"""Seconds between two looks whether the parent is alive."""


class ChildFunction:
    """A function of a module, for `multiprocessing.Process`; its arguments are unpickled after
    it.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name, self.parent = module, name, os.getpid()
        self.watched = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._watch()

    def __call__(self, *arguments: object) -> None:
        """Call the function in the process that was started."""
        if not self.watched:  # it was forked, and nothing unpickled
            self._watch()
        getattr(import_module(self.module), self.name)(*arguments)

    def _watch(self) -> None:
        self.watched = True
        threading.Thread(target=_end_with, args=(self.parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        sleep(LOOK_EVERY)
    os._exit(1)
