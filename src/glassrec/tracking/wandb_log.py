"""The log of a W&B run: history, summary, figures, tables and artifacts, each recorded once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from glassrec.artifacts.file_list import TRACKER_STATE
from glassrec.process_exit import defer_signals
from glassrec.run import key_of, replacing
from glassrec.tracking.tracker import Log, TablePreview, public_values

AXES = {
    "epoch": ("train/*", "val/*"), "step/number": ("step/*",), "prune/share": ("prune/*",),
    "neuron/rank": ("neuron/*",), "cuts/share": ("cuts/*",), "figures/version": ("figures/*",),
}  # fmt: skip
"""The metrics over each axis, independent of W&B's own step."""

WITH_LAST = ("epoch", "figures/version")
"""Axes whose last values are results; those of epochs give way to the selected epoch's."""

ARTIFACT_KINDS = ("data", "checkpoint", "attributions", "pruned")
"""Each is made from those before it."""

MAX_TABLE_ROWS = 10_000
"""W&B truncates a longer table without a message."""

MAX_TABLE_COLUMNS = 100
"""More columns are slow in a browser."""


@dataclass
class LogState:
    """The W&B run of a directory and what it has recorded, so that nothing is recorded twice."""

    directory: Path
    id: str
    step: int = 0
    """W&B's own count of log entries; it never falls, over all processes of the run"""
    epochs: int = 0
    steps: int = 0
    """the last step of the optimiser that is recorded"""
    name: str | None = None
    group: str | None = None
    place: str = ""
    """where the directory was, by which a copy is known"""
    figures: dict[str, int] = field(default_factory=dict)
    """the number of versions of each figure"""
    recorded: dict[str, str] = field(default_factory=dict)
    """the version of each recorded thing, by its name"""

    @classmethod
    def open(
        cls, directory: Path, run_id: str | None, name: str | None = None, group: str | None = None
    ) -> Self:
        """The state of a directory, with the name and the group that its W&B run began with.

        It is a new one if there is none, if another id is given (an agent of a W&B sweep gives that
        of its run), or in a copy: where the directory was, there is one with the same id.
        """
        path = directory / TRACKER_STATE
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            known = {"recorded" if key == "told" else key: known[key] for key in known}  # of 0.1
            if not known or run_id not in (None, known["id"]) or _is_copy(directory, known):
                known = {"id": run_id or os.urandom(6).hex()}
            state = cls(directory, **known)
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} is damaged; delete it to begin another W&B run") from None
        state.name, state.group = state.name or name, state.group or group
        state.place = str(directory.resolve())
        state.save()
        return state

    @contextmanager
    def recording(self, name: str, version: str) -> Iterator[bool]:
        """Whether `name` has changed; if so, this version counts as recorded afterwards."""
        changed = self.recorded.get(name) != version
        with defer_signals():
            yield changed
            if changed:
                self.recorded[name] = version
                self.save()

    def save(self) -> None:
        """Write the state, whole or not at all."""
        values = {name: value for name, value in asdict(self).items() if name != "directory"}
        with replacing(self.directory / TRACKER_STATE) as part:
            part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _is_copy(directory: Path, known: Mapping[str, Any]) -> bool:
    place = Path(known.get("place") or directory)
    state = place / TRACKER_STATE
    if not state.is_file() or place.samefile(directory):
        return False
    return bool(json.loads(state.read_text(encoding="utf-8"))["id"] == known["id"])


