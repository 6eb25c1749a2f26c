"""A stage that is killed goes on from what it had done, to the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from glassrec.__main__ import main
from glassrec.artifacts import AttributionFile, Attributions
from glassrec.explain import explainer
from glassrec.stages import explain
from small_run import QUICK

PIECE = 12
"""Rows at most, so that 50 are five pieces of ten."""

DYING = """
import os, sys
from pathlib import Path
from typing import Any
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


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pieces that are written in this process."""
    sizes: list[int] = []
    write = AttributionFile.write_piece

    def counted(path: Path, piece: Attributions, *keys: Any) -> None:
        sizes.append(len(piece.rows))
        write(path, piece, *keys)

    monkeypatch.setattr(explainer, "PIECE", PIECE)
    monkeypatch.setattr(AttributionFile, "write_piece", staticmethod(counted))
    return sizes


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that are done when following neurons begins."""
    starts: list[int] = []
    neurons = explain.tables.stream_neurons

    def counted(explainer: explain.Explainer, done: int = 0) -> object:
        starts.append(done)
        return neurons(explainer, done)

    monkeypatch.setattr(explain.tables, "stream_neurons", counted)
    return starts


def _killed(trained: Path, directory: Path, patch: str) -> Path:
    """A copy of the run, whose explanation died where `patch` says."""
    shutil.copytree(trained, directory)
    code = DYING.format(piece=PIECE, patch=patch)
    command = [sys.executable, "-c", code, "explain", f"run.dir={directory}", *QUICK]
    assert subprocess.run(command, check=False, env=os.environ).returncode == 9
    return directory


@pytest.fixture(scope="module")
def attributing(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that died in its third piece of attributions."""
    return _killed(trained, tmp_path_factory.mktemp("attributing") / "run", ATTRIBUTING)


@pytest.fixture(scope="module")
def following(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that died when it saved the statistics of neurons for the third time."""
    return _killed(trained, tmp_path_factory.mktemp("following") / "run", FOLLOWING)


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that was not killed."""
    directory = shutil.copytree(trained, tmp_path_factory.mktemp("whole") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explainer, "PIECE", PIECE)
        return _explain(directory)


def _explain(directory: Path, *words: str) -> dict[str, bytes]:
    """What a process that is not killed leaves."""
    assert main(["explain", f"run.dir={directory}", *QUICK, *words]) == 0
    assert not [*directory.glob(".*.parts")]
    # How long a method takes is no matter of where it went on.
    timed = {"methods.parquet", "record.json", "provenance.json"}
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*")}
    return {n: p.read_bytes() for n, p in found.items() if p.is_file() and n not in timed}


def _files(directory: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*")}
    return {name: path.read_bytes() for name, path in found.items() if path.is_file()}


@pytest.mark.long
@pytest.mark.parametrize(("old", "new"), [("seed: 0", "seed: 1"), ("pair_rows: ", "pair_rows: 1")])
def test_settings_that_did_not_make_the_results_are_refused_by_every_command(
    trained: Path, tmp_path: Path, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = shutil.copytree(trained, tmp_path / "run")
    config = directory / "config.yaml"
    config.write_text(config.read_text().replace(old, new, 1))
    before = _files(directory)
    for stage in ("run", "train", "explain", "prune", "evaluate", "export", "verify"):
        assert main([stage, f"run.dir={directory}"]) == 1
        assert "config.yaml does not hold the settings that made" in capsys.readouterr().err
    assert main(["run", f"run.dir={directory}", "model=gmf"]) == 1
    assert _files(directory) == before
    assert main(["compare", str(tmp_path)]) in (0, 1)
    assert "does not hold the settings" in "".join(capsys.readouterr())


@pytest.mark.long
def test_killed_while_attributing_it_goes_on_to_the_same_files(
    attributing: Path, whole: dict[str, bytes], tmp_path: Path, pieces: list[int]
) -> None:
    directory = shutil.copytree(attributing, tmp_path / "killed")
    parts = directory / ".attributions.parquet.parts"
    assert not (directory / "attributions.parquet").exists()
    assert [pq.read_metadata(part).num_rows for part in sorted(parts.glob("*.parquet"))] == [10, 10]
    assert _explain(directory) == whole
    assert pieces == [10, 10, 10]


@pytest.mark.long
def test_killed_while_following_neurons_it_goes_on_to_the_same_files(
    following: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    pieces: list[int],
    followed: list[int],
) -> None:
    directory = shutil.copytree(following, tmp_path / "killed")
    saved = directory / ".neurons.parquet.parts" / "spreads.safetensors"
    assert not (directory / "neurons.parquet").exists()
    counts = {tuple(t.tolist()) for n, t in load_file(saved).items() if n.endswith("/counts")}
    assert counts == {(200, 0, 24)}  # draws, seed, rows
    assert _explain(directory) == whole
    assert pieces == []
    assert followed == [24]


@pytest.mark.long
def test_parts_of_another_setting_are_not_gone_on_from(
    attributing: Path, following: Path, tmp_path: Path, pieces: list[int], followed: list[int]
) -> None:
    directory = shutil.copytree(attributing, tmp_path / "attributing")
    _explain(directory, "explain.method.steps=5")
    assert pieces == [10] * 5
    directory = shutil.copytree(following, tmp_path / "following")
    _explain(directory, "explain.neurons.steps=5")
    assert followed == [0, 0]
