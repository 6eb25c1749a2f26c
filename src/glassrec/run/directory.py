"""The directory of a run: its files are made once, atomically, and known by their hashes.

`ReadOnlyRun` is what a report, a comparison or a check needs.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

from glassrec.aliases import current
from glassrec.artifacts.file_list import CONFIG, LOCK, PROVENANCE, RECORD, File, find
from glassrec.artifacts.formats import Artifact
from glassrec.processes import alone, from_first
from glassrec.run.changes import Changes
from glassrec.run.cut_directory import SHARED, run_of_cut
from glassrec.run.experiment import differing, experiment, flat, from_environment, mask_values
from glassrec.run.files import Lock, replacing, sha256
from glassrec.run.provenance import as_text, provenance, read_provenance
from glassrec.run.record import (
    artifact_key,
    config_entry,
    environment_hashes,
    holds_results,
    key_of,
    may_continue,
    read_entries,
    read_record,
    record_text,
    refuse_changed,
    refuse_changed_config,
    settings_of,
)
from glassrec.run.status import Status

A = TypeVar("A", bound=Artifact)


@dataclass
class ReadOnlyRun:
    """The files that a run has made, as its record lists them.

    Args:
        dir: the directory of the run.
        config: its configuration, as plain values.
        written: the configuration with environment variables by their names; `config` if None.
    """

    dir: Path
    config: Mapping[str, Any]
    written: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.dir = Path(self.dir)

    @property
    def shown(self) -> Mapping[str, Any]:
        """The configuration for files and trackers: without values of environment variables."""
        return self.config if self.written is None else self.written

    @cached_property
    def parent(self) -> ReadOnlyRun | None:
        """Of a cut, the run that was cut; it has the files of training and explanation."""
        directory = run_of_cut(self.dir)
        return None if directory is None else ReadOnlyRun(directory, self.config, self.written)

    def owner(self, file: File[Any]) -> ReadOnlyRun:
        """The run whose record has a file: the run itself, or that which was cut."""
        return self.parent if self.parent is not None and file.stage in SHARED else self

    def path(self, file: File[Any]) -> Path:
        """The place of a file."""
        return self.owner(file).dir / file.name

    @property
    def recorded(self) -> dict[str, str]:
        """The sha256 of each file that the run itself made, by name."""
        return {name: entry["sha256"] for name, entry in read_record(self.dir).items()}

    @property
    def files(self) -> list[File[Any]]:
        """The rows of the list of files that the run itself made, in the order of the record."""
        return [file for name in self.recorded if (file := find(name)) is not None]

    def has(self, *files: File[Any]) -> bool:
        """Whether the run, or that which was cut, made all of these."""
        return all(file.name in self.owner(file).recorded for file in files)

    def sha256_of(self, file: File[Any]) -> str:
        """The recorded hash of a file that was made."""
        return self.owner(file).recorded[file.name]

    def read(self, file: File[A]) -> A:
        """The content of a file; ValueError if the run did not make it, or it has changed since."""
        path = self.path(file)
        if not self.has(file) or not path.is_file():
            raise ValueError(f"{path} is missing; glassrec {file.stage} makes it")
        refuse_changed(path, self.sha256_of(file))
        return self.load(file)

    def load(self, file: File[A]) -> A:
        """The content of a file as it is, changed or not; ValueError if missing or damaged."""
        if not self.path(file).is_file():
            raise ValueError(f"{file.name} is missing")
        return file.content.load(self.path(file))

    def once(self, file: File[A], make: Callable[[], A], external: Mapping[str, Any]) -> A:
        """The content of a file as it is: nothing is made here, see `Run.once`."""
        return self.load(file)

    def forget(self, file: File[Any]) -> None:
        """Nothing is deleted here, see `Run.forget`."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the run comes from; ValueError if that is missing or was changed."""
        return read_provenance(self.dir / PROVENANCE)


