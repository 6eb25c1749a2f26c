"""The settings of Weights & Biases, and the start of a run there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glassrec.tracking.tracker import (
    MAX_TAG_LETTERS,
    Log,
    Tracker,
    default_tags,
    run_name,
    tracked_settings,
)

if TYPE_CHECKING:
    from glassrec.tracking.wandb_log import LogState


@dataclass(frozen=True)
class WandB(Tracker):
    """Report to Weights & Biases: online with a key, offline without one, never a prompt.

    Nothing is written outside the run's directory, and the host's user, command line and code are
    not sent. An offline run may be moved with its directory: `wandb sync` in that directory sends
    it.

    Args:
        project: of the runs.
        entity: the user or team; by default that of the key.
        group: of the run; by default its sweep, or, of many seeds, the directory of their setting.
        name: of the run; by default its own settings in a sweep, or the name of the directory.
        tags: beside those of data, model, seed and sweep, of at most 64 characters.
        notes: on the run.
        mode: auto is online if there is a key and offline otherwise.
    """

    project: str = "glassrec"
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    notes: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"

    def __post_init__(self) -> None:
        for tag in self.tags:
            if not 1 <= len(tag) <= MAX_TAG_LETTERS:
                raise ValueError(
                    f"tracker.tags: {tag!r} has {len(tag)} characters, and W&B takes 1 to "
                    f"{MAX_TAG_LETTERS}; shorten it"
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
        from glassrec.tracking.wandb_log import LogState, WandBLog

        with ExitStack() as stack:
            stack.enter_context(_writing_inside(directory))
            # WANDB_MODE, where set, is the meaning of auto.
            mode: Any = self.mode
            if mode == "auto":
                online = os.environ.get("WANDB_MODE") or wandb.login(prompt=False)
                mode = online if isinstance(online, str) else "online" if online else "offline"
            if mode == "disabled":
                return Log()
            name, group = run_name(directory)
            state = LogState.open(
                directory, os.environ.get("WANDB_RUN_ID"), self.name or name, self.group or group
            )
            try:
                run = self._start(wandb, state, config, stage, mode)
            except wandb.Error as error:
                raise ValueError(
                    f"tracker=wandb: {error}; tracker.mode=offline needs no key"
                ) from None
            return WandBLog(wandb, run, state, stack.pop_all())

    def _start(
        self, wandb: Any, state: LogState, config: Mapping[str, Any], stage: str, mode: Any
    ) -> Any:
        group = self.group or state.group
        return wandb.init(
            project=self.project,
            entity=self.entity,
            group=group,
            job_type=stage,
            name=self.name or state.name,
            tags=[*dict.fromkeys([*default_tags(config, group), *self.tags])],
            notes=self.notes,
            id=state.id,
            resume="allow",
            dir=state.directory,
            config=tracked_settings(config),
            mode=mode,
            settings=wandb.Settings(
                silent=True,
                console="off",
                # These would send the host's users, paths, packages, code and command line.
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
