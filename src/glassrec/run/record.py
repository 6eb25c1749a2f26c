"""The record of a run: for each file its hash, and a key of what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from glassrec import __version__
from glassrec.aliases import original
from glassrec.artifacts.file_list import CHECKPOINT, CONFIG, FINISHED, RECORD
from glassrec.run.experiment import EPOCHS, differing, experiment, flat, from_environment
from glassrec.run.files import sha256


def key_of(value: Any) -> str:
    """The sha256 of a plain value; the same on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def artifact_key(
    made_from: Mapping[str, Any], inputs: Mapping[str, str | None], version: str = __version__
) -> str:
    """The key of a file: one hash of its settings, the hashes of its inputs, and the version.

    Settings count under their first names, so that renaming one makes no result stale.
    """
    made_from = original(made_from)
    if "experiment" in made_from:
        made_from["experiment"] = original(made_from["experiment"])
    return key_of({"from": made_from, "inputs": inputs, "glassrec": version})


def record_text(record: Mapping[str, Mapping[str, Any]]) -> str:
    """A record as its file holds it."""
    return json.dumps(dict(sorted(record.items())), indent=1) + "\n"


def holds_results(directory: Path) -> bool:
    """Whether a run has made anything there; a start that failed leaves other settings allowed."""
    return (directory / RECORD).is_file() or (directory / CHECKPOINT).is_file()


def settings_of(names: Iterable[str], config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of settings (`explain.task`, or `explain` for all of a group), by group.

    The configuration of an older run has none of a setting that was added later.
    """
    found: dict[str, dict[str, Any]] = {}
    for group, _, key in (name.partition(".") for name in names):
        part = config.get(group) or {}
        if values := ({k: v for k, v in part.items() if k == key} if key else part):
            found.setdefault(group, {}).update(values)
    return found


def may_continue(directory: Path, here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Whether the flat settings `here` only ask for more epochs than the run has, and it kept the
    state of its optimisers.
    """
    grows = differing(here, there) == [EPOCHS] and here[EPOCHS] > there[EPOCHS]
    return grows and any((directory / name).is_file() for name in (FINISHED.name, CHECKPOINT))


def read_record(directory: Path) -> dict[str, dict[str, Any]]:
    """The entries of the files; empty where no run has made any."""
    return {name: entry for name, entry in read_entries(directory).items() if name != CONFIG}


def read_entries(directory: Path) -> dict[str, dict[str, Any]]:
    """All of the record: the entries of the files, and that of the settings under `CONFIG`."""
    path = directory / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        whole = all(
            ({"sha256"} if name == CONFIG else {"key", "sha256", "inputs"}) <= entry.keys()
            for name, entry in record.items()
        )
    except (ValueError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged; delete it to have everything made again")
    return record


def config_entry(
    sha256: str, previous: str | None, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The entry of the settings, with the hashes of values that environment variables give.

    The `previous` ones may still lie there, if the process is killed before the file is replaced.
    """
    found: dict[str, Any] = {"sha256": sha256}
    found |= {} if previous in (None, sha256) else {"previous": previous}
    return found | ({"environment": dict(environment)} if environment else {})


def environment_hashes(config: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the values that environment variables give in an experiment, by setting."""
    values = flat(experiment(config))
    names = [name for name, v in flat(experiment(written)).items() if from_environment(v)]
    return {name: key_of([name, values[name]]) for name in names if name in values}


def refuse_changed_config(directory: Path) -> None:
    """ValueError if `config.yaml` does not hold the settings that made the results."""
    entry, path = read_entries(directory).get(CONFIG), directory / CONFIG
    if entry is None or not path.is_file():
        return
    found = sha256(path)
    if found not in (entry["sha256"], entry.get("previous")):
        raise ValueError(
            f"{path} does not hold the settings that made the results: its sha256 is {found[:12]}…"
            f", recorded {entry['sha256'][:12]}…; undo the change (settings of a run are changed on"
            " the command line), or name another run.dir"
        )


def refuse_changed(path: Path, expected: str) -> None:
    """ValueError if a file is not the one that was recorded."""
    found = sha256(path)
    if found != expected:
        raise ValueError(
            f"{path} has changed since it was written: its sha256 is {found[:12]}…, recorded "
            f"{expected[:12]}…; restore it, or delete it to have it made again"
        )


def recorded_file(path: Path) -> Path | None:
    """The path itself, if its run made the file; ValueError if it has changed since."""
    recorded = read_record(path.parent).get(path.name)
    if recorded is None or not path.is_file():
        return None
    refuse_changed(path, recorded["sha256"])
    return path


def trusted_sha256(path: Path) -> str:
    """The sha256 of a file; ValueError if the run that it lies in recorded another."""
    recorded_file(path)
    return sha256(path)
