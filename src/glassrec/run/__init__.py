"""A run is a directory: each artifact is made once, atomically, and known by its hash.

Resuming is running again: only what is missing, or was made from something else, is made.
"""

from glassrec.artifacts.file_list import PROVENANCE, SEEDS
from glassrec.run.cut_directory import cut_directory, cuts_of, run_of_cut
from glassrec.run.directory import ReadOnlyRun, Run, config_text
from glassrec.run.experiment import (
    EPOCHS,
    EXPERIMENT,
    RUNTIME_KEYS,
    differing,
    experiment,
    flat,
    is_path,
    mask_config,
    mask_values,
)
from glassrec.run.files import Lock, is_locked, replacing, sha256
from glassrec.run.provenance import read_provenance
from glassrec.run.record import (
    artifact_key,
    holds_results,
    key_of,
    may_continue,
    read_entries,
    record_text,
    recorded_file,
    refuse_changed_config,
    trusted_sha256,
)
from glassrec.run.status import status_text
