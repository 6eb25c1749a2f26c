"""The peaks of memory of the stages of a run in this process, and their estimates, as JSON.

The first argument is the folder of a small run, whose stages load all that a process needs.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from glassrec.__main__ import main
from glassrec.artifacts.file_list import STAGES
from glassrec.stages import train

estimates: dict[str, float] = {}


def resident() -> int:
    """Bytes of this process's own memory, without mapped files."""
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024


def peak_of(words: list[str]) -> int:
    """The most bytes that a command takes at one time, beside those that were there before."""
    gc.collect()
    before, stop, sizes = resident(), threading.Event(), [0]

    def watch() -> None:
        while not stop.wait(0.002):
            sizes[0] = max(sizes[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        assert main(words) == 0
    finally:
        stop.set()
        thread.join()
    return sizes[0] - before


def note(found: dict[str, dict[str, float]], here: int, last: str) -> str:
    """What `check_memory` gets."""
    estimates.update({stage: sum(parts.values()) for stage, parts in found.items()})
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    given: Any = train
    given.check_memory = note
    small, large, store, *words = sys.argv[1:]
    assert main(["run", f"run.dir={small}/run", f"data.path={small}/store", *words]) == 0
    run = [f"run.dir={large}", f"data.path={store}", *words]
    peaks = {stage: peak_of([stage, *run]) for stage in STAGES}
    print(json.dumps({"measured": peaks, "estimated": estimates}))
