"""A search whose jobs are a formula: what it tries, what it keeps, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

import optuna
import pytest

from glassrec.__main__ import main
from glassrec.process_exit import StoppedEarly
from glassrec.sweep import sweep_job
from glassrec.sweep.search.searching import Space
from glassrec.sweep.search.study import NAME, storage
from glassrec.sweep.search.watcher import TRIAL, Watcher
from glassrec.sweep.sweep_job import Outcome

WORDS = ["model=gmf,mlp", "model.factors=range(2,33,2)", "optimizer.lr=interval(0.001,0.1)"]
TWO = ["--objective=val/auroc", "--objective=pruned/parameters"]


class Killed(BaseException):
    """The search's process is killed; nothing catches it."""


@dataclass
class Jobs:
    """What runs in the place of `glassrec run`: metrics are a formula of the words."""

    environment: dict[str, str] = field(default_factory=dict)
    """Of the job that was run last."""
    interrupts: int = 0
    """How often Ctrl-C is pressed while the first job runs."""
    points: list[tuple[str, int, float]] = field(default_factory=list)
    """What was run, in this order."""
    killed_at: int = 0
    """The search is killed while this job runs."""
    ends: dict[int, Outcome] = field(default_factory=dict)
    """How jobs ended that did not finish, by their places."""
    epochs: int = 0
    """How many are told to Optuna."""
    writes: bool = True

    def __call__(self, words, log, environment, **_) -> Outcome:
        setting = dict(word.split("=", 1) for word in words[1:])
        model, factors, lr = (setting[word.split("=")[0]] for word in WORDS)
        self.points.append((model, int(factors), float(lr)))
        self.environment = environment
        for _ in range(self.interrupts):
            os.kill(os.getpid(), signal.SIGINT)
            sleep(0.1)
        if self.interrupts:
            return Outcome("interrupted", 130, 1.0)
        if len(self.points) == self.killed_at:
            raise Killed
        if (end := self.ends.get(len(self.points))) is not None:
            return end
        run = Path(setting["run.dir"].strip("'"))
        run.mkdir(parents=True, exist_ok=True)
        auroc, parameters = formula(*self.points[-1])
        try:
            self.tell_epochs(environment, auroc)
        except StoppedEarly:
            return Outcome("failed", 3, 1.0, "exit code 3")
        metrics = {"val/auroc": auroc, "test/auroc": 0.5, "pruned/parameters": parameters}
        (run / "metrics.json").write_text(json.dumps(metrics if self.writes else {}))
        (run / "latency.json").write_text("{}")
        return Outcome("finished", 0, 1.0)

    def tell_epochs(self, environment, auroc: float) -> None:
        if self.epochs:
            number, metric = environment[TRIAL].split(" ")
            watcher = Watcher(Path(environment["GLASSREC_SWEEP"]), int(number), metric)
            for epoch in range(1, self.epochs + 1):
                watcher({"epoch": epoch, metric: auroc * epoch / self.epochs})


def formula(model: str, factors: int, lr: float) -> tuple[float, float]:
    """Quality and size: both grow with the factors, and quality is best at a rate of 0.03."""
    share = factors / (factors + 6)
    return 0.6 + 0.3 * share - 3 * abs(lr - 0.03), 100.0 * factors * (1 + 2 * (model == "mlp"))


@pytest.fixture
def jobs(monkeypatch, tmp_path) -> Jobs:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(Space, "check", lambda *_: None)  # tests/sweep/test_search_space.py
    stub = Jobs()
    monkeypatch.setattr(sweep_job, "supervise", stub)
    return stub


def search(*options: str, into: str = "s") -> int:
    return main(["search", *WORDS, f"--dir={into}", *options])


def entries(into: str = "s") -> list[dict]:
    return json.loads(Path(into, "sweep.json").read_text())["jobs"]


def told(into: str) -> list[tuple]:
    """What a record says of its trials, but for their directories and times."""
    return [(j["number"], j["words"][:-1], j["state"], j["values"]) for j in entries(into)]


def dominates(one, other) -> bool:
    no_worse = one[0] >= other[0] and one[1] <= other[1]
    return no_worse and (one[0] > other[0] or one[1] < other[1])


