"""What all stages share: a run, its settings, and artifacts that are made once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from glassrec.artifacts import Artifact, Picture
from glassrec.run import Run, experiment
from glassrec.tracking import Log

if TYPE_CHECKING:
    from glassrec.pipeline import Pipeline

A = TypeVar("A", bound=Artifact)


class Stage(ABC):
    """One stage of a pipeline; its artifacts are made when they are asked for."""

    name: ClassVar[str]
    slot: ClassVar[str | None] = None
    """The slot whose settings the stage's artifacts depend on, beside the experiment."""

    def __init__(self, settings: Pipeline, log: Log, given: dict[str, Any]) -> None:
        self.settings = settings
        self.log = log
        self.given = given

    @property
    def run(self) -> Run:
        """The directory."""
        return self.settings.run

    def once(
        self,
        name: str,
        kind: type[A],
        make: Callable[[], A],
        *,
        inputs: Iterable[str] = (),
        doing: str = "",
        needs: Sequence[str] | None = None,
    ) -> A:
        """The artifact `name`, made of the experiment, the slot's settings and other artifacts.

        Args:
            name: the file, relative to the directory.
            kind: the artifact's class.
            make: makes it.
            inputs: the artifacts that it is made of.
            doing: tells who watches what takes so long, if it has to be made.
            needs: the settings of the slot whose change makes it stale; all if None. What is made
                of artifacts alone, such as a picture, needs none.
        """

        def told() -> A:
            if doing:
                print(f"{doing} ...", flush=True)
            return make()

        return self.run.once(name, kind, self._made_from(needs), tuple(inputs), told)

    @abstractmethod
    def tell(self) -> object:
        """Make what is missing, and say what came out."""

    def parts(self, name: str, inputs: Iterable[str], needs: Sequence[str]) -> Path:
        """The folder of the parts of an artifact that takes long."""
        return self.run.parts(name, self._made_from(needs), tuple(inputs))

    def figure(self, name: str, inputs: Iterable[str], draw: Callable[[], Picture]) -> None:
        """A picture, made of artifacts, and told to the tracker."""
        path = f"figures/{name}.png"
        self.once(path, Picture, draw, inputs=inputs, needs=())
        self.log.figure(name, self.run.dir / path, self.run.sha256_of(path))

    def say(self, line: str) -> None:
        """Tell the user what came out."""
        print(f"{self.name:<9} {line}", flush=True)

    def _made_from(self, needs: Sequence[str] | None) -> dict[str, Any]:
        config = self.run.config
        made_from = {"experiment": experiment(config), "given": self.given}
        if self.slot is None or needs == ():
            return made_from
        slot = config[self.slot]
        return made_from | {self.slot: slot if needs is None else {k: slot[k] for k in needs}}
