"""A run is a directory: each artifact is made once, atomically, and known by its hash.

Resuming is running again: only what is missing, or was made from something else, is made.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from glassrec import __version__

if TYPE_CHECKING:  # the command line reads this module, and must not wait for torch
    from glassrec.artifacts import Artifact

A = TypeVar("A", bound="Artifact")

EXPERIMENT = (
    "seed",
    "start",
    "data",
    "model",
    "objective",
    "optimizer",
    "table_optimizer",
    "trainer",
)
"""What makes a trained model what it is; a directory holds one experiment."""

WHERE = ("accelerator", "strategy")
"""Trainer settings that say where to compute, not what. The number of devices says what: each takes
a batch of its own."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place, whole or not at all.

    Its name is always the same, so that what a killed process left is written over by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.touch()
    mode = part.stat().st_mode  # what the user's umask says; some writers know better
    try:
        yield part
        part.chmod(mode)
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Make the content of a file, or the names in a directory, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(value: Any) -> str:
    """The sha256 of a plain value; the same on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def artifact_key(
    made_from: Mapping[str, Any], inputs: Mapping[str, str | None], version: str = __version__
) -> str:
    """What an artifact is made of, as one hash: settings, hashes of its inputs, and Glassrec's."""
    return key_of({"from": made_from, "inputs": inputs, "glassrec": version})