def test_the_front_is_that_of_brute_force(jobs, capsys):
    assert search("--trials=30", *TWO) == 0
    found = {job["number"]: job["values"] for job in entries()}
    assert list(found) == list(range(1, 31))
    assert [tuple(v) for v in found.values()] == [formula(*point) for point in jobs.points]
    front = {n for n, one in found.items() if not any(dominates(v, one) for v in found.values())}
    assert 1 < len(front) < 30
    lines = capsys.readouterr().out.splitlines()
    head = lines.index("the front of val/auroc and pruned/parameters:")
    table = [line.split() for line in lines[head + 2 :] if line.startswith("  ")]
    assert {int(row[0]) for row in table} == front
    by_quality = [float(row[5].strip(",")) for row in table]
    assert by_quality == sorted(by_quality, reverse=True)
    values = found[int(table[0][0])]
    assert table[0][4:] == [
        "val/auroc",
        f"{values[0]:.4f},",
        "pruned/parameters",
        f"{values[1]:,.0f}",
    ]


def test_the_command_of_the_best_trial_is_told(jobs, capsys):
    assert search("--trials=12", "--objective=val/auroc", "data.rows=400") == 0
    said = capsys.readouterr().out
    model, factors, lr = max(jobs.points, key=lambda point: formula(*point)[0])
    command = f"glassrec run data.rows=400 model={model} model.factors={factors} optimizer.lr={lr}"
    assert command in said
    assert said.splitlines()[-1] == f"to compare them: glassrec compare {Path('s').absolute()}"


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii"])
def test_a_killed_search_goes_on_as_one_that_never_stopped(jobs, sampler):
    options = (f"--sampler={sampler}", "--seed=3", *TWO)
    assert search("--trials=16", *options, into="whole") == 0
    whole, jobs.points = jobs.points, []
    assert len(set(whole)) == 16
    for killed_at in (4, 13):
        jobs.killed_at = killed_at
        with pytest.raises(Killed):
            search("--trials=16", *options)
        jobs.killed_at = 0
        jobs.points.pop()
    assert search("--trials=16", *options) == 0
    assert jobs.points == whole
    assert search("--trials=16", *options) == 0
    assert len(jobs.points) == 16
    assert told("s") == told("whole")


def test_more_trials_with_the_same_command(jobs, capsys):
    assert main(["search", *WORDS, "--trials=2", "--objective=val/auroc"]) == 0
    assert main(["search", *WORDS, "--trials=5", "--objective=val/auroc"]) == 0
    (directory,) = Path("runs/sweeps").iterdir()
    assert directory.name.startswith("search-model-factors-lr-")
    assert len(entries(str(directory))) == len(jobs.points) == 5


def test_a_trial_like_a_finished_one_takes_its_values(jobs):
    words = ["model=gmf,mlp", "model.factors=2,4", "optimizer.lr=0.01"]
    assert main(["search", *words, "--trials=20", "--dir=s", *TWO]) == 0
    assert len(jobs.points) == len(set(jobs.points)) == 4
    found = entries()
    assert len(found) == 20
    by_words = {}
    for job in found:
        run, values = by_words.setdefault(tuple(job["words"]), (job["run"], job["values"]))
        assert (job["run"], job["values"], job["state"]) == (run, values, "finished")


def test_trials_that_fail_do_not_stop_the_search(jobs, capsys):
    jobs.ends = {2: Outcome("failed", 1, 1.0, "out of luck"), 3: Outcome("killed", -9, 1.0, "mem")}
    assert search("--trials=6", "--objective=val/auroc") == 1
    assert [job["state"] for job in entries()] == [
        "finished",
        "failed",
        "killed",
        *3 * ["finished"],
    ]
    said = capsys.readouterr()
    assert "failed          0:01  out of luck\n      see " in said.out
    assert "trial 3 did not end; the same command runs it again" in said.err
    third = jobs.points[2]
    jobs.points, jobs.ends = [], {}
    assert search("--trials=6", "--objective=val/auroc") == 0
    assert jobs.points == [third]
    assert [job["state"] for job in entries()] == ["finished", "failed", *4 * ["finished"]]


def test_it_gives_up_when_the_first_trials_fail(jobs, capsys):
    jobs.ends = {place: Outcome("failed", 1, 1.0, "no data") for place in range(1, 20)}
    assert search("--trials=12", "--objective=val/auroc") == 1
    assert len(jobs.points) == 3
    assert "no trial succeeded" in capsys.readouterr().err


