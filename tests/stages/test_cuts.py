"""Many cuts of one run: shared training and explanation, own certificates, one table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from glassrec import load
from glassrec.__main__ import main
from glassrec.artifacts.file_list import find
from glassrec.prune.pruner import Pruner
from glassrec.report.cut_figures import cuts_compared
from glassrec.sweep.cut_jobs import without_cut
from small_run import QUICK, read_exactly

SWEEP = ["prune.level=budget", "prune.share=0.3,0.6", "prune/score=magnitude,conductance"]
NAMES = [f"share={share},score={score}" for share in (0.3, 0.6)
         for score in ("magnitude", "conductance")]  # fmt: skip


def _files(directory: Path) -> dict[str, bytes]:
    """The content of all files that are of the run itself, and not of comparing its cuts."""
    of_cuts = ("cuts/", "record.json", ".lock", "figures/cuts.png", "report.html")
    return {
        name: path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not (name := str(path.relative_to(directory))).startswith(of_cuts)
    }


@pytest.fixture(scope="module")
def explained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("explained") / "run"
    shutil.copytree(trained, directory)
    assert main(["evaluate", f"run.dir={directory}", *QUICK, "prune/curves=none"]) == 0
    return directory


@pytest.fixture(scope="module")
def cuts(explained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and four cuts of it, made by one command."""
    directory = tmp_path_factory.mktemp("cuts") / "run"
    shutil.copytree(explained, directory)
    assert main(["prune", "-m", f"run.dir={directory}", *SWEEP]) == 0
    return directory


@pytest.fixture
def run(cuts: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(cuts, tmp_path / "run"))


def test_a_sweep_makes_a_cut_of_each_combination_and_leaves_the_run_as_it_was(
    explained: Path, cuts: Path
) -> None:
    assert sorted(path.name for path in (cuts / "cuts").iterdir() if path.is_dir()) == sorted(NAMES)
    assert _files(cuts) == _files(explained)
    for name in NAMES:
        made = json.loads((cuts / "cuts" / name / "record.json").read_text())
        stages = {file.stage for each in made if (file := find(each)) is not None}
        assert stages == {"prune", "evaluate"}, "training and explanation are those of the run"
        assert {"plan.json", "certificate.json", "pruned.safetensors", "metrics.json",
                "report.html"} <= {*made}  # fmt: skip