@dataclass
class Run:
    """One directory, its artifacts and their record.

    Args:
        dir: the directory; made if missing.
        config: the checked configuration, as plain values.
        command: the words of the command line, for the provenance.

    Raises:
        ValueError: the directory holds another experiment, or another process works in it.
    """

    dir: Path
    config: Mapping[str, Any]
    command: Sequence[str] = ()
    made: list[str] = field(default_factory=list, init=False)
    """The names of the artifacts made since the run was opened."""

    def __post_init__(self) -> None:
        self.dir = Path(self.dir)
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(f"run.dir: {self.dir} is not a directory; name another") from None
        self._lock = (self.dir / ".lock").open("w")
        self._take(fcntl.LOCK_EX)
        self._refuse_another_experiment()
        # Settings that turn out to be wrong must not take the place of those that made results.
        if not holds_results(self.dir):
            self.save_config()

    def _take(self, kind: int) -> None:
        """Hold the lock; ValueError if another process does."""
        try:
            fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is working in {self.dir}; wait for it") from None

    def close(self) -> None:
        """Let other processes work in the directory."""
        self._lock.close()

    def once(
        self,
        name: str,
        kind: type[A],
        made_from: Mapping[str, Any],
        inputs: Sequence[str],
        make: Callable[[], A],
    ) -> A:
        """The artifact saved as `name`, or the one that `make` makes, saved.

        Args:
            name: the file, relative to the directory.
            kind: the artifact's class.
            made_from: plain values whose change makes the saved file stale.
            inputs: the names of the artifacts, already there, that it is made of.
            make: called only if the file is missing or stale.

        Raises:
            ValueError: the saved file is not the one that was written.
        """
        path, key = self.dir / name, self._key(made_from, inputs)
        known = self._record().get(name)
        if known is not None and known["key"] == key and path.is_file():
            _refuse_changed(path, known["sha256"])
            return kind.load(path)
        artifact = make()
        self.save_config()
        with replacing(path) as temporary:
            artifact.save(temporary)
            found = sha256(temporary)
            if known is None or known["sha256"] != found:
                self._forget_descendants(name)
            # Its old entry goes first: a kill before the new one must not make this file a fake.
            self._write_record({k: e for k, e in self._record().items() if k != name})
        entry = {
            "key": key, "sha256": found, "inputs": list(inputs), "settings": self._names(made_from)
        }  # fmt: skip
        self._write_record(self._record() | {name: entry})
        self.made.append(name)
        shutil.rmtree(self._parts(name), ignore_errors=True)
        return artifact

    def forget(self, name: str) -> None:
        """Delete an artifact that is not asked for any more, and what was made of it."""
        record = self._record()
        if name in record:
            self._forget_descendants(name)
            (self.dir / name).unlink(missing_ok=True)
            self._write_record({k: entry for k, entry in self._record().items() if k != name})

    def parts(self, name: str, made_from: Mapping[str, Any], inputs: Sequence[str]) -> Path:
        """A folder for the parts of an artifact that takes long, gone once the artifact is made.

        It holds what a killed process left of the same artifact, and nothing of another.
        """
        folder, key = self._parts(name), self._key(made_from, inputs)
        mark = folder / "key"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != key:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with replacing(mark) as temporary:
                temporary.write_text(key, encoding="utf-8")
        return folder

    def _parts(self, name: str) -> Path:
        return self.dir / f".{name}.parts"

    def _key(self, made_from: Mapping[str, Any], inputs: Sequence[str]) -> str:
        return artifact_key(made_from, {name: self.sha256_of(name) for name in inputs})

    def _names(self, made_from: Mapping[str, Any]) -> dict[str, list[str]]:
        """Which settings are in a key, so that the record tells how it is computed anew."""
        slots = {name: part for name, part in made_from.items() if name in self.config}
        return {name: sorted(part) for name, part in slots.items() if isinstance(part, Mapping)}

    @property
    def recorded(self) -> list[str]:
        """The artifacts that the run made."""
        return [*self._record()]

    def sha256_of(self, name: str) -> str:
        """The recorded hash of an artifact that is there."""
        return self._record()[name]["sha256"]

    def write(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all; an equal one is left alone."""
        path = self.dir / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def describe(self, data: Mapping[str, str]) -> None:
        """Write where the run comes from: versions, seed, git commit, command, data hashes."""
        packages = ("torch", "lightning", "captum", "torchmetrics", "hydra-core", "pandas")
        facts = {
            "glassrec": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
            "git_commit": _git_commit(),
            "seed": self.config["seed"],
            # The directory is left out: it is where this file lies, and may be moved.
            "command": [word for word in self.command if not word.startswith("run.dir=")],
            "data": dict(data),
        }
        self.write("provenance.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")

    @contextmanager
    def working_on(self, stage: str) -> Iterator[None]:
        """Say for others, in `status.json`, how far the run is and how it ended."""
        self._status("running", stage)
        try:
            yield
        except BaseException as error:
            state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self._status(state, stage, str(error))
            raise
        self._status("finished", stage)

    def save_config(self) -> None:
        """Write the settings down, as those that made the results."""
        plain = {name: node for name, node in self.config.items() if name != "run"}
        self.write("config.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))

    def _status(self, state: str, stage: str, problem: str = "") -> None:
        facts = {"state": state, "stage": stage} | ({"problem": problem} if problem else {})
        self.write("status.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")

    def _forget_descendants(self, name: str) -> None:
        """Delete what was made of an artifact that is about to change: it would tell old news."""
        record = self._record()
        stale = [other for other, entry in record.items() if name in entry["inputs"]]
        for other in stale:
            self._forget_descendants(other)
            (self.dir / other).unlink(missing_ok=True)
        if stale:
            left = self._record()
            self._write_record({k: entry for k, entry in left.items() if k not in stale})

    def _record(self) -> dict[str, dict[str, Any]]:
        return _record_of(self.dir)

    def _write_record(self, record: Mapping[str, Mapping[str, Any]]) -> None:
        self.write("record.json", record_text(record))

    def _refuse_another_experiment(self) -> None:
        path = self.dir / "config.yaml"
        if not path.is_file() or not holds_results(self.dir):
            return
        saved = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        there, here = flat(experiment(saved)), flat(experiment(self.config))
        differing = [name for name in here | there if there.get(name) != here.get(name)]
        if differing:
            name = differing[0]
            more = f", and {len(differing) - 1} more settings" if len(differing) > 1 else ""
            raise ValueError(
                f"{self.dir} holds another experiment: {name} is {there.get(name)} there and "
                f"{here.get(name)} here{more}; name another run.dir"
            )


def record_text(record: Mapping[str, Mapping[str, Any]]) -> str:
    """A record as its file holds it."""
    return json.dumps(dict(sorted(record.items())), indent=1) + "\n"


def holds_results(directory: Path) -> bool:
    """Whether a run has made anything there; a start that failed binds nobody to its settings."""
    return (directory / "record.json").is_file() or (directory / "training.ckpt").is_file()


def trusted_sha256(path: Path) -> str:
    """The sha256 of a file; ValueError if the run that it lies in recorded another."""
    recorded = _record_of(path.parent).get(path.name)
    if recorded is not None:
        _refuse_changed(path, recorded["sha256"])
    return sha256(path)


def _record_of(directory: Path) -> dict[str, dict[str, Any]]:
    """What a run wrote down of its artifacts; nothing where no run has made any."""
    path = directory / "record.json"
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        whole = all({"key", "sha256", "inputs"} <= entry.keys() for entry in record.values())
    except (ValueError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged; delete it to have everything made again")
    return record


def _refuse_changed(path: Path, expected: str) -> None:
    found = sha256(path)
    if found != expected:
        raise ValueError(
            f"{path} has changed since it was written: its sha256 is {found[:12]}…, recorded "
            f"{expected[:12]}…; restore it, or delete it to have it made again"
        )


def experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that makes the trained model what it is.

    Where a path leads is left out: data, and models to start from, are known by the hashes of
    their files. Whether there is a start is not.
    """
    part = {name: _without_paths(config[name]) for name in EXPERIMENT if name in config}
    if part.get("start") is not None:
        part["start"] = "a trained model"
    trainer = part.get("trainer", {})
    return part | {"trainer": {k: v for k, v in trainer.items() if k not in WHERE}}


def _without_paths(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _without_paths(v) for k, v in node.items() if not is_path(v)}
    return node


def is_path(value: Any) -> bool:
    """Whether a setting is a path: the check of a configuration makes every path absolute."""
    return isinstance(value, str) and Path(value).is_absolute()


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    pairs = [flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items()]
    return {name: value for part in pairs for name, value in part.items()}


def _git_commit() -> str | None:
    """The commit of the code that runs, `+changes` if files differ; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40"]
    try:
        found = subprocess.run(
            [*command, "--dirty=+changes", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None
