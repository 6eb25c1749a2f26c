"""Settings of a command that nothing would read are refused; idle defaults are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassrec.__main__ import main
from glassrec.config import compose as config

GIVEN = {
    "prune.share=0.5": {"budget"},
    "prune.budget_unit=neurons": {"budget"},
    "prune.max_metric_drop=0.1": {"budget"},
    "prune.rounds=3": {"budget"},
    "prune.epochs=1": {"budget"},
    "prune/score=taylor": {"budget"},
    "prune.fold=false": {"sample", "budget"},
    "prune.max_enumerated_inputs=10": {"domain", "data", "sample", "budget"},
    "prune.layers=[top]": {"domain", "data", "sample", "budget"},
    "prune.chunk=99": {"domain", "data", "sample", "budget"},
}
"""At which levels each setting does anything."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(*words: str, stage: str = "run") -> tuple[str, ...]:
    try:
        config.prepare(stage, words)
    except config.ConfigError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("level", ["domain", "data", "sample", "budget"])
def test_a_setting_that_the_level_does_not_read_is_refused(level: str) -> None:
    for word, levels in GIVEN.items():
        found = problems(f"prune.level={level}", word)
        if level in levels:
            assert found == ()
        else:
            (line,) = found
            assert line.startswith(f"{word}: ")
            assert f"level {level}" in line
            assert all(f"prune.level={each}" in line for each in levels)


def test_all_of_them_are_named_at_once_and_nothing_is_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune.level=sample", "prune.share=0.5", "prune.max_metric_drop=0.1"]
    assert main(["run", *words, f"run.dir={folder / 'run'}"]) == 2
    heard = capsys.readouterr().err
    assert "prune.share" in heard
    assert "prune.max_metric_drop" in heard
    assert not (folder / "run").exists()


def test_rows_are_read_by_the_curves_too() -> None:
    assert problems("prune.level=data", "prune.rows=50") == ()
    (line,) = problems("prune.level=data", "prune.rows=50", "prune/curves=none")
    assert "prune.rows" in line


def test_what_switches_an_effect_off_is_allowed() -> None:
    assert problems("prune.level=data", "prune.max_metric_drop=null") == ()


def test_a_run_keeps_settings_of_another_level_that_no_command_names(folder: Path) -> None:
    saved = config.plain(config.prepare("run", ["prune.level=budget", "prune.share=0.3"]))
    (folder / "run").mkdir()
    text = config.yaml.safe_dump({name: node for name, node in saved.items() if name != "run"})
    (folder / "run" / "config.yaml").write_text(text)
    assert problems("run.dir=run", "prune.level=data", stage="prune") == ()
    (line,) = problems("run.dir=run", "prune.level=data", "prune.share=0.3", stage="prune")
    assert "prune.share" in line


def test_one_seed_beside_many_is_refused() -> None:
    (line,) = problems("seed=3", "seeds=[0,1]")
    assert line.startswith("seed=3: ")
