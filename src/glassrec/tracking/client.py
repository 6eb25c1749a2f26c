"""The settings of Weights & Biases, and how a run of it is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glassrec.tracking import naming
from glassrec.tracking.ledger import Ledger
from glassrec.tracking.log import Log, Tracker


@dataclass(frozen=True)
class WandB(Tracker):
    """Report to Weights & Biases: online with a key, offline without one, never a prompt.

    Nothing is written outside the run's directory, and no host's user, command line or code is
    told. An offline run may be moved with its directory: `wandb sync` in that directory sends it.

    Args:
        project: where the runs are gathered.
        entity: the user or team; the key's own if None.
        group: what the run belongs to; if None, the sweep that it is a job of, or else, of many
            seeds, the directory of their setting.
        name: how the run is called; what is its own in a sweep, or the directory's name, if None.
        tags: besides those of data and model, of at most 64 characters.
        mode: auto is online if there is a key and offline otherwise.
    """

    project: str = "glassrec"
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    mode: Literal["auto", "online", "offline"] = "auto"

    def __post_init__(self) -> None:
        for tag in self.tags:
            if not 1 <= len(tag) <= naming.LONGEST_TAG:
                raise ValueError(
                    f"tracker.tags: {tag!r} has {len(tag)} characters, and W&B takes 1 to "
                    f"{naming.LONGEST_TAG}; shorten it"
                )

    def open(self, directory: Path, config: Mapping[str, Any], stage: str) -> Log:
        """Start a W&B run, or continue the one of the same directory, or of W&B's own agent.

        Raises:
            ValueError: wandb is not installed, or cannot start the run.
        """
        try:
            import wandb
        except ImportError:
            raise ValueError(
                "tracker=wandb needs the package wandb: install it, or take tracker=none"
            ) from None
        from glassrec.tracking.wandb_log import WandBLog

        with ExitStack() as stack:
            stack.enter_context(_writing_inside(directory))
            mode = _mode(wandb, self.mode)
            if mode == "disabled":
                return Log()
            ledger = Ledger.of(directory, os.environ.get("WANDB_RUN_ID"))
            try:
                run = self._begin(wandb, directory, config, stage, ledger.id, mode)
            except wandb.Error as error:
                raise ValueError(
                    f"tracker=wandb: {error}; tracker.mode=offline needs no key"
                ) from None
            return WandBLog(wandb, run, ledger, stack.pop_all())

    def _begin(
        self, wandb: Any, directory: Path, config: Mapping[str, Any], stage: str, id: str, mode: Any
    ) -> Any:
        place = naming.place(directory)
        return wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group or place.group,
            job_type=stage,
            name=self.name or place.name,
            tags=[*dict.fromkeys([*naming.tags(config), *self.tags])],
            id=id,
            resume="allow",
            dir=directory,
            config=naming.settings(config),
            mode=mode,
            settings=wandb.Settings(
                silent=True,
                console="off",
                # These would tell of the host's users, paths, packages, code and command line.
                x_disable_meta=True,
                x_save_requirements=False,
                disable_git=True,
                disable_job_creation=True,
                save_code=False,
            ),
        )


@contextmanager
def _writing_inside(directory: Path) -> Iterator[None]:
    """Within, W&B stages payloads and logs in the run's directory, not in the user's home."""
    ours = {f"WANDB_{name}_DIR": str(directory.absolute() / "wandb" / name.lower())
            for name in ("DATA", "CACHE", "ARTIFACT")}  # fmt: skip
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _mode(wandb: Any, wanted: str) -> Any:
    """W&B's mode; WANDB_MODE, where set, says what auto means."""
    if wanted != "auto":
        return wanted
    return os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
