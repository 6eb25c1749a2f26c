"""What a sweep starts, what it leaves alone, and what it says in the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glassrec.__main__ import main
from glassrec.sweep import executors
from glassrec.sweep.sweep_job import Outcome

SWEEP = ["model=gmf", "seed=0,1"]


def sweep(*words: str, stage: str = "run") -> int:
    return main([stage, "-m", *words])


def started(jobs) -> list[str]:
    """The last words of what was started since the last look."""
    found = [words[-1] for words in jobs.started]
    jobs.started.clear()
    return found


ALL = ["seed=0", "seed=1"]


def test_each_combination_has_a_run_of_its_own(jobs, recorded, folder: Path, capsys) -> None:
    assert sweep("model=gmf,mlp", "seed=0,1") == 0
    assert started(jobs) == ALL + ALL
    assert len({config["run"]["dir"] for config in jobs.configs}) == 4
    (place,) = folder.glob("runs/sweeps/*/")
    for entry, config in zip(recorded(), jobs.configs, strict=True):
        assert (place / entry["run"]).resolve() == config["run"]["dir"]
        assert (entry["state"], entry["code"], entry["seconds"]) == ("finished", 0, 2.0)
    out = capsys.readouterr().out.splitlines()
    assert "   1  model=gmf,seed=0  finished        0:02  test/auroc 0.7500, pruned 0.7000" in out
    assert out[-2:] == [
        f"results   {place}", f"to compare them: glassrec compare {place}",
    ]  # fmt: skip


def test_what_failed_is_named_and_alone_started_again(jobs, recorded, folder, capsys) -> None:
    jobs.ends["seed=0"] = Outcome("killed", -11, 1.0, "segmentation fault")
    assert sweep(*SWEEP) == 1
    assert started(jobs) == ALL
    said = capsys.readouterr()
    assert said.err.endswith("glassrec: error: job 1 killed: seed=0: segmentation fault\n")
    (place,) = folder.glob("runs/sweeps/*/")
    assert f"      see {place / 'logs' / '1-seed=0.log'}" in said.out
    jobs.ends.clear()
    assert sweep(*SWEEP) == 0
    assert started(jobs) == ["seed=0"]
    said = capsys.readouterr()
    assert "1 of 2 done before" in said.out
    assert "   2  seed=1  done before     0:02  test/auroc" in said.out
    assert "2 of 2 done, 0 running, 0 failed; finished, 0:02: seed=0" in said.err
    assert sweep(*SWEEP) == 0
    assert started(jobs) == []
    assert {entry["state"] for entry in recorded()} == {"finished"}


def test_another_sweep_does_not_repeat_the_same_runs(jobs) -> None:
    assert sweep(*SWEEP) == 0
    started(jobs)
    assert sweep("model=gmf", "seed=0,1,2") == 0
    assert started(jobs) == ["seed=2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=gmf,nope"], "model=nope: there is no such option (choices:"),
        (["trainer.batch_size=0,8"], "trainer.batch_size: 0 is not allowed; must be >= 1"),
        (["seed=0,1", "run.dir=here"], "run.dir: jobs 1 and 2 would both work in "),
        (["seed=0", "run.dir=a", "hydra.sweep.dir=a"], "hydra.sweep.dir: {here}/a is the run.dir"),
        (["seed=0,1", "foo"], "'foo' is not of the form key=value"),
        (["seed=0,1", "hydra/launcher=nope"], "hydra/launcher=nope: there is no such option"),
        (["seed=0,1", "hydra.launcher.n=1"], "Could not override 'hydra.launcher.n'"),
    ],
)
def test_a_wrong_command_starts_nothing(words, said, jobs, folder: Path, capsys) -> None:
    assert sweep(*words) == 2
    assert capsys.readouterr().err.startswith(f"glassrec: error: {said.format(here=folder)}")
    assert jobs.started == []
    assert list(folder.iterdir()) == []


def test_a_launcher_that_is_not_installed_is_named(jobs, monkeypatch, capsys) -> None:
    monkeypatch.setattr(executors, "find_spec", lambda _: None)
    assert sweep("seed=0,1", "hydra/launcher=submitit_slurm") == 2
    needs = 'hydra/launcher=submitit_slurm needs: pip install "glassrec[slurm]"'
    assert capsys.readouterr().err == f"glassrec: error: {needs}\n"


def test_a_launcher_that_fails_leaves_the_table(jobs, monkeypatch, capsys) -> None:
    def launch(*_: object) -> None:
        raise RuntimeError("no cluster here")

    monkeypatch.setattr(executors.LocalExecutor, "launch", launch)
    assert sweep("seed=0,1") == 1
    said = capsys.readouterr()
    assert "RuntimeError: no cluster here" in said.err
    assert said.err.endswith("glassrec: error: job 2 was not started: seed=1\n")
    assert "   2  seed=1  waiting" in said.out


def test_the_directory_of_a_sweep_can_be_named(jobs, folder: Path) -> None:
    assert sweep(*SWEEP, "hydra.sweep.dir='my sweep/of ${hydra.job.name}'") == 0
    (path,) = folder.glob("my sweep/of seed-*/sweep.json")
    assert json.loads(path.read_text())["folder"] == str(folder)


def test_jobs_need_a_sweep(folder: Path, capsys) -> None:
    assert main(["run", "-j", "2"]) == 2
    assert capsys.readouterr().err == "glassrec: error: --jobs: it is for a sweep, add -m\n"
    with pytest.raises(SystemExit) as stop:
        main(["run", "-m", "-j", "0"])
    assert stop.value.code == 2
    assert "'0' is not allowed; must be a number from 1" in capsys.readouterr().err


def test_only_jobs_in_which_a_setting_has_no_effect_are_left_out(jobs, recorded, capsys) -> None:
    assert sweep("model=gmf", "prune.level=data,budget", "prune.share=0.5") == 0
    out = capsys.readouterr().out
    assert "level=data: prune.share=0.5" in out
    assert "prune.level=budget" in out
    assert [entry["label"] for entry in recorded()] == ["job"]
    assert [config["prune"]["level"] for config in jobs.configs] == ["budget"]
    assert sweep("model=gmf", "prune.level=data,sample", "prune.share=0.5") == 2