def test_a_cut_is_what_the_run_itself_would_have_been_cut_to(
    explained: Path, cuts: Path, tmp_path: Path
) -> None:
    shutil.copytree(explained, tmp_path / "alone")
    words = ["prune.level=budget", "prune.share=0.6", "prune/score=magnitude"]
    assert main(["run", f"run.dir={tmp_path / 'alone'}", *words]) == 0
    cut = cuts / "cuts" / "share=0.6,score=magnitude"
    for name in ("plan.json", "pruned.safetensors", "metrics.json", "certificate.md"):
        assert (cut / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name


def test_each_cut_verifies_and_a_change_of_its_files_or_of_shared_ones_is_found(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        assert main(["verify", f"run.dir={run}", f"cut={name}"]) == 0
    assert main(["verify", f"run.dir={run}"]) == 0
    assert "4 cuts, which cut=NAME verifies" in capsys.readouterr().out
    plan = run / "cuts" / NAMES[0] / "plan.json"
    plan.write_text(plan.read_text() + " ")
    assert main(["verify", f"run.dir={run}", f"cut={NAMES[0]}"]) == 1
    assert "plan.json has changed" in capsys.readouterr().err
    assert main(["verify", f"run.dir={run}", f"cut={NAMES[1]}"]) == 0
    with (run / "neurons.parquet").open("ab") as file:
        file.write(b" ")
    assert main(["verify", f"run.dir={run}", f"cut={NAMES[1]}"]) == 1
    assert "neurons.parquet has changed" in capsys.readouterr().err


def test_the_table_has_the_metrics_of_each_cut_and_marks_the_best_on_validation(
    cuts: Path,
) -> None:
    table = read_exactly(cuts / "cuts" / "cuts.csv").set_index("cut")
    assert {*table.index} == {"(the run)", *NAMES}
    for name in table.index:
        folder = cuts if name == "(the run)" else cuts / "cuts" / name
        for file in ("metrics.json", "latency.json"):
            for metric, value in json.loads((folder / file).read_text()).items():
                if metric in table and value is not None:
                    assert table.loc[name, metric] == value, (name, metric)
        plan = json.loads((folder / "plan.json").read_text())["layers"].values()
        pruned = sum(len(some) for layer in plan for some in layer["dropped"].values())
        assert table.loc[name, "neurons"] == pruned / sum(layer["built"] for layer in plan)
    assert table.loc[NAMES, "share"].astype(float).tolist() == [0.3, 0.3, 0.6, 0.6]
    assert table.loc[NAMES, "score"].tolist() == ["magnitude", "conductance"] * 2
    (best,) = table.index[table["best"]]
    assert table.loc[best, "pruned/val/auroc"] == table["pruned/val/auroc"].max()
    changes = table["pruned/val/auroc"] - table["val/auroc"]
    assert table["pruned/val/auroc_change"].to_numpy() == pytest.approx(changes.to_numpy())
    inside = table[["pruned/val/auroc_change_low", "pruned/val/auroc_change_high"]]
    assert (inside.iloc[:, 0] <= changes + 1e-9).all()
    assert (changes <= inside.iloc[:, 1] + 1e-9).all()


def test_the_report_of_the_run_shows_its_cuts_and_that_of_a_cut_itself(cuts: Path) -> None:
    page = (cuts / "report.html").read_text()
    assert "<h2>Several cuts of this run</h2>" in page
    assert all(f'<th scope="row">{name}' in page for name in NAMES)
    assert "cuts.png" not in page, "figures are in the page itself"
    assert (cuts / "figures" / "cuts.png").is_file()
    page = (cuts / "cuts" / NAMES[0] / "report.html").read_text()
    assert "Pruning and its certificate" in page
    assert "What moves the predictions" not in page, "the explanation is in the run's report"


def test_a_finished_sweep_makes_nothing_and_a_new_value_makes_one_cut(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified = list[str]()
    certify = Pruner.certify

    def counted(self: Pruner, *args: Any, **options: Any) -> Any:
        certified.append(f"{self.share}")
        return certify(self, *args, **options)

    monkeypatch.setattr(Pruner, "certify", counted)
    before = {name: _files(run / "cuts" / name) for name in NAMES}
    assert main(["prune", "-m", f"run.dir={run}", *SWEEP]) == 0
    assert certified == []
    words = ["prune.level=budget", "prune.share=0.3,0.6,0.8", "prune/score=magnitude"]
    assert main(["prune", "-m", f"run.dir={run}", *words]) == 0
    assert certified == ["0.8"]
    assert {name: _files(run / "cuts" / name) for name in NAMES} == before


@pytest.mark.long
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_a_cut_that_fails_stops_no_other_and_a_killed_command_goes_on(
    explained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], kind: type[BaseException],
) -> None:  # fmt: skip
    run = Path(shutil.copytree(explained, tmp_path / "run"))
    words = ["prune", "-m", f"run.dir={run}", "prune.level=budget", "prune.share=0.3,0.4,0.5"]
    made = list[float]()
    certify = Pruner.certify

    def dying(self: Pruner, *args: Any, **options: Any) -> Any:
        made.append(self.share)
        if self.share == 0.4:
            raise kind("no luck")
        return certify(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Pruner, "certify", dying)
        assert main(words) == (130 if kind is KeyboardInterrupt else 1)
    left = ["0.3"] if kind is KeyboardInterrupt else ["0.3", "0.5"]
    done = {path.parent.name for path in run.glob("cuts/*/certificate.json")}
    assert done == {f"share={share},score=conductance" for share in left}
    if kind is not KeyboardInterrupt:
        assert "failed: cut share=0.4,score=conductance" in capsys.readouterr().err
        status = json.loads((run / "cuts/share=0.4,score=conductance/status.json").read_text())
        assert (status["state"], status["problem"]) == ("failed", "no luck")
    with monkeypatch.context() as patch:
        patch.setattr(
            Pruner, "certify", lambda self, *a, **o: made.append(-1) or certify(self, *a, **o)
        )
        assert main(words) == 0
    assert made.count(-1) == 3 - len(left)
    assert len(pd.read_csv(run / "cuts" / "cuts.csv")) == 4


def test_another_plan_of_a_finished_run_becomes_a_cut_beside_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _files(run)
    assert main(["prune", f"run.dir={run}", "prune.level=sample"]) == 0
    assert "cut       the run keeps its certificate" in capsys.readouterr().out
    assert _files(run) == before
    found = json.loads((run / "cuts" / "level=sample" / "certificate.json").read_text())
    assert found["level"] == "sample"
    assert main(["prune", f"run.dir={run}", "prune.level=data"]) == 0  # that of the run
    assert not (run / "cuts" / "level=data").exists()


@pytest.mark.long
def test_a_cut_can_have_a_name_which_keeps_its_settings(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", f"run.dir={run}", "cut=half"]
    assert main([*words, "prune.level=budget", "prune.share=0.5", "prune.fold=false"]) == 0
    plan = (run / "cuts" / "half" / "plan.json").read_bytes()
    assert main([*words, "prune.share=0.4"]) == 2
    assert "cut=half: that cut has prune.share=0.5; give another name" in capsys.readouterr().err
    assert main(words) == 0  # goes on with the settings of the cut
    assert (run / "cuts" / "half" / "plan.json").read_bytes() == plan
    # Whoever sweeps over the same settings gets the cut that is there.
    same = ["prune.level=budget", "prune.share=0.5", "prune.fold=false"]
    assert main(["prune", "-m", f"run.dir={run}", *same]) == 0
    assert not [path for path in (run / "cuts").iterdir() if "fold" in path.name]
    assert main(["evaluate", f"run.dir={run}", "cut=half"]) == 0
    assert main(["export", f"run.dir={run}", "cut=half"]) == 0
    assert (run / "cuts" / "half" / "bundle" / "score.py").is_file()
    assert not (run / "bundle").exists()
    assert main(["verify", f"run.dir={run}", "cut=half"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify", "cut=hlaf"], "has no cut 'hlaf'; did you mean 'half'? (there are: half; share"),
        (["evaluate", "cut=hlaf"], "has no cut 'hlaf'; did you mean 'half'?"),
        (["export", "cut=hlaf"], "has no cut 'hlaf'; did you mean 'half'?"),
        (["prune", "cut=hlaf"], "has no cut 'hlaf'; did you mean 'half'?"),
        (["explain", "cut=half"], "cut=half: explain works on a whole run; leave it out"),
        (["prune", "cut=../x", "prune.level=domain"], "'../x' is not allowed; must be letters"),
        (["prune", "cut=cuts.csv", "prune.level=domain"], "cut: 'cuts.csv' is not allowed"),
        (["prune", "-m", "cut=a", "prune.level=domain,sample"], "one name for several cuts"),
        (["prune", "-m", "prune.level=domain,sample", "-j", "2"], "--jobs: cuts of one run are"),
        (["prune", "prune.level=sample", "explain.select.rows=40"], "cuts share the explanation"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_words_about_cuts_are_refused_and_nothing_is_made(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    shutil.copytree(run / "cuts" / NAMES[0], run / "cuts" / "half")
    before = sorted(run.rglob("*"))
    assert main([words[0], f"run.dir={run}", *words[1:]]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert sorted(run.rglob("*")) == before


def test_the_figure_has_a_point_of_each_cut_on_both_splits_with_its_paired_interval(
    cuts: Path,
) -> None:
    table = pd.read_csv(cuts / "cuts" / "cuts.csv", keep_default_na=False, na_values=["nan"])
    drawing = cuts_compared.__wrapped__(table, "val/auroc")  # type: ignore[attr-defined]
    assert [axes.get_title() for axes in drawing.axes] == [
        "ranked by conductance", "ranked by magnitude"
    ]  # fmt: skip
    for axes, score in zip(drawing.axes, ("conductance", "magnitude"), strict=True):
        own = table[table["score"].isin([score, ""])].sort_values("neurons")
        for bars, split in zip(axes.containers, ("val", "test"), strict=True):
            line, _, (whiskers,) = bars
            assert line.get_ydata() == pytest.approx(own[f"pruned/{split}/auroc"].to_numpy())
            ends = [segment[:, 1].tolist() for segment in whiskers.get_segments()]
            change = own[[f"pruned/{split}/auroc_change_{end}" for end in ("low", "high")]]
            expected = change.add(own[f"{split}/auroc"], axis=0).to_numpy()
            assert np.array(ends) == pytest.approx(expected, abs=1e-9)


def test_the_pruned_model_of_a_cut_scores_new_rows(
    cuts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pd.read_parquet(cuts / "samples.parquet").head(5)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    pruned = load(cuts / "cuts" / NAMES[2]).predict(rows, model="pruned")["logit"].tolist()
    trained = load(cuts).predict(rows)["logit"].tolist()
    words = ["predict", f"run.dir={cuts}", f"rows={tmp_path / 'rows.csv'}"]
    cut = f"cut={NAMES[2]}"
    for more, expected in (([], trained), ([cut], pruned), ([cut, "model=trained"], trained)):
        assert main([*words, *more, f"out={tmp_path / 'scored.csv'}"]) == 0
        scored = pd.read_csv(tmp_path / "scored.csv")["logit"].tolist()
        assert scored == pytest.approx(expected)
    assert trained != pytest.approx(pruned)
    monkeypatch.setenv("HOME", str(cuts))
    at_home = ["predict", f"run.dir=~/cuts/{NAMES[2]}", words[2], f"out={tmp_path / 'home.csv'}"]
    assert main(at_home) == 0
    assert pd.read_csv(tmp_path / "home.csv")["logit"].tolist() == pytest.approx(pruned)
    assert main([*words, "cut=share=0.3,score=magnitud"]) == 2
    assert "no cut 'share=0.3,score=magnitud'; did you mean 'share" in capsys.readouterr().err
    words = ["verify", f"run.dir={cuts}", f"cut={NAMES[2]}", f"rows={tmp_path / 'rows.csv'}"]
    assert main(words) == 0
    assert "the certificate holds on these 5 rows" in capsys.readouterr().out


def test_cuts_of_other_weights_are_not_compared(run: Path) -> None:
    (run / "cuts" / NAMES[0] / "certificate.json").write_text(
        (run / "cuts" / NAMES[0] / "certificate.json")
        .read_text()
        .replace(
            json.loads((run / "record.json").read_text())["weights.safetensors"]["sha256"], "0" * 64
        )
    )
    from glassrec.report.cut_table import cut_table

    assert {*cut_table(run, "val/auroc")["cut"]} == {"(the run)", *NAMES[1:]}


def test_a_directory_of_a_cut_stands_for_the_run_and_the_name(run: Path) -> None:
    place = run / "cuts" / NAMES[0]
    words, name = without_cut([f"run.dir='{place}'", "tracker=none"])
    assert name == NAMES[0]
    assert without_cut(words) == (["tracker=none", f"run.dir='{run}'"], None)
