"""Cuts: the run directories `cuts/NAME` in a run, which share its training and explanation."""

from __future__ import annotations

from pathlib import Path

from glassrec.artifacts.file_list import CONFIG, RECORD
from glassrec.process_exit import UsageError
from glassrec.spelling import did_you_mean

CUTS, SHARED = "cuts", ("train", "explain")
"""The folder of the cuts, and the stages whose files they share with their run."""


def run_of_cut(directory: Path) -> Path | None:
    """The directory of the run that was cut; None where the directory is no cut."""
    folder = directory.absolute().parent
    is_cut = folder.name == CUTS and (folder.parent / RECORD).is_file()
    return folder.parent if is_cut else None


def cuts_of(run: Path) -> list[Path]:
    """The directories of the cuts of a run, by name."""
    return sorted(file.parent for file in run.glob(f"{CUTS}/*/{CONFIG}"))


def cut_directory(run: Path, name: str) -> Path:
    """The directory of a cut; UsageError, with the nearest name, if the run has no such cut."""
    known = [each.name for each in cuts_of(run)]
    if name not in known:
        hint = f"{did_you_mean(name, known)} (there are: {'; '.join(known) or 'none'})"
        raise UsageError(f"cut: {run} has no cut {name!r}{hint}")
    return run / CUTS / name
