"""One setting with many seeds: the table against numpy, and a directory that seeds are added to."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import ttest_1samp

from glassrec import seeds
from glassrec.__main__ import main
from small_run import read_exactly

SMALL = [
    "data.rows=900", "data.users=4", "data.items=8", "model.embedding=4", "model.bottom=[8]",
    "model.top=[12,6]", "trainer=cpu", "trainer.max_epochs=1", "trainer.batch_size=128",
    "explain.select.rows=20", "explain.neurons.steps=2", "explain/compare=none",
    "explain.faithfulness.rows=10", "explain.pair_rows=10", "prune/curves=none",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """They take most of the time, and no test here is about one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glassrec.stages.outputs.explain_pictures", lambda *given: ())
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished seeds; tests must not change them."""
    directory = tmp_path_factory.mktemp("seeds") / "many"
    assert main(["run", f"run.dir={directory}", *SMALL, "seeds=[0,1,2]"]) == 0
    return directory


@pytest.fixture
def many(finished: Path, tmp_path: Path) -> Path:
    """A copy of three finished seeds."""
    return shutil.copytree(finished, tmp_path / "many")


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list:
    """Pipelines are built as ever and then not executed; seed 1 fails where `fail` lies there."""
    from glassrec.pipeline import Pipeline

    calls = []

    def execute(self: Pipeline, stage: str, watch: object) -> None:
        calls.append((self.run.dir, self.run.config))
        if self.seed == 1 and (tmp_path / "fail").exists():
            raise {"value": ValueError, "bug": RuntimeError, "stop": KeyboardInterrupt}[
                (tmp_path / "fail").read_text()
            ]("bad row 3")

    monkeypatch.setattr(Pipeline, "execute", execute)
    monkeypatch.chdir(tmp_path)
    return calls


def _metrics(directory: Path) -> dict[str, float]:
    return json.loads((directory / "metrics.json").read_text())


# --- the table -----------------------------------------------------------------------------------


def test_every_metric_has_its_mean_and_deviation_before_and_after_pruning(finished: Path) -> None:
    frame = read_exactly(finished / "seeds.csv")
    assert [*frame] == [*ABOUT, "seed_0", "seed_1", "seed_2"]
    single = [_metrics(finished / f"seed_{seed}") for seed in range(3)]
    assert set(frame["metric"]) == set(single[0])
    assert {"test/auroc", "pruned/test/auroc"} <= set(frame["metric"])
    for row in frame.to_dict("records"):
        values = np.array([metrics[row["metric"]] for metrics in single])
        assert [row[f"seed_{seed}"] for seed in range(3)] == values.tolist()
        assert row["mean"] == pytest.approx(np.mean(values), rel=1e-12)
        assert row["std"] == pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=1e-15)
        assert row["n"] == 3
        low, high = ttest_1samp(values, 0).confidence_interval()
        assert [row["low"], row["high"]] == pytest.approx([low, high], rel=1e-9, abs=1e-12)
    assert frame.set_index("metric")["std"]["test/auroc"] > 0


ABOUT = [
    "metric", "mean", "std", "n", "low", "high", "change", "change_low", "change_high",
    "change_p_holm",
]  # fmt: skip


def _write(directory: Path, values: dict[str, float | None]) -> None:
    directory.mkdir()
    (directory / "metrics.json").write_text(json.dumps(values))


def test_a_metric_that_some_runs_lack_counts_the_others(tmp_path: Path) -> None:
    _write(tmp_path / "seed_3", {"test/rmse": 1.0, "test/auroc": 0.5})
    _write(tmp_path / "seed_4", {"test/rmse": 2.0, "test/auroc": None})
    (tmp_path / "seed_5").mkdir()
    rows = seeds.table(tmp_path, [3, 4, 5]).set_index("metric")
    assert rows["n"].to_dict() == {"test/rmse": 2, "test/auroc": 1}
    assert rows["mean"].to_dict() == {"test/rmse": 1.5, "test/auroc": 0.5}
    assert rows["std"]["test/rmse"] == pytest.approx(math.sqrt(0.5))
    assert math.isnan(rows["std"]["test/auroc"])


def test_what_tells_most_is_printed(tmp_path: Path) -> None:
    values = [0.9312, 0.9331, 0.9350]
    for seed, rmse in enumerate(values):
        found = {"test/stars/rmse": rmse, "test/stars/mae": 0.7, "parameters": 1500.0}
        change = (0.001, 0.001, 0.0016)[seed]
        found |= {f"pruned/{name}": value + change for name, value in found.items()}
        _write(tmp_path / f"seed_{seed}", found)
    test = ttest_1samp([0.001, 0.001, 0.0016], 0)  # twice the same, so that Holm's factor is 2
    low, high = test.confidence_interval()
    frame = seeds.table(tmp_path, range(3))
    names = ["change", "change_low", "change_high", "change_p_holm"]
    row = frame.set_index("metric").loc["pruned/test/stars/mae", names]
    assert row.tolist() == pytest.approx([0.0012, low, high, 2 * test.pvalue], rel=1e-9)
    assert seeds.summary(frame) == [
        "test/stars/rmse 0.9331 ± 0.0019 as trained, 0.9343 ± 0.0022 pruned (3 seeds)",
        "test/stars/mae 0.7000 ± 0.0000 as trained, 0.7012 ± 0.0003 pruned (3 seeds)",
        "parameters 1,500 ± 0 as trained, 1,500 ± 0 pruned (3 seeds)",
    ]
    (line, *_) = seeds.summary(seeds.table(tmp_path, [1]))
    assert line == "test/stars/rmse 0.9331 as trained, 0.9341 pruned (1 seed)"


# --- the directory -------------------------------------------------------------------------------


def test_the_run_of_a_seed_is_the_run_of_that_seed_alone(finished: Path, tmp_path: Path) -> None:
    alone, one = tmp_path / "alone", finished / "seed_1"
    assert main(["run", f"run.dir={alone}", *SMALL, "seed=1"]) == 0
    for name in ("config.yaml", "weights.safetensors", "attributions.parquet", "metrics.json"):
        assert (one / name).read_bytes() == (alone / name).read_bytes()


def test_a_seed_more_leaves_the_others_alone(
    many: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (many / "seed_0" / "metrics.json").stat().st_mtime_ns
    assert main(["run", f"run.dir={many}", *SMALL, "seeds=[0,3]"]) == 0
    out = capsys.readouterr().out
    assert out.count("nothing to make") == 1
    assert (many / "seed_0" / "metrics.json").stat().st_mtime_ns == before
    assert out.splitlines()[-1] == f"results   {many / 'seeds.csv'}"
    assert " pruned (2 seeds)" in out
    assert [*pd.read_csv(many / "seeds.csv")][len(ABOUT) :] == ["seed_0", "seed_3"]


def test_stages_one_by_one_work_on_all_seeds(many: Path) -> None:
    seeds = (many / "seeds.csv").read_bytes()
    assert main(["prune", f"run.dir={many}", "prune.level=sample"]) == 0
    assert main(["verify", f"run.dir={many}", "cut=level=sample"]) == 0
    for seed in (0, 1, 2):
        place = many / f"seed_{seed}"
        level = {each: json.loads((place / each / "plan.json").read_text())["level"]
                 for each in (".", "cuts/level=sample")}  # fmt: skip
        assert level == {".": "data", "cuts/level=sample": "sample"}
    assert (many / "seeds.csv").read_bytes() == seeds
    assert main(["evaluate", f"run.dir={many}"]) == 0
    assert len(pd.read_csv(many / "seeds.csv").columns) == len(ABOUT) + 3


def test_one_seed_can_be_opened_alone(many: Path) -> None:
    assert main(["run", f"run.dir={many / 'seed_2'}", "prune.level=sample"]) == 0
    level = {k: json.loads((many / f"seed_{k}" / "plan.json").read_text())["level"] for k in (1, 2)}
    assert level == {1: "data", 2: "sample"}
    assert not (many / "seeds.csv").exists()  # it told of the cut before


@pytest.mark.parametrize(
    ("place", "words", "said"),
    [
        ("", ["seed=3"], "run.dir: {many} holds seed_0 and others; name one of them, or another"),
        ("seed_1", ["seeds=[1,2]"], "run.dir: {many}/seed_1 holds a run, and no runs of many"),
        ("", ["seeds=[0]", "model.embedding=5"], "model.embedding: 5 is not allowed; the run in "),
        ("seed_1", ["seed=2"], "seed: 2 is not allowed; the run in {many}/seed_1 keeps its 1"),
    ],
)
def test_runs_of_other_settings_are_not_mixed(many, place, words, said, capsys) -> None:
    before = sorted(many.rglob("*"))
    assert main(["run", f"run.dir={many / place}", *SMALL, *words]) == 2
    assert f"glassrec: error: {said.format(many=many)}" in capsys.readouterr().err
    assert sorted(many.rglob("*")) == before


def test_the_default_directory_does_not_depend_on_the_seeds(executed: list, tmp_path: Path) -> None:
    for given in ("[0,1]", "[0,1,5]", "[7]"):
        assert main(["run", *SMALL, f"seeds={given}"]) == 0
    assert main(["run", *SMALL, "seeds=[0]", "model.embedding=5"]) == 0
    parents = [directory.parent for directory, _ in executed]
    assert len(set(parents[:6])) == 1
    assert parents[6] != parents[0]
    assert parents[0].name.startswith("planted-dlrm-")
    assert [directory.name for directory, _ in executed[:2]] == ["seed_0", "seed_1"]
    assert yaml.safe_load((parents[0] / "config.yaml").read_text())["seeds"] == [7]


def test_a_model_starts_from_the_run_of_the_same_seed(executed: list, tmp_path: Path) -> None:
    for name in ("gmf/seed_0", "gmf/seed_1", "mlp"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "weights.safetensors").touch()
    words = ["model=neumf", "model.pretrained.gmf=gmf", "model.pretrained.mlp=mlp"]
    assert main(["run", *words, "seeds=[0,1]"]) == 0
    starts = [config["model"]["pretrained"] for _, config in executed]
    assert [start["gmf"] for start in starts] == [str(tmp_path / "gmf" / f"seed_{k}") for k in "01"]
    assert {start["mlp"] for start in starts} == {str(tmp_path / "mlp")}


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seeds=[]", "seeds: [] is not allowed; must be at least 1 long"),
        ("seeds=[0,-1]", "seeds[1]: -1 is not allowed; must be >= 0"),
        ("seeds=[2,0,2]", "seeds: [2, 0, 2] is not allowed; 2 is there twice"),
        ("seeds=3", "seeds: 3 is not allowed; must be a list"),
        ("seeds=0,1", "seeds=0,1: several values are a sweep, add -m; a list is key=[a,b]"),
        ("seeds=[0,x]", "seeds[1]: 'x' is not allowed; must be a whole number"),
    ],
)
def test_wrong_seeds_are_told_and_nothing_is_run(word, said, executed, capsys, tmp_path) -> None:
    assert main(["run", *SMALL, word]) == 2
    assert capsys.readouterr().err == f"glassrec: error: {said}\n"
    assert executed == []
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_follows_the_one_seed_is_refused(executed: list, capsys) -> None:
    assert main(["run", *SMALL, "seeds=[0,1]", "data.generator_seed=${seed}"]) == 2
    assert "seeds: a setting is ${seed}" in capsys.readouterr().err
    assert executed == []


def test_what_does_not_go_together_is_told_before_the_first_seed(executed, capsys, tmp_path):
    assert main(["run", *SMALL, "seeds=[0,1]", "optimizer.lr=-1"]) == 2
    assert "optimizer: Invalid learning rate: -1" in capsys.readouterr().err
    assert executed == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "said"), [("value", "glassrec: error: bad row 3"), ("bug", "Traceback")]
)
def test_a_seed_that_fails_does_not_end_the_others(kind, said, executed, many, capsys) -> None:
    many.with_name("fail").write_text(kind)
    assert main(["run", f"run.dir={many}", *SMALL, "seeds=[0,1,2]"]) == 1
    assert [directory.name for directory, _ in executed] == ["seed_0", "seed_1", "seed_2"]
    lines = capsys.readouterr().err.splitlines()
    assert said in "\n".join(lines)
    assert lines[-1] == "glassrec: error: failed: seed 1; seeds.csv covers the other 2"
    frame = pd.read_csv(many / "seeds.csv")
    assert [*frame][len(ABOUT) :] == ["seed_0", "seed_2"]
    assert set(frame["n"]) == {2}


def test_ctrl_c_ends_all_seeds(executed: list, capsys, tmp_path: Path) -> None:
    (tmp_path / "fail").write_text("stop")
    assert main(["run", *SMALL, "seeds=[0,1,2]"]) == 130
    assert len(executed) == 2
    assert "interrupted" in capsys.readouterr().err
