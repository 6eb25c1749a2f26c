"""Config groups of Lightning, torch and torchmetrics, from the command line."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from glassrec.__main__ import main
from glassrec.run import experiment

WORDS = ["data.rows=600", "model=gmf", "trainer=cpu", "trainer.max_epochs=2",
         "trainer.batch_size=128"]  # fmt: skip


def train(run, *words):
    return main(["train", f"run.dir={run}", *WORDS, *words])


def keys(run):
    record = json.loads((run / "record.json").read_text())
    return {name: entry.get("key") for name, entry in record.items() if name != "config.yaml"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    run = tmp_path_factory.mktemp("groups") / "plain"
    assert train(run) == 0
    return run


def test_observers_change_no_key_and_what_they_write_lies_in_the_run(plain, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["logger=csv", "callbacks=checkpoints", "trainer.enable_progress_bar=false",
             "trainer.log_every_n_steps=1", "trainer.profiler=simple",
             "trainer.compile=eager"]  # fmt: skip
    assert train(run, *words) == 0
    assert keys(run) == keys(plain)
    weights = "weights.safetensors"
    assert (run / weights).read_bytes() == (plain / weights).read_bytes()
    logged = pd.read_csv(run / "logs/csv/version_0/metrics.csv")
    history = pd.read_csv(run / "history.csv")
    expected = history["val/auroc"].tolist()
    assert logged["val/auroc"].dropna().tolist() == pytest.approx(expected, abs=1e-6)
    assert len([*run.rglob("epoch=*.ckpt")]) == 2
    assert (run / "fit-profile.txt").is_file()
    capsys.readouterr()
    assert train(run, "callbacks=none", "logger=none") == 0  # nothing is stale
    assert "nothing to make" in capsys.readouterr().out


def test_groups_that_train_otherwise_make_another_experiment(plain, tmp_path, capsys):
    for words, key in (
        (["trainer.gradient_clip_val=0.1"], "trainer.gradient_clip_val"),
        (["scheduler=cosine"], "scheduler._target_"),
        (["metrics=classification"], "metrics.f1._target_"),
        (["callbacks=early_stopping"], "callbacks.early_stopping._target_"),
        (["debug=fast_dev_run"], "trainer.fast_dev_run"),
    ):
        assert train(plain, *words) == 2
        assert f"error: {key}: " in capsys.readouterr().err
    run = tmp_path / "run"
    words = ["metrics=classification", "trainer.monitor=val/f1", "scheduler=warmup",
             "callbacks=early_stopping"]  # fmt: skip
    assert train(run, *words) == 0
    history = pd.read_csv(run / "history.csv")
    assert {"val/f1", "val/matthews", "val/average_precision"} <= {*history}
    assert keys(run) != keys(plain)


def test_unknown_arguments_are_refused_with_the_nearest_name_before_lightning_is_imported():
    words = ["trainer.gradient_clip_value=1", "callbacks=early_stopping",
             "callbacks.early_stopping.patient=3", "trainer.max_steps=many", "scheduler=step",
             "scheduler.scheduler.gama=1"]  # fmt: skip
    code = (
        "import sys; from glassrec.__main__ import main; "
        f"assert main({['train', *WORDS, *words]!r}) == 2; sys.exit('lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for key, near in (
        ("trainer.gradient_clip_value", "gradient_clip_val"),
        ("callbacks.early_stopping.patient", "patience"),
        ("trainer.max_steps", "whole number"),
        ("scheduler.scheduler.gama", "gamma"),
    ):
        assert any(key in line and near in line for line in done.stderr.splitlines()), done.stderr


def test_a_class_outside_of_the_libraries_is_not_called(capsys):
    assert main(["train", *WORDS, "+callbacks.x._target_=lightning.pytorch.cli.LightningCLI"]) == 2
    assert "callbacks.x._target_" in capsys.readouterr().err


def test_a_configuration_without_the_groups_is_the_same_experiment(plain):
    config = yaml.safe_load((plain / "config.yaml").read_text())
    groups = ("scheduler", "callbacks", "metrics", "logger")
    old = {name: node for name, node in config.items() if name not in groups}
    old["trainer"] = {name: v for name, v in old["trainer"].items() if name != "compile"}
    assert experiment(old) == experiment(config)


def test_fast_dev_run_runs_a_batch_and_says_so(tmp_path, capsys):
    assert train(tmp_path / "run", "debug=fast_dev_run") == 0
    assert "fast_dev_run" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 1
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["trainer"]["fast_dev_run"]
