"""The four stages in one command: what they leave behind, and what a second command makes again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from glassrec.__main__ import main
from glassrec.artifacts import Certificate, Metrics
from glassrec.artifacts.file_list import HISTORY, IMPORTANCE, NEURONS
from glassrec.compare.scan import scan
from glassrec.report.run_record import CERTIFIED_SHARE

SMALL = [
    "data.rows=1500", "data.users=12", "data.items=8", "model.embedding=4", "model.bottom=[8]",
    "model.top=[12,6]", "trainer.accelerator=cpu", "trainer.max_epochs=3",
    "trainer.batch_size=128", "explain.select.rows=50", "explain.neurons.steps=4",
    "explain.faithfulness.rows=20", "explain.faithfulness.points=1",
    "explain.faithfulness.models=1", "explain.pair_rows=20",
]  # fmt: skip

FILES = {
    ".lock", "config.yaml", "provenance.json", "status.json", "record.json", "metrics.json",
    "history.csv", "weights.safetensors", "attributions.parquet", "importance.parquet",
    "explanation.json", "neurons.parquet", "completeness.parquet", "pairs.parquet",
    "methods.parquet", "curves.parquet", "agreement.parquet", "removals.parquet", "truth.json",
    "plan.json", "certificate.json", "certificate.md", "pruned.safetensors", "latency.json",
    "pruning_curves.parquet", "figures/pruning_curves.png", "figures/feature_importance.png",
    "figures/waterfalls.png", "figures/beeswarm.png", "figures/numeric_effects.png",
    "figures/category_effects.png", "figures/removals.png",
    "figures/neuron_importance.png", "figures/neurons_interaction.png",
    "figures/neurons_top_1.png", "figures/methods.png", "figures/faithfulness.png",
    "figures/agreement.png", "figures/feature_pairs.png",
    "data.json", "figures/learning_curve.png", "report.html", "vocabulary.parquet",
    "encoder.json", "rows.parquet", "catalogue.parquet", "interactions.parquet",
    "last_rows.parquet", "samples.parquet", "baseline.safetensors", "finished.ckpt",
}  # fmt: skip


def _run(directory: Path, *words: str, stage: str = "run") -> int:
    return main([stage, f"run.dir={directory}", *words])


CLOCKED = {
    "methods.parquet", "figures/methods.png", "latency.json", "report.html",
}  # fmt: skip
"""They hold seconds, which no two runs share."""


def _files(directory: Path) -> dict[str, bytes]:
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def _plain(state: object) -> object:
    """A state with lists in the place of tensors."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_plain(value) for value in state]
    return state.tolist() if isinstance(state, torch.Tensor) else state


def _same(one: Path, other: Path) -> bool:
    """Whether two runs left the same files, but for what a clock says."""
    left = []
    for directory in (one, other):
        files: dict[str, object] = {**_files(directory)}
        record = json.loads(files.pop("record.json"))
        if "finished.ckpt" in files:  # PyTorch writes equal states in several ways
            state = torch.load(directory / "finished.ckpt", weights_only=True)
            files["finished.ckpt"] = record["finished.ckpt"]["sha256"] = _plain(state)
        for name in CLOCKED:
            files[name] = record[name]["sha256"] = b""
            # The pictures are made of the other two.
            record[name]["key"] = ""
        left.append((files, record))
    return left[0] == left[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests must not change it."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    assert _run(directory, *SMALL) == 0
    return directory


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    for name, content in _files(finished).items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content)
    return tmp_path / "run"


