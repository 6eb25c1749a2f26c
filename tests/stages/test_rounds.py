"""A cut in rounds: what each leaves behind, what a killed one goes on from, and what is stale."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from glassrec.__main__ import main
from glassrec.prune.pruner import Pruner
from small_run import QUICK

ROUNDS = [
    "prune.level=budget", "prune.share=0.5", "prune.rounds=2", "prune.epochs=1",
    "prune/score=magnitude", "prune/curves=none",
]  # fmt: skip
FIRST = ["plan_1.json", "pruned_1.safetensors"]
MADE = [*FIRST, "plan.json", "pruned.safetensors", "certificate.json", "certificate.md"]


@pytest.fixture(scope="module")
def explained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = _copy(trained, tmp_path_factory.mktemp("explained") / "run")
    assert main(["explain", f"run.dir={directory}", *QUICK]) == 0
    return directory


def _prune(directory: Path, *words: str, verb: str = "prune") -> int:
    return main([verb, f"run.dir={directory}", *ROUNDS, *words])


def _copy(explained: Path, to: Path) -> Path:
    return Path(shutil.copytree(explained, to))


@pytest.fixture(scope="module")
def whole(explained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with both rounds, of one process."""
    directory = _copy(explained, tmp_path_factory.mktemp("whole") / "run")
    assert _prune(directory) == 0
    return directory


def _bytes(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in MADE}


def _times(directory: Path) -> dict[str, int]:
    return {name: (directory / name).stat().st_mtime_ns for name in MADE}


@pytest.mark.parametrize(("name", "call"), [("plan", 1), ("plan", 2), ("certify", 1)])
def test_killed_in_any_round_it_goes_on_to_the_same_files(
    explained: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: int,
) -> None:
    directory = _copy(explained, tmp_path / "run")
    make, calls = getattr(Pruner, name), list[int]()

    def dying(*args: object, **options: object) -> object:
        calls.append(len(calls) + 1)
        if calls[-1] == call:
            raise KeyboardInterrupt
        return make(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Pruner, name, dying)
        assert _prune(directory) == 130
    assert not (directory / "certificate.json").exists()
    assert (directory / FIRST[1]).exists() == ((name, call) != ("plan", 1))
    assert _prune(directory) == 0
    assert _bytes(directory) == _bytes(whole)
    assert main(["verify", f"run.dir={directory}"]) == 0


@pytest.mark.parametrize(
    ("words", "again"),
    [([], []),
     (["prune/curves=quick", "prune.curves.shares=[0.5]"], []),
     (["explain.tolerance=2"], []),
     (["prune.rows=20", "prune.fold=false"], MADE),
     (["prune.share=0.3"], MADE)],
)  # fmt: skip
def test_what_depends_on_a_setting_is_made_again_and_no_more(
    whole: Path, tmp_path: Path, words: list[str], again: list[str]
) -> None:
    directory = _copy(whole, tmp_path / "run")
    before = _times(directory)
    # `prune` would make a cut beside the certified one, where `run` makes this one again.
    assert _prune(directory, *words, verb="run" if again else "prune") == 0
    after = _times(directory)
    assert [name for name in MADE if after[name] != before[name]] == again


def test_fewer_rounds_leave_nothing_of_more(whole: Path, tmp_path: Path) -> None:
    directory = _copy(whole, tmp_path / "run")
    assert _prune(directory, "prune.rounds=1", "prune.epochs=0", verb="run") == 0
    assert not [name for name in FIRST if (directory / name).exists()]
    assert main(["verify", f"run.dir={directory}"]) == 0
