"""From the words of a sweep to its jobs, their labels and its directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassrec.config.errors import ConfigError
from glassrec.sweep.executors import parallel_overrides, split_overrides
from glassrec.sweep.planning import SweepRequest, check_jobs, expand, labels


def asked(*words: str) -> SweepRequest:
    return SweepRequest("run", words, None)


def test_there_is_a_job_for_each_combination() -> None:
    found = expand(asked("model=gmf,mlp", "seed=range(2)", "trainer=cpu", "seeds=[0,1]"))
    assert found == [
        [f"model={model}", f"seed={seed}", "trainer=cpu", "seeds=[0,1]"]
        for model in ("gmf", "mlp")
        for seed in (0, 1)
    ]
    assert expand(asked("model=glob(*mf)")) == [["model=gmf"], ["model=mf"], ["model=neumf"]]
    assert expand(asked("run.dir='a b/${seed}'")) == [["run.dir='a b/${seed}'"]]


LABELS = [
    (
        [["model=gmf", "model.factors=8", "seed=0"], ["model=mlp", "model.factors=8", "seed=0"]],
        ["model=gmf", "model=mlp"],
    ),
    (
        [["explain/method=lime", "prune.level=data"], ["explain/method=x", "prune.level=sample"]],
        ["method=lime,level=data", "method=x,level=sample"],
    ),
    ([["model.rate=1", "data.rate=1"], ["model.rate=2", "data.rate=2"]],
     ["model.rate=1,data.rate=1", "model.rate=2,data.rate=2"]),
    ([["model.hidden=[16,8]"], ["model.hidden=[8]"]], ["hidden=16,8", "hidden=8"]),
    ([["data.root='../a/b c'"], ["data.root=<img>"]], ["root=.._a_b_c", "root=img"]),
    ([["data/a=x", "b/a=x"], ["data/a=y", "b/a=y"]], ["data_a=x,b_a=x", "data_a=y,b_a=y"]),
    ([["data.root=" + 99 * "é"], ["data.root=b"]], ["root=" + 47 * "é", "root=b"]),
    ([["seed=0"]], ["job"]),
]  # fmt: skip


@pytest.mark.parametrize(("jobs", "expected"), LABELS)
def test_a_label_says_what_a_job_has_of_its_own(jobs, expected) -> None:
    assert labels(jobs) == expected


def test_one_command_has_one_directory_wherever_it_runs(folder: Path) -> None:
    words = ["model=gmf,mlp", "model.factors=8,16", "seed=0"]
    elsewhere = [*parallel_overrides(2), "hydra.launcher.verbose=1", *words, "hydra/launcher=ray"]
    first = asked(*words).directory
    assert first.parent == folder / "runs" / "sweeps"
    assert first.name.startswith("model-factors-")
    assert asked(*split_overrides(elsewhere)[0]).directory == first
    other = [
        asked(*words, "seed=1"),
        SweepRequest("train", words, None),
        SweepRequest("run", words, Path("own")),
    ]
    assert len({first, *(each.directory for each in other)}) == 4


def test_another_sweeper_is_refused() -> None:
    with pytest.raises(ConfigError, match="hydra/sweeper=optuna: a sweep runs every combination"):
        split_overrides(["hydra/sweeper=optuna"])


def test_every_wrong_job_is_told_of_once(folder: Path) -> None:
    sweep = asked("model=gmf,mlp", "trainer.batch_size=0,8", "seed=-1,0")
    with pytest.raises(ConfigError) as error:
        check_jobs(sweep, expand(sweep))
    assert error.value.problems == (
        "seed: -1 is not allowed; must be >= 0",
        "trainer.batch_size: 0 is not allowed; must be >= 1",
    )


def test_two_jobs_with_one_directory_are_refused(folder: Path) -> None:
    sweep = asked("prune.level=data,sample", "seed=0,1", "run.dir='runs/${seed}'")
    with pytest.raises(ConfigError) as error:
        check_jobs(sweep, expand(sweep))
    assert [p.partition(";")[0] for p in error.value.problems] == [
        f"run.dir: jobs {seed + 1} and {seed + 3} would both work in {folder / 'runs' / str(seed)}"
        for seed in (0, 1)
    ]