def test_a_metric_that_is_not_there_ends_it_at_the_first_trial(jobs, capsys):
    assert search("--trials=12", "--objective=val/aurco") == 1
    assert len(jobs.points) == 1
    assert "did you mean 'val/auroc'?" in capsys.readouterr().out
    assert "test/auroc" not in entries()[0]["problem"]


def test_bad_trials_are_stopped_early(jobs):
    jobs.epochs = 3
    assert search("--trials=25", "--objective=val/auroc", "--pruner=median") == 0
    states = [job["state"] for job in entries()]
    assert states[:5] == ["finished"] * 5
    assert {"finished", "stopped"} == set(states[5:])
    quality = [formula(*point)[0] for point in jobs.points]
    for number in range(5, 25):
        finished = [q for q, s in zip(quality[:number], states[:number], strict=True)
                    if s == "finished"]  # fmt: skip
        median = sorted(finished)[(len(finished) - 1) // 2 : len(finished) // 2 + 1]
        assert (states[number] == "stopped") == (quality[number] < sum(median) / len(median))


def test_a_resumed_trial_tells_each_epoch_once(jobs, tmp_path):
    assert search("--trials=1", "--objective=val/auroc") == 0
    study = optuna.load_study(study_name=NAME, storage=storage(tmp_path / "s"))
    study.ask()
    first = Watcher(tmp_path / "s", 2, "val/auroc")
    first({"epoch": 1, "val/auroc": 0.5})
    first({"epoch": 2, "val/auroc": 0.6})
    again = Watcher(tmp_path / "s", 2, "val/auroc")
    for epoch, value in ((1, 0.1), (2, 0.2), (3, 0.7)):
        again({"epoch": epoch, "val/auroc": value})
    assert study.trials[1].intermediate_values == {0: 0.5, 1: 0.6, 2: 0.7}


def test_fewer_trials_than_there_are_run_none(jobs, capsys):
    assert search("--trials=3", "--objective=val/auroc") == 0
    assert search("--trials=2", "--objective=val/auroc") == 0
    assert len(jobs.points) == 3
    assert "3 of 3 trials are done" in capsys.readouterr().out


@pytest.mark.parametrize("interrupts", [1, 2])
def test_ctrl_c_ends_a_search_with_its_table(jobs, capsys, interrupts):
    jobs.interrupts = interrupts
    assert search("--trials=3", "--objective=val/auroc") == 130
    assert [job["state"] for job in entries()] == ["interrupted"]
    assert "interrupted     0:01" in capsys.readouterr().out


def test_a_sweep_does_not_write_over_a_search(jobs, capsys):
    assert search("--trials=1", "--objective=val/auroc") == 0
    assert main(["run", "-m", "seed=0,1", "hydra.sweep.dir=s"]) == 2
    assert "s holds a search; name another directory" in capsys.readouterr().err
    assert len(entries()) == 1


def test_several_trials_at_once(jobs, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert search("--trials=12", "--jobs=3", *TWO) == 0
    assert [job["state"] for job in entries()] == ["finished"] * 12
    assert {job["run"] for job in entries()} == {f"trials/{n}" for n in range(1, 13)}
    assert jobs.environment["OMP_NUM_THREADS"] == "2"  # its share of the processors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--objective=test/auroc"], "take val/auroc"),
        ([*TWO, "--objective=val/log_loss"], "one, or two different ones"),
        ([*TWO, "--pruner=median"], "Optuna stops no trial early for two"),
        (["--objective=pruned/parameters", "--pruner=median"], "val/METRIC"),
        (["--objective=pruned/parameters", "--stage=train"], "val/METRIC"),
        (["--objective=val/auroc", "--pruner=median", "seeds=[0,1]"], "not with seeds="),
        (["--objective=val/auroc", "--seed=1"], "--dir: .* holds another search: --seed=0 there"),
    ],
)
def test_what_does_not_go_together_is_refused(jobs, capsys, options, said):
    import re

    assert search("--trials=1", "--objective=val/auroc") == 0
    assert search(*options) == 2
    assert re.search(said, capsys.readouterr().err)
    assert len(jobs.points) == 1


def test_two_searches_do_not_meet_in_one_directory(jobs, capsys):
    from glassrec.sweep.sweep_record import locked

    with locked(Path("s")):
        assert search("--trials=1", "--objective=val/auroc") == 1
    assert "another process is working in" in capsys.readouterr().err
