"""The working directory is searched for what a command names, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassrec.config import compose
from glassrec.config.errors import ConfigError
from glassrec.run import record_text

MODEL = """\
from pathlib import Path
from glassrec.models.ncf import GMF

Path(__file__).with_name("imported").touch()

class Own(GMF):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module that leaves a trace when it is imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_model.py").write_text(MODEL)
    yield tmp_path
    sys.modules.pop("own_model", None)


@pytest.fixture
def run(folder: Path) -> Path:
    """A run whose configuration names the class of that module."""
    run = folder / "run"
    run.mkdir()
    text = compose.shown("run", ["data.rows=900", "model=gmf"]).replace(
        "glassrec.models.ncf.GMF", "own_model.Own"
    )
    (run / "config.yaml").write_text(text)
    (run / "record.json").write_text(record_text({}))
    return run


def _problems(stage: str, *words: str) -> str:
    with pytest.raises(ConfigError) as error:
        compose.prepare(stage, words)
    return str(error.value)


NAMED = "model._target_=own_model.Own"


@pytest.mark.parametrize("stage", ["verify", "explain", "run"])
def test_a_module_that_only_the_run_names_is_not_found_until_the_command_names_it(
    run: Path, stage: str
) -> None:
    said = _problems(stage, f"run.dir={run}")
    assert "model._target_: own_model.Own is not installed" in said
    assert NAMED in said
    config = compose.prepare(stage, [f"run.dir={run}", NAMED])
    assert config["model"]["_target_"] == "own_model.Own"
    assert config["data"]["rows"] == 900, "the other settings are those of the run"
    assert not (run.parent / "imported").exists(), "a check imports nothing"
    compose.build(config)
    assert (run.parent / "imported").exists()


def test_naming_one_class_does_not_admit_another(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run.parent / "other.py").write_text(MODEL)
    (run / "config.yaml").write_text(text.replace("own_model.Own", "other.Own"))
    named = "explain.method._target_=own_model.Own"
    assert "other.Own is not installed" in _problems("explain", f"run.dir={run}", named)


def test_the_folder_of_the_run_itself_is_never_searched(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "own_model.py").write_text(MODEL)
    monkeypatch.chdir(run)
    assert "not imported from the folder of the run" in _problems("verify", "run.dir=.", NAMED)
    assert not (run / "imported").exists()


def test_a_choice_of_the_users_own_names_its_class(folder: Path) -> None:
    (folder / "choices" / "model").mkdir(parents=True)
    (folder / "choices" / "model" / "own.yaml").write_text(
        "_target_: own_model.Own\n_partial_: true\nfactors: 3\n"
    )
    config = compose.prepare("run", ["model=own"], folder / "choices")
    assert config["model"]["factors"] == 3


def _glassrec(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = [part for part in sys.path if part and part != str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    return subprocess.run(
        [sys.executable, "-m", "glassrec", *words], cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words", [("train", "--cfg", "job", "seed=1"), ("run", "--cfg", "job", f"model=gmf {NAMED}")]
)
def test_hydra_never_takes_plugins_from_the_working_directory(
    folder: Path, words: tuple[str, ...]
) -> None:
    plugins = folder / "hydra_plugins"
    plugins.mkdir()
    (plugins / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    done = _glassrec(folder, *" ".join(words).split())
    assert done.returncode == 0, done.stderr
    assert not (folder / "ran").exists()
    assert not (folder / "imported").exists()
