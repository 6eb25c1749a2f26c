"""The one door to Weights & Biases."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from glassrec.run import flat, replacing


class Log:
    """Where a run reports to while it is open; this one forgets everything.

    A context manager: it is closed as failed where an exception passes through.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of one training epoch; `epoch` is among them."""

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Take in the final metrics of the run."""

    def figure(self, name: str, path: Path) -> None:
        """Take in a picture."""

    def close(self, *, failed: bool) -> None:
        """Say how it ended."""


class Tracker(ABC):
    """Settings of a place to report to."""

    @abstractmethod
    def open(self, directory: Path, config: Mapping[str, Any]) -> Log:
        """Start reporting about the run in `directory` with this configuration."""


@dataclass(frozen=True)
class NoTracker(Tracker):
    """Report nowhere; the run directory holds everything."""

    def open(self, directory: Path, config: Mapping[str, Any]) -> Log:
        """A log that forgets."""
        return Log()


@dataclass(frozen=True)
class WandB(Tracker):
    """Report to Weights & Biases: online with a key, offline without one, never a prompt.

    Args:
        project: where the runs are gathered.
        entity: the user or team; the key's own if None.
        group: what the run belongs to, a sweep for instance; if None, the runs of many seeds are
            those of their setting's directory.
        name: how the run is called; the directory's name if None.
        tags: besides those of data and model.
        mode: auto is online if there is a key and offline otherwise; an offline run is sent with
            `wandb sync`.
    """

    project: str = "glassrec"
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    mode: Literal["auto", "online", "offline"] = "auto"

    def open(self, directory: Path, config: Mapping[str, Any]) -> Log:
        """Start a W&B run, or continue the one of the same directory.

        Raises:
            ValueError: wandb is not installed, or cannot start the run.
        """
        try:
            import wandb
        except ImportError:
            raise ValueError(
                "tracker=wandb needs the package wandb: install it, or take tracker=none"
            ) from None
        config = {name: node for name, node in config.items() if name != "run"}
        many = directory.parent.name if directory.name.startswith("seed_") else None
        kinds = (config[slot]["_target_"].rsplit(".", 1)[-1].lower() for slot in ("data", "model"))
        try:
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group or many,
                name=self.name or (f"{many}/{directory.name}" if many else directory.name),
                tags=[*kinds, *self.tags],
                id=_stable_id(directory),
                resume="allow",
                dir=directory,
                config=flat(config),
                mode=_mode(wandb, self.mode),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.Error as error:
            raise ValueError(f"tracker=wandb: {error}; tracker.mode=offline needs no key") from None
        return _WandBLog(wandb, run)


class _WandBLog(Log):
    def __init__(self, wandb: Any, run: Any) -> None:
        self._wandb, self._run = wandb, run
        # Each stage counts for itself, whatever W&B's own step says.
        for stage in ("train/*", "val/*"):
            run.define_metric(stage, step_metric="epoch")

    def epoch(self, metrics: Mapping[str, float]) -> None:
        # A resumed run tells of its first epochs again; W&B drops a step that it has.
        self._run.log(dict(metrics), step=int(metrics["epoch"]))

    def summary(self, metrics: Mapping[str, float]) -> None:
        self._run.summary.update(dict(metrics))

    def figure(self, name: str, path: Path) -> None:
        self._run.log({f"figures/{name}": self._wandb.Image(str(path))})

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)


def _mode(wandb: Any, wanted: str) -> Any:
    """W&B's mode; WANDB_MODE, where set, says what auto means."""
    if wanted != "auto":
        return wanted
    return os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")


def _stable_id(directory: Path) -> str:
    """The W&B id of a run directory, drawn once, so that a resumed run continues its history."""
    path = directory / "wandb_id"
    if not path.is_file():
        with replacing(path) as part:
            part.write_text(os.urandom(6).hex(), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
