"""A command in one process of several, which counts the calls of two functions.

The environment variable KILL, `RANK FUNCTION NUMBER`, is the call at which a process kills itself;
COUNTS is the folder in which each writes the counts, and the most anonymous memory that it had.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

from glassrec import processes
from glassrec.cli import main
from glassrec.explain.explainer import Explainer
from glassrec.prune import logit_differences
from glassrec.training.loop import EpochHistory

COUNTED = {
    "explain": (Explainer, "_view"),
    "compare": (logit_differences, "logits"),
    "epoch": (EpochHistory, "on_train_epoch_start"),
    "gather": (processes, "gather"),
    "to_first": (processes, "to_first"),
}
calls = dict.fromkeys(COUNTED, 0)


def count(name: str) -> None:
    owner, attribute = COUNTED[name]
    inner, rank = getattr(owner, attribute), os.environ["RANK"]

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[name] += processes.count() > 1  # those of `alone` are nobody else's
        if os.environ.get("KILL") == f"{rank} {name} {calls[name]}":
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **kwargs)

    setattr(owner, attribute, counted)


class Memory(Thread):
    """The most anonymous memory of this process, in KiB, as it is seen every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0

    def run(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text().splitlines()
            now = next(line for line in status if line.startswith("RssAnon"))
            self.most = max(self.most, int(now.split()[1]))
            sleep(0.005)


if __name__ == "__main__":
    for each in COUNTED:
        count(each)
    memory = Memory()
    if "COUNTS" in os.environ:
        memory.start()
    code = main(sys.argv[1:])
    if "COUNTS" in os.environ:
        found = calls | {"memory": memory.most}
        Path(os.environ["COUNTS"], os.environ["RANK"]).write_text(json.dumps(found))
    sys.exit(code)
