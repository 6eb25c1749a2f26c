"""What a run tells W&B: history over axes of its own, summary, pictures, tables and artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from glassrec.tracking.ledger import Ledger
from glassrec.tracking.lineage import Lineage
from glassrec.tracking.log import Log, Shown

AXES = {
    "epoch": ("train/*", "val/*"), "prune/share": ("prune/*",), "neuron/rank": ("neuron/*",)
}  # fmt: skip
"""What is drawn over what. Each counts for itself, whatever W&B's own step says."""

MOST_ROWS = 10_000
"""Of a table; W&B cuts a longer one without a word."""

MOST_COLUMNS = 100
"""Of a table; a browser shows no more with pleasure."""


class WandBLog(Log):
    """Tells an open W&B run what it does not know yet.

    Args:
        wandb: the module.
        run: the open run.
        ledger: what it has been told before.
        stack: is closed with the run.
    """

    def __init__(self, wandb: Any, run: Any, ledger: Ledger, stack: ExitStack) -> None:
        self._wandb, self._run, self._ledger, self._stack = wandb, run, ledger, stack
        self._lineage = Lineage(wandb, run, ledger)
        ledger.step = max(ledger.step, run.step)
        for axis, names in AXES.items():
            for name in names:
                # Of a curve over epochs the last is a fact; of one over shares it is not.
                run.define_metric(
                    name, step_metric=axis, summary=None if axis == "epoch" else "none"
                )

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Log a row of the history once; a resumed training tells of its first epochs again."""
        with self._ledger.telling_epoch(int(metrics["epoch"])) as news:
            if news:
                self._log(metrics)

    def summary(self, facts: Mapping[str, float | str]) -> None:
        """Write over what was there."""
        self._run.summary.update(dict(facts))

    def figure(self, name: str, path: Path, version: str) -> None:
        """Log a picture under `figures/`."""
        with self._ledger.telling(f"figures/{name}", version) as news:
            if news:
                self._log({f"figures/{name}": self._wandb.Image(str(path))})

    def table(self, name: str, version: str, rows: Callable[[], Shown]) -> None:
        """Log a table under `tables/`: its first rows and columns, and say if there are more."""
        with self._ledger.telling(f"tables/{name}", version) as news:
            if not news:
                return
            found = rows()
            frame = found.frame.iloc[:MOST_ROWS, :MOST_COLUMNS]
            table = self._wandb.Table(dataframe=frame)
            self._lineage.table(name, table)
            # Bound by hand: W&B would make an artifact of its own that cannot move.
            table.bind_to_run(self._run, f"tables/{name}", self._ledger.step + 1)
            self._log({f"tables/{name}": table})
            if found.frame.shape != frame.shape or len(frame) < found.rows:
                print(
                    f"wandb     {name}: {len(frame):,} of {found.rows:,} rows and "
                    f"{frame.shape[1]} of {found.frame.shape[1]} columns; {found.file} has all",
                    flush=True,
                )

    def curve(
        self, axis: str, version: str, points: Callable[[], Iterable[Mapping[str, float]]]
    ) -> None:
        """Log each point in a step of its own."""
        assert axis in AXES
        with self._ledger.telling(axis, version) as news:
            for point in points() if news else ():
                self._log(point)

    def artifact(self, kind: str, files: Iterable[Path], facts: Mapping[str, Any]) -> None:
        """Log files with what they were made of."""
        self._lineage.add(kind, [*files], facts)

    def close(self, code: int) -> None:
        """Finish the run with an exit code."""
        try:
            self._run.finish(exit_code=code)
        finally:
            self._stack.close()

    def _log(self, values: Mapping[str, Any]) -> None:
        self._run.log(dict(values), step=self._ledger.next_step())
