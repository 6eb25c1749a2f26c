"""A stage that is killed goes on from what it had done, to the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from glassrec.__main__ import main
from glassrec.artifacts import AttributionFile, Attributions
from glassrec.explain import explainer
from glassrec.stages import explain

SMALL = [
    "data.rows=600", "data.users=12", "data.items=8", "model.embedding=4", "model.bottom=[8]",
    "model.top=[12,6]", "trainer=cpu", "trainer.max_epochs=1", "trainer.batch_size=128",
]  # fmt: skip
EXPLAIN = [
    "explain.select.rows=50", "explain.method.steps=4", "explain.neurons.steps=4",
    "explain.tolerance=1", "explain/compare=none", "explain.pair_rows=0", "prune/curves=none",
]  # fmt: skip
PIECE = 12
"""Rows at most, so that 50 are five pieces of ten."""

DYING = """
import os, sys
from pathlib import Path
from glassrec.__main__ import main
from glassrec.explain import explainer
from glassrec.stages import explain

def dying(write, last):
    written = []
    def write_half(*args):
        write(*args)
        written.append(args)
        if len(written) == last:
            (path,) = (arg for arg in args if isinstance(arg, Path))
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            os._exit(9)
    return write_half

explainer.PIECE = {piece}
explain.SAVED_EVERY = 0.0
{patch}
main(sys.argv[1:])
"""
ATTRIBUTING = (
    "explain.AttributionFile.write_piece = "
    "staticmethod(dying(explain.AttributionFile.write_piece, 3))"
)
FOLLOWING = "explain.save_file = dying(explain.save_file, 3)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", f"run.dir={directory}", *SMALL]) == 0
    return directory


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time, and nothing goes on from within one."""
    monkeypatch.setattr(explain, "pictures", lambda found: [])


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pieces that are written in this process."""
    sizes: list[int] = []
    write = AttributionFile.write_piece

    def counted(path: Path, piece: Attributions) -> None:
        sizes.append(len(piece.rows))
        write(path, piece)

    monkeypatch.setattr(explainer, "PIECE", PIECE)
    monkeypatch.setattr(AttributionFile, "write_piece", staticmethod(counted))
    return sizes


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that are done when following neurons begins."""
    starts: list[int] = []
    neurons = explain.tables.neurons

    def counted(explainer: explain.Explainer, done: int = 0) -> object:
        starts.append(done)
        return neurons(explainer, done)

    monkeypatch.setattr(explain.tables, "neurons", counted)
    return starts


def _killed(trained: Path, directory: Path, patch: str) -> Path:
    """A copy of the run, whose explanation died where `patch` says."""
    shutil.copytree(trained, directory)
    code = DYING.format(piece=PIECE, patch=patch)
    command = [sys.executable, "-c", code, "explain", f"run.dir={directory}", *EXPLAIN]
    assert subprocess.run(command, check=False, env=os.environ).returncode == 9
    return directory


def _explain(directory: Path, *words: str) -> dict[str, bytes]:
    """What a process that is not killed leaves."""
    assert main(["explain", f"run.dir={directory}", *EXPLAIN, *words]) == 0
    assert not [*directory.glob(".*.parts")]
    # How long a method takes is no matter of where it went on.
    timed = {"methods.parquet", "record.json", "provenance.json"}
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*")}
    return {n: p.read_bytes() for n, p in found.items() if p.is_file() and n not in timed}


def test_killed_while_attributing_it_goes_on_to_the_same_files(
    trained: Path, tmp_path: Path, pieces: list[int]
) -> None:
    directory = _killed(trained, tmp_path / "killed", ATTRIBUTING)
    parts = directory / ".attributions.parquet.parts"
    assert not (directory / "attributions.parquet").exists()
    assert [pq.read_metadata(part).num_rows for part in sorted(parts.glob("*.parquet"))] == [10, 10]
    resumed = _explain(directory)
    assert pieces == [10, 10, 10]
    shutil.copytree(trained, tmp_path / "whole")
    assert resumed == _explain(tmp_path / "whole")
    assert pieces[3:] == [10] * 5


def test_killed_while_following_neurons_it_goes_on_to_the_same_files(
    trained: Path, tmp_path: Path, pieces: list[int], followed: list[int]
) -> None:
    directory = _killed(trained, tmp_path / "killed", FOLLOWING)
    saved = directory / ".neurons.parquet.parts" / "spreads.safetensors"
    assert not (directory / "neurons.parquet").exists()
    counts = {tuple(t.tolist()) for n, t in load_file(saved).items() if n.endswith("/counts")}
    assert counts == {(200, 0, 24)}  # draws, seed, rows
    resumed = _explain(directory)
    assert pieces == []
    shutil.copytree(trained, tmp_path / "whole")
    assert resumed == _explain(tmp_path / "whole")
    assert followed == [24, 0]


def test_parts_of_another_setting_are_not_gone_on_from(
    trained: Path, tmp_path: Path, pieces: list[int], followed: list[int]
) -> None:
    directory = _killed(trained, tmp_path / "attributing", ATTRIBUTING)
    _explain(directory, "explain.method.steps=5")
    assert pieces == [10] * 5
    directory = _killed(trained, tmp_path / "following", FOLLOWING)
    _explain(directory, "explain.neurons.steps=5")
    assert followed == [0, 0]