@dataclass
class Run(ReadOnlyRun):
    """A run that makes files.

    Args:
        dir: the directory; made if missing.
        config: the checked configuration, as plain values.
        written: as for `ReadOnlyRun`.
        command: the words of the command line, for the provenance.

    Raises:
        ValueError: the directory holds another experiment, its settings are not those that made its
            results, or another process works in it.
    """

    command: Sequence[str] = ()
    new_files: list[str] = field(default_factory=list, init=False)
    """The names of the files made since the run was opened."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lock = self._locked()
        config, shown = self.config, self.shown  # no cycle, which would keep the lock
        self.status = Status(self.dir, lambda text: mask_values(text, config, shown))
        for place in ("", "figures/", "bundle/", "cuts/", ".*.parts/"):
            for part in self.dir.glob(f"{place}.*.part"):  # a killed process left it
                part.unlink(missing_ok=True)
        try:
            self._refuse_another_experiment()
        except ValueError:
            self.close()
            raise
        self._changes = Changes(self.dir, self.shown)
        # Settings that turn out to be wrong must not take the place of those that made results.
        if not holds_results(self.dir):
            self.save_config()

    def _locked(self) -> Lock:
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            return Lock(self.dir / LOCK)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(f"run.dir: {self.dir} is not a directory; name another") from None
        except OSError as error:
            problem = f"cannot be written: {error.strerror}"
            raise ValueError(f"run.dir: {self.dir} {problem}; name another") from error

    def close(self) -> None:
        """Let other processes work in the directory."""
        self.lock.close()

    def once(self, file: File[A], make: Callable[[], A], external: Mapping[str, Any]) -> A:
        """The content of a file: as saved if it is up to date, or else as `make` makes it, saved.

        Args:
            file: of the list of files; its inputs are there already.
            make: called only if the file is missing or stale.
            external: the hashes of all external inputs.

        Raises:
            ValueError: the saved file is not the one that was written.
        """
        assert self.owner(file) is self, "a cut makes no file of the run that was cut"
        name, path, known = file.name, self.dir / file.name, read_record(self.dir).get(file.name)
        made_from = self._made_from(file, external)
        key = self._key(file, made_from)
        is_made = known is not None and known["key"] == key and path.is_file()
        if from_first(lambda: (name, is_made))[1]:
            refuse_changed(path, known["sha256"])  # type: ignore[index]
            return self.load(file)
        self.status.start()
        self._changes.report(name, made_from)
        with nullcontext() if file.together else alone():
            content = make()
        self.save_config()
        with replacing(path) as temporary:
            content.save(temporary)
            found = sha256(temporary)
            if known is None or known["sha256"] != found:
                self._forget_descendants(name)
            # Without its old entry: after a kill here this file must not look changed.
            self._write_record({k: e for k, e in read_record(self.dir).items() if k != name})
        self._enter(file, made_from, found)
        self.new_files.append(name)
        shutil.rmtree(self._parts(file), ignore_errors=True)
        from_first(bool)  # the others wait for it, and read the file
        return content

    def adopt(self, file: File[Any], path: Path, external: Mapping[str, Any]) -> None:
        """Make a file of the directory, which something else than `once` has made, one of these."""
        self._enter(file, self._made_from(file, external), sha256(path))
        path.replace(self.dir / file.name)

    def _enter(self, file: File[Any], made_from: Mapping[str, Any], found: str) -> None:
        settings = {name: sorted(part) for name, part in made_from.items() if name in self.config}
        inputs, key = [each.name for each in file.inputs], self._key(file, made_from)
        entry = {"key": key, "sha256": found, "inputs": inputs, "settings": settings}
        self._write_record(read_record(self.dir) | {file.name: entry})

    def forget(self, file: File[Any]) -> None:
        """Delete a file that is not wanted any more, and those that were made from it."""
        if self.has(file):
            self._forget_descendants(file.name)
            (self.dir / file.name).unlink(missing_ok=True)
            record = read_record(self.dir)
            self._write_record({k: entry for k, entry in record.items() if k != file.name})

    def parts(self, file: File[Any], external: Mapping[str, Any]) -> Path:
        """A folder for the parts of a file that takes long, deleted once the file is made.

        It holds the parts that a killed process left of the same file, and nothing of another.
        """
        folder, key = self._parts(file), self._key(file, self._made_from(file, external))
        mark = folder / "key"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != key:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with replacing(mark) as temporary:
                temporary.write_text(key, encoding="utf-8")
        return from_first(lambda: folder)

    def _parts(self, file: File[Any]) -> Path:
        return self.dir / f".{file.name}.parts"

    def _made_from(self, file: File[Any], external: Mapping[str, Any]) -> dict[str, Any]:
        """The plain values that a file depends on, beside its inputs."""
        settings = settings_of(file.settings, self.config)
        return {"experiment": experiment(self.config), "given": external} | settings

    def _key(self, file: File[Any], made_from: Mapping[str, Any]) -> str:
        return artifact_key(made_from, {each.name: self.sha256_of(each) for each in file.inputs})

    def write(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all; an equal one is left alone."""
        path = self.dir / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def describe(self, data: Mapping[str, str], **more: int) -> None:
        """Write versions, seed, git commit, command, data hashes, and `more`."""
        facts = provenance(self.config["seed"], self.command, data)
        self.write(PROVENANCE, as_text(facts | more))

    def restore_provenance(self, data: Mapping[str, str]) -> None:
        """Write a missing or damaged `provenance.json` again, so marked; of a new cut, its own."""
        if self.parent is not None and self.new_files:
            self.describe(data)
        try:
            read_provenance(self.dir / PROVENANCE)
        except ValueError:
            self.describe(data, restored=True)

    def working_on(self, stage: str) -> AbstractContextManager[None]:
        """Write into `status.json`, for others, how far the run is and how it ended."""
        return self.status.working_on(stage)

    def save_config(self) -> None:
        """Write the settings down, as those that made the results, and their hash in the record."""
        text = self._config_text
        if read_record(self.dir):  # first: if this process is killed, both settings are known
            self._write_record(read_record(self.dir), settings=text)
        self.write(CONFIG, text)

    @cached_property
    def _config_text(self) -> str:
        return config_text({name: node for name, node in self.shown.items() if name != "run"})

    def _forget_descendants(self, name: str) -> None:
        """Delete the files made from one that is about to change: they would be stale."""
        record = read_record(self.dir)
        stale = [other for other, entry in record.items() if name in entry["inputs"]]
        for other in stale:
            self._forget_descendants(other)
            (self.dir / other).unlink(missing_ok=True)
        if stale:
            left = read_record(self.dir)
            self._write_record({k: entry for k, entry in left.items() if k not in stale})

    def _write_record(
        self, record: Mapping[str, Mapping[str, Any]], settings: str | None = None
    ) -> None:
        """Write the entries of the files, and that of the settings, or of those to come."""
        file, environment = self.dir / CONFIG, environment_hashes(self.config, self.shown)
        there = sha256(file) if file.is_file() else None
        to_come = there if settings is None else hashlib.sha256(settings.encode()).hexdigest()
        if settings is None:
            environment = read_entries(self.dir).get(CONFIG, {}).get("environment", environment)
        known = {} if to_come is None else {CONFIG: config_entry(to_come, there, environment)}
        self.write(RECORD, record_text({**record, **known}))

    def _refuse_another_experiment(self) -> None:
        path = self.dir / CONFIG
        if not path.is_file() or not holds_results(self.dir):
            return
        refuse_changed_config(self.dir)
        saved = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        there, shown = flat(experiment(current(saved)[0])), flat(experiment(self.shown))
        here = flat(experiment(self.config))
        names = differing(here, there)
        if names and not may_continue(self.dir, here, there):
            name = names[0]
            more = f", and {len(names) - 1} more settings" if len(names) > 1 else ""
            raise ValueError(
                f"{self.dir} holds another experiment: {name} is {there.get(name)} there and "
                f"{shown.get(name)} here{more}; name another run.dir"
            )
        recorded = read_entries(self.dir).get(CONFIG, {}).get("environment", {})
        for name, expected in recorded.items():
            if from_environment(there.get(name)) and key_of([name, here.get(name)]) != expected:
                raise ValueError(
                    f"{self.dir} holds another experiment: {name} is {there[name]} there, whose "
                    "value was another; set the variable as it was, or name another run.dir"
                )


def config_text(config: Mapping[str, Any]) -> str:
    """Settings as `config.yaml` holds them."""
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