class WandBLog(Log):
    """Records in an open W&B run what it does not have yet; `stack` is closed with the run."""

    def __init__(self, wandb: Any, run: Any, state: LogState, stack: ExitStack) -> None:
        self._wandb, self._run, self._state, self._stack = wandb, run, state, stack
        self.steps = self._log_steps
        state.step = max(state.step, run.step)
        for axis, names in AXES.items():
            for name in names:
                summary = None if axis in WITH_LAST else "none"
                run.define_metric(name, step_metric=axis, summary=summary)

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Log a row of the history once; a resumed training repeats its first epochs."""
        epoch = int(metrics["epoch"])
        if epoch > self._state.epochs:
            with defer_signals():
                self._log(metrics)
                self._state.epochs = epoch
                self._state.save()

    def _log_steps(self, points: Sequence[Mapping[str, float]]) -> None:
        """Log each point once; a resumed training repeats the steps of an epoch."""
        with defer_signals():
            for point in points:
                if point["step/number"] > self._state.steps:
                    self._log(point)
                    self._state.steps = int(point["step/number"])
            self._state.save()

    def settings(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Update the config."""
        self._run.config.update(dict(facts()), allow_val_change=True)

    def summary(self, facts: Mapping[str, float | str]) -> None:
        """Update the summary."""
        self._run.summary.update(dict(facts))

    def figure(self, name: str, path: Path, version: str) -> None:
        """Log a figure under `figures/`, over the number of its version."""
        with self._state.recording(f"figures/{name}", version) as changed:
            if changed:
                number = self._state.figures[name] = self._state.figures.get(name, 0) + 1
                image = self._wandb.Image(str(path))
                self._log({f"figures/{name}": image, "figures/version": number})

    def page(self, name: str, path: Path, version: str) -> None:
        """Log a page under `pages/`, as a panel."""
        with self._state.recording(f"pages/{name}", version) as changed:
            if changed:  # as it is: W&B would write a copy of its own outside the run
                self._log({f"pages/{name}": self._wandb.Html(str(path), inject=False)})

    def table(self, name: str, version: str, rows: Callable[[], TablePreview]) -> None:
        """Log the first rows and columns of a table under `tables/`, and print if it has more."""
        with self._state.recording(f"tables/{name}", version) as changed:
            if not changed:
                return
            preview = rows()
            frame = preview.frame.iloc[:MAX_TABLE_ROWS, :MAX_TABLE_COLUMNS]
            table = self._wandb.Table(dataframe=frame)
            artifact = self._wandb.Artifact(f"table-{self._state.id}-{name}", "table")
            artifact.add(table, name)
            self._log_artifact(artifact)
            # Bound here: W&B would make an artifact of its own that cannot move.
            table.bind_to_run(self._run, f"tables/{name}", self._state.step + 1)
            self._log({f"tables/{name}": table})
            if preview.frame.shape != frame.shape or len(frame) < preview.rows:
                print(
                    f"wandb     {name}: {len(frame):,} of {preview.rows:,} rows and "
                    f"{frame.shape[1]} of {preview.frame.shape[1]} columns; {preview.file} has all",
                    flush=True,
                )

    def curve(
        self, axis: str, version: str, points: Callable[[], Iterable[Mapping[str, float]]],
        name: str = "",
    ) -> None:  # fmt: skip
        """Log each point in a step of its own."""
        assert axis in AXES
        with self._state.recording(name or axis, version) as changed:
            for point in points() if changed else ():
                self._log(point)

    def artifact(self, kind: str, files: Iterable[Path], facts: Mapping[str, Any]) -> None:
        """Log an artifact once in each version, which is the hash of its metadata.

        The payload of data is a file of its metadata: the rows themselves are not sent. W&B would
        copy a payload to the user's home, and an offline run note the copy's absolute path. Here an
        artifact names the files of the run, and an offline one names them from the run's directory,
        so that `wandb sync`, called in that directory, finds them wherever it lies.
        """
        assert kind in ARTIFACT_KINDS
        version = key_of(facts)
        with self._state.recording(f"artifacts/{kind}", version) as changed:
            if not changed:
                return
            name = f"{kind}-{version[:12] if kind == 'data' else self._state.id}"
            artifact = self._wandb.Artifact(name, kind, metadata=public_values(facts))
            paths = [*files]
            for file in paths:
                artifact.add_file(
                    str(self._payload(file, version)), file.name, policy="immutable",
                    skip_cache=True,
                )  # fmt: skip
            if not paths:
                with artifact.new_file(f"{kind}.json", encoding="utf-8") as part:
                    json.dump(public_values(facts), part, indent=1, sort_keys=True)
            last = ARTIFACT_KINDS[-1]
            self._log_artifact(artifact, is_input=kind == "data", used_later=kind != last)

    def close(self, code: int) -> None:
        """Finish the run with an exit code."""
        try:
            self._run.finish(exit_code=code)
        finally:
            self._stack.close()

    def _log(self, values: Mapping[str, Any]) -> None:
        self._state.step += 1  # of steps that were never used; recording saves it
        # At once: W&B would write the last step, and its values into the summary, at the end.
        self._run.log(dict(values), step=self._state.step, commit=True)

    def _payload(self, file: Path, version: str) -> Path:
        """A second name of the file: the run never writes into one, it replaces it."""
        place = self._state.directory / "wandb" / "payloads" / version[:12] / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            try:
                place.hardlink_to(file)
            except OSError:  # the file system has no such names
                shutil.copyfile(file, place)
        return place

    def _log_artifact(
        self, artifact: Any, *, is_input: bool = False, used_later: bool = False
    ) -> None:
        """Log it as output or input of this run; and as used by it, where later ones need it.

        Offline, the public `use_artifact` raises an error. Only a private method writes the record
        of a use, for which pyproject.toml bounds W&B's version.
        """
        if self._run.offline:
            for entry in artifact.manifest.entries.values():
                entry.local_path = os.path.relpath(entry.local_path, self._state.directory)
        self._run._log_artifact(artifact, is_user_created=is_input, use_after_commit=used_later)
