"""How to get the same again, and how to check it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassrec.report.story.cut import certified
from glassrec.report.story.found import Found
from glassrec.report.story.parts import Code, Listing, More, Part, Section, Sentences
from glassrec.run import flat, is_path

SLOTS = ("seed", "start", "data", "model", "objective", "optimizer", "table_optimizer", "trainer",
         "explain", "prune")  # fmt: skip
"""The settings that results depend on."""

APART = ("command", "data", "git_commit", "seed", "restored")
"""Of the provenance, what is no version."""


def repeat(found: Found) -> Section | None:
    """The command, the versions, all settings, and the fingerprints."""
    about = found.provenance
    if not about:
        return None
    commit = about.get("git_commit")
    parts: list[Part] = [
        Code(f"{shlex.join(_shown(word) for word in about['command'])}\n"
             "glassrec verify run.dir=THIS_FOLDER"),
        Sentences([
            f"Seed {about['seed']}; the code was at commit {commit}." if commit else
            f"Seed {about['seed']}.",
            "The second line computes the cut and the comparison anew from the files in this "
            "folder, and says what differs from the certificate.",
        ]),
        More("Versions", [Listing("Made with", ["package", "version"], _versions(about))]),
        More("All settings", [Listing("As in config.yaml", ["setting", "value"],
                                      _settings(found.config), texts=2)]),
    ]  # fmt: skip
    if rows := _hashes(found):
        listing = Listing("sha256", ["what", "sha256"], rows, texts=2)
        parts.append(More("Fingerprints of data, weights and certificate", [listing]))
    said = "The first command makes this run again, with the same numbers on the same machine."
    return Section("repeat", "How to repeat it", said, parts)


def _hashes(found: Found) -> list[list[str]]:
    about = [] if found.certificate is None else certified(found.certificate)
    names = ("certificate.json", "metrics.json")
    return about + [[name, found.hashes[name]] for name in names if name in found.hashes]


def _versions(about: Mapping[str, Any]) -> list[list[str]]:
    return [[name, str(value)] for name, value in about.items() if name not in APART]


def _settings(config: Mapping[str, Any]) -> list[list[str]]:
    settings = flat({name: config[name] for name in SLOTS if name in config})
    return [[name, _value(value)] for name, value in settings.items()]


def _value(value: Any) -> str:
    return f"…/{Path(value).name}" if is_path(value) else "none" if value is None else str(value)


def _shown(word: str) -> str:
    """A word of the command line; where a folder lies is left out, as it is another elsewhere."""
    name, equals, value = word.partition("=")
    return f"{name}={_value(value)}" if equals else word
