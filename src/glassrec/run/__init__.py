"""A run is a directory: each artifact is made once, atomically, and known by its hash.

Resuming is running again: only what is missing, or was made from something else, is made.
"""

from glassrec.run.directory import Run
from glassrec.run.experiment import EXPERIMENT, SEEDS, WHERE, experiment, flat, is_path
from glassrec.run.files import replacing, sha256
from glassrec.run.lock import Lock, at_work
from glassrec.run.record import (
    artifact_key,
    holds_results,
    key_of,
    read_entries,
    record_text,
    recorded_file,
    refuse_changed_config,
    trusted_sha256,
)

__all__ = [
    "EXPERIMENT",
    "SEEDS",
    "WHERE",
    "Lock",
    "Run",
    "artifact_key",
    "at_work",
    "experiment",
    "flat",
    "holds_results",
    "is_path",
    "key_of",
    "read_entries",
    "record_text",
    "recorded_file",
    "refuse_changed_config",
    "replacing",
    "sha256",
    "trusted_sha256",
]