def test_what_a_run_leaves_behind(finished: Path) -> None:
    files = _files(finished)
    assert files.keys() == FILES
    metrics = json.loads(files["metrics.json"])
    for name in ("val/auroc", "test/auroc", "pruned/test/auroc", "test/log_loss", "parameters",
                 "pruned/parameters", "pruned/max_abs_logit_difference"):  # fmt: skip
        assert name in metrics
    assert metrics["pruned/max_abs_logit_difference"] <= 1e-9
    assert metrics["pruned/test/auroc"] == pytest.approx(metrics["test/auroc"], abs=1e-6)
    change = metrics["pruned/test/auroc"] - metrics["test/auroc"]
    assert metrics["pruned/test/auroc_change"] == pytest.approx(change, abs=1e-12)
    ends = (metrics[f"pruned/test/auroc_change_{end}"] for end in ("low", "high"))
    assert next(ends) <= change <= next(ends)
    assert metrics["pruned/test/top10_agreement"] > 0.99
    assert metrics["pruned/share_changed"] == 0
    assert metrics["pruned/conductance_change"] < 0.1
    clock = json.loads(files["latency.json"])
    assert {n for n in clock if not n.startswith("pruned/")} == {
        f"latency_{part}_{rows}" for part in ("p50", "p95") for rows in (1, 256, 4096)
    }
    assert json.loads(files["status.json"]) == {"state": "finished", "stage": "evaluate"}
    history = pd.read_csv(finished / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert metrics["val/auroc"] == pytest.approx(history["val/auroc"].max(), abs=1e-6)
    weights = load_file(finished / "weights.safetensors")
    count = sum(t.numel() for name, t in weights.items() if name.endswith(("weight", "bias")))
    assert metrics["parameters"] == count


def test_the_report_holds_the_numbers_and_the_pictures_of_the_run(finished: Path) -> None:
    html = (finished / "report.html").read_text(encoding="utf-8")
    metrics = json.loads((finished / "metrics.json").read_text())
    assert f"{metrics['test/auroc']:.4f}" in html
    assert f"{metrics['parameters']:,.0f}" in html
    assert "The deep learning recommendation model (Naumov et al., 2019" in html
    drawn = {name for name in FILES if name.startswith("figures/")} - {
        "figures/feature_importance.png"  # shown as bars, which a phone can show, too
    }
    assert html.count("data:image/png") == len(drawn)
    for section in ("data", "model", "training", "explanation", "neurons", "pruning", "reproduce"):
        assert f'<section id="{section}">' in html
    assert str(finished) not in html
    assert len(html) < 3e6


def test_a_comparison_reads_what_a_run_leaves_behind(finished: Path) -> None:
    (run,) = scan([finished])
    assert (run.state, run.stage, run.problem, run.seed) == ("finished", "evaluate", "", 0)
    assert run.settings["data"] == "planted"
    assert run.settings["trainer.max_epochs"] == 3
    metrics = {**Metrics.load(finished / "metrics.json").values,
               **Metrics.load(finished / "latency.json").values}  # fmt: skip
    certificate = Certificate.load(finished / "certificate.json")
    gone = sum(layer.count for layer in certificate.layers.values())
    assert certificate.exact
    assert gone == metrics["pruned/units"] > 0
    units = sum(layer.before for layer in certificate.layers.values())
    assert run.metrics == pytest.approx(metrics | {CERTIFIED_SHARE: gone / units}, nan_ok=True)
    assert run.certificate == certificate
    assert len(run.rows(HISTORY)) == 3
    for table in (run.table(IMPORTANCE), run.table(NEURONS)):
        assert len(table)
        assert "mean_abs" in table
    assert not run.unreadable


def test_a_second_run_makes_nothing_loads_nothing_and_says_so(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the data is read nor a model built."""
    monkeypatch.setattr("glassrec.data.planted.Planted.load", None)
    monkeypatch.setattr("glassrec.models.dlrm.DLRM.__init__", None)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    assert _run(run, *SMALL) == 0
    out = capsys.readouterr().out
    assert "nothing to make: all of it is there and up to date" in out
    assert out.endswith(f"results   {run}\n")
    number = r"−?\d\.\d{4}"
    said = rf"test/auroc {number} as trained, {number} pruned: {number} \({number} to {number}\)"
    assert re.search(rf"^evaluate  {said}$", out, re.M)
    assert re.search(r"^evaluate  FLOPs a row [\d,]+ as trained, [\d,]+ pruned \(−", out, re.M)
    assert re.search(r"^evaluate  latency of 4,096 rows .* ms pruned \([−+].*%\)$", out, re.M)
    assert re.search(r"^evaluate  test/top10_agreement 1\.0000: ", out, re.M)
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"status.json"}
    assert before.keys() == after.keys()


@pytest.mark.long
def test_killed_in_training_it_goes_on_to_the_same_files(finished: Path, tmp_path: Path) -> None:
    directory = tmp_path / "killed"
    command = [sys.executable, "-m", "glassrec", "run", f"run.dir={directory}", *SMALL]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (directory / "weights.safetensors").exists()
    assert (directory / "training.ckpt").exists()
    assert _run(directory, *SMALL) == 0
    assert _same(directory, finished)


def test_a_training_of_other_data_is_not_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "columns.yaml").write_text("label: y\nuser: u\nitem: i\n")
    words = ["data=table", f"data.path={tmp_path / 'rows.csv'}", "model=gmf", "trainer=cpu",
             f"data.columns={tmp_path / 'columns.yaml'}"]  # fmt: skip

    def write(shift: int) -> None:
        lines = [f"u{k % 5},i{k % 7},{(k + shift) % 3 % 2}" for k in range(200)]
        (tmp_path / "rows.csv").write_text("\n".join(["u,i,y", *lines]) + "\n")

    write(0)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # right after the first epoch's checkpoint
        patch.setattr("glassrec.training.loop.EpochHistory._report", interrupted)
        assert _run(tmp_path / "run", *words) == 130
    write(1)
    assert _run(tmp_path / "run", *words) == 1
    err = capsys.readouterr().err
    assert "training.ckpt is the checkpoint of another training; its origin is" in err
    assert "delete it to train afresh" in err


def test_another_prune_setting_makes_the_cut_again_and_not_the_training(run: Path) -> None:
    before = _files(run)
    assert _run(run, "prune.level=sample", stage="run") == 0  # `prune` makes a cut beside it
    after = _files(run)
    assert after.keys() == FILES
    for name in ("plan.json", "certificate.json"):
        assert json.loads(after[name])["level"] == "sample"
    for name in ("weights.safetensors", "neurons.parquet", "figures/neuron_importance.png"):
        assert after[name] == before[name]


def test_other_players_leave_the_neurons_and_the_cut_alone(run: Path) -> None:
    before = _files(run)
    assert _run(run, "explain.granularity=dimensions", stage="explain") == 0
    after = _files(run)
    assert after["attributions.parquet"] != before["attributions.parquet"]
    for name in ("neurons.parquet", "plan.json", "pruned.safetensors", "certificate.json"):
        assert after[name] == before[name]


@pytest.mark.parametrize(
    ("word", "said"),
    [("explain.task=clck", "explain.task: no task 'clck'; did you mean 'click'?"),
     ("explain/method=shapley", "exact Shapley values of 13 features need 8,192 evaluations")],
)  # fmt: skip
def test_what_cannot_be_explained_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    assert _run(tmp_path / "run", *SMALL, word) == 1
    heard = capsys.readouterr()
    assert said in heard.err
    assert "epoch" not in heard.out


@pytest.mark.long
def test_stages_one_by_one_end_like_one_run(finished: Path, tmp_path: Path) -> None:
    directory = tmp_path / "steps"
    assert _run(directory, *SMALL, stage="train") == 0
    assert not (directory / "attributions.parquet").exists()
    for stage in ("explain", "prune", "evaluate"):
        assert _run(directory, stage=stage) == 0
    (directory / "provenance.json").write_bytes((finished / "provenance.json").read_bytes())
    assert _same(directory, finished)  # but for the command, which provenance names


@pytest.mark.long
def test_a_job_of_a_sweep_draws_its_figures_on_demand(
    finished: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in [*run.glob("figures/*"), run / "report.html"]:
        path.unlink()
    monkeypatch.setenv("GLASSREC_SWEEP", "somewhere")
    assert _run(run) == 0
    assert not [*run.glob("figures/*")]
    assert "figures=true" in (run / "report.html").read_text()
    monkeypatch.delenv("GLASSREC_SWEEP")
    assert _run(run, "figures=true", stage="evaluate") == 0
    assert {path.name for path in run.glob("figures/*")} == {
        path.name for path in finished.glob("figures/*")
    }
    assert "figures=true" not in (run / "report.html").read_text().split("<h2", 1)[0]


def test_another_experiment_is_refused_and_nothing_is_lost(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _files(run)
    assert _run(run, *SMALL, "model.embedding=8") == 2
    assert "model.embedding" in capsys.readouterr().err
    assert _files(run) == before


def _broken(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert _run(run, "explain.neurons.steps=5", stage="explain") == 1
    return capsys.readouterr().err


def test_a_checkpoint_cut_in_half(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "weights.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "weights.safetensors has changed since it was written" in _broken(run, capsys)


def test_a_checkpoint_with_a_flipped_byte(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)
    assert "weights.safetensors has changed since it was written" in _broken(run, capsys)


def test_a_checkpoint_of_another_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"table.weight": torch.zeros(3, 3)}, run / "weights.safetensors")
    assert "weights.safetensors has changed since it was written" in _broken(run, capsys)


def test_a_deleted_checkpoint_is_trained_again(run: Path) -> None:
    before = _files(run)
    (run / "weights.safetensors").unlink()
    assert _run(run, *SMALL) == 0
    assert _files(run) == before


def test_a_damaged_training_checkpoint_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training.ckpt").write_bytes(b"PK\3\4 half")
    assert _run(tmp_path / "run", *SMALL) == 1
    err = capsys.readouterr().err
    assert "training.ckpt is damaged" in err
    assert "delete it" in err
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed"
    assert "training.ckpt is damaged" in status["problem"]


def test_a_finished_run_goes_on_with_more_epochs_to_the_bits_of_a_longer_one(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "shorter"
    assert _run(directory, *SMALL, "trainer.max_epochs=1", stage="train") == 0
    capsys.readouterr()
    assert _run(directory, *SMALL, stage="train") == 0
    output = capsys.readouterr().out
    assert "changed   trainer.max_epochs is 3 and was 1; replacing" in output
    assert "epoch 1/" not in output
    for name in ("weights.safetensors", "history.csv"):
        assert (directory / name).read_bytes() == (finished / name).read_bytes()
    states = (
        torch.load(each / "finished.ckpt", weights_only=True) for each in (directory, finished)
    )
    assert _plain(next(states)) == _plain(next(states))
    before = _files(directory)
    for words, said in (
        (["trainer.max_epochs=2"], "keeps its 3; name another run.dir"),
        (["trainer.max_epochs=4", "optimizer.lr=0.5"], "optimizer.lr: 0.5 is not allowed"),
    ):
        assert _run(directory, *SMALL, *words) == 2
        assert said in capsys.readouterr().err
        assert _files(directory) == before


def test_a_run_without_its_last_checkpoint_cannot_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, "trainer.max_epochs=1", "trainer.keep_checkpoint=false"]
    assert _run(tmp_path / "run", *words, stage="train") == 0
    assert not [*tmp_path.rglob("*.ckpt")]
    assert _run(tmp_path / "run", "trainer.max_epochs=2", stage="train") == 2
    assert "it was left without finished.ckpt" in capsys.readouterr().err


@pytest.mark.long
def test_a_killed_continuation_goes_on(finished: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    assert _run(directory, *SMALL, "trainer.max_epochs=1") == 0
    command = [sys.executable, "-m", "glassrec", "run", f"run.dir={directory}"]
    process = subprocess.Popen(
        [*command, "trainer.max_epochs=3"], stdout=subprocess.PIPE, text=True
    )  # the other settings are those of the run
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert _run(directory, *SMALL) == 0
    assert _same(directory, finished)


@pytest.mark.long
def test_pretraining_starts_from_two_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "data.rows=1500", "data.users=12", "data.items=8", "model.factors=2", "trainer=cpu",
        "trainer.max_epochs=2",
    ]  # fmt: skip
    for name in ("gmf", "mlp"):
        assert _run(tmp_path / name, f"model={name}", *words, stage="train") == 0
    start = [f"model.pretrained.{name}={tmp_path / name}" for name in ("gmf", "mlp")]
    joined = ["model=neumf", *words, *start, "optimizer=sgd", "optimizer.lr=0.0001"]
    assert _run(tmp_path / "neumf", *joined, stage="train") == 0
    parts = {n: load_file(tmp_path / n / "weights.safetensors") for n in ("gmf", "mlp", "neumf")}
    expected = torch.cat([parts["gmf"]["table.weight"], parts["mlp"]["table.weight"]], 1)
    torch.testing.assert_close(parts["neumf"]["table.weight"], expected, rtol=0, atol=1e-3)
    capsys.readouterr()
    # Weights that are not those of the run they lie in are not trusted.
    path = tmp_path / "gmf" / "weights.safetensors"
    other = {name: tensor * 2 for name, tensor in parts["gmf"].items() if name == "table.weight"}
    save_file(parts["gmf"] | other, path)
    assert _run(tmp_path / "neumf", *joined, stage="train") == 1
    assert "weights.safetensors has changed since it was written" in capsys.readouterr().err
    # Other weights to start from make the run stale.
    (tmp_path / "gmf" / "record.json").unlink()
    before = (tmp_path / "neumf" / "weights.safetensors").read_bytes()
    assert _run(tmp_path / "neumf", *joined, stage="train") == 0
    assert (tmp_path / "neumf" / "weights.safetensors").read_bytes() != before
    path.unlink()
    assert _run(tmp_path / "neumf", *joined, stage="train") == 1
    assert "holds no weights.safetensors" in capsys.readouterr().err


def test_a_finished_run_is_opened_quickly(run: Path) -> None:
    """A run that has everything loads no data, and neither Lightning, Captum nor torchmetrics."""
    code = (
        "import sys; from glassrec.__main__ import main; "
        f"assert main(['run', 'run.dir={run}']) == 0; "
        "heavy = {'lightning', 'captum', 'wandb', 'torchmetrics'}; "
        "loaded = heavy & sys.modules.keys(); assert not loaded, loaded"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "loading the data" not in done.stdout
    assert time.perf_counter() - started < 60
