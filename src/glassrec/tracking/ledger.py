"""What W&B has been told of a run directory, so that a resumed run says nothing twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from glassrec.ending import defer_signals
from glassrec.run import replacing

FILE = "wandb.json"


@dataclass
class Ledger:
    """One W&B run, and how far it knows the story."""

    directory: Path
    id: str
    step: int = 0
    """W&B's own count of what is logged; it never falls, over all processes of the run."""
    epochs: int = 0
    told: dict[str, str] = field(default_factory=dict)
    """The version of each thing that was told, by its name."""

    @classmethod
    def of(cls, directory: Path, given: str | None) -> Self:
        """The directory's ledger; a new one if there is none, or if another id is given.

        An agent of a W&B sweep gives the id of its run, and that run is to be the one.
        """
        path = directory / FILE
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if known and given in (None, known["id"]):
                return cls(directory, **known)
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} is damaged; delete it to begin another W&B run") from None
        ledger = cls(directory, given or os.urandom(6).hex())
        ledger._save()
        return ledger

    @contextmanager
    def telling(self, name: str, version: str) -> Iterator[bool]:
        """Whether `name` is news in this version; if so, it is known afterwards."""
        news = self.told.get(name) != version
        with defer_signals():
            yield news
            if news:
                self.told[name] = version
                self._save()

    @contextmanager
    def telling_epoch(self, epoch: int) -> Iterator[bool]:
        """Whether an epoch is news; if so, it and those before it are known afterwards."""
        news = epoch > self.epochs
        with defer_signals():
            yield news
            if news:
                self.epochs = epoch
                self._save()

    def next_step(self) -> int:
        """A step that was never used; what is told saves it."""
        self.step += 1
        return self.step

    def _save(self) -> None:
        facts = {name: value for name, value in asdict(self).items() if name != "directory"}
        with replacing(self.directory / FILE) as part:
            part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
