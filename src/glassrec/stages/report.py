"""Report: the story of the run as a page, for who did not run it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from glassrec.artifacts import Text
from glassrec.artifacts.table import FIGURES, REPORT
from glassrec.report.run_record import RunRecord
from glassrec.report.run_report import page
from glassrec.run import PROVENANCE, read_provenance
from glassrec.stages.stage import Stage
from glassrec.stages.train import Training

FILE = "report.html"

SHOWN = ("explain", "prune")
"""Slots whose settings are listed, beside those of the experiment."""


class Reporting(Stage):
    """`report.html`, made of all that is told in it."""

    name: ClassVar[str] = "evaluate"

    def __init__(self, trained: Training) -> None:
        super().__init__(trained.settings, trained.log, trained.given)

    def tell(self) -> None:
        """Write the page, if it is not there or tells old news."""
        names = {file.name for file in REPORT.inputs}
        recorded = self.run.recorded
        inputs = sorted(n for n in recorded if n in names or n.startswith(FIGURES))
        self.once(FILE, Text, lambda: Text(self._page(inputs)), inputs=inputs)
        self.say(f"{FILE} shows this run")

    def _page(self, names: Sequence[str]) -> str:
        hashes = {name: self.run.sha256_of(name) for name in names}
        provenance = read_provenance(self.run.dir / PROVENANCE)
        record = RunRecord.of_files(self.run.dir, self.run.shown, provenance, hashes)
        return page(record, self._words())

    def _words(self) -> dict[str, str]:
        """What the code says of the model and of the split, as their authors put it."""
        settings = self.settings
        made: Callable[..., Any] = getattr(settings.model, "func", settings.model)
        module = inspect.getmodule(made)
        said = [_first(module.__doc__ if module else None), _first(made.__doc__)]
        split = getattr(settings.data, "split", None)
        words = {"model": " ".join(filter(None, said))}
        return words | ({} if split is None else {"split": _first(type(split).__doc__)})

    def _made_from(self, needs: Sequence[str] | None) -> dict[str, Any]:
        config = self.run.config
        return super()._made_from(needs) | {slot: config[slot] for slot in SHOWN}


def _first(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
