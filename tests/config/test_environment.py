"""What environment variables give is used, and not written down."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from glassrec.__main__ import main
from glassrec.config import compose
from glassrec.config.errors import ConfigError
from glassrec.run import Run, experiment, key_of, record_text

SECRET = "SEKRET-123456"
TAGS = 'tracker.tags=["${oc.env:GLASSREC_TEST_KEY}",plain]'


@pytest.fixture(autouse=True)
def variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLASSREC_TEST_KEY", SECRET)
    monkeypatch.setenv("GLASSREC_TEST_SIZE", "12")
    monkeypatch.chdir(tmp_path)


def test_the_text_is_written_and_the_value_is_used() -> None:
    size = "model.factors='${oc.decode:${oc.env:GLASSREC_TEST_SIZE}}'"
    entity = "tracker.entity=x-${oc.env:GLASSREC_TEST_KEY}"
    config = compose.prepare("run", ["model=gmf", "tracker=wandb", TAGS, size, entity])
    assert config["tracker"]["tags"] == [SECRET, "plain"]
    assert config["model"]["factors"] == 12
    written = compose.written(config)
    assert SECRET not in yaml.safe_dump(written)
    assert written["tracker"]["tags"] == ["${oc.env:GLASSREC_TEST_KEY}", "plain"]
    assert written["tracker"]["entity"] == "x-${oc.env:GLASSREC_TEST_KEY}"
    assert written["model"]["factors"] == "${oc.decode:${oc.env:GLASSREC_TEST_SIZE}}"
    assert SECRET not in compose.shown("run", ["tracker=wandb", TAGS])


def test_an_interpolation_that_leads_to_one_is_one_and_others_are_resolved() -> None:
    words = ["tracker=wandb", "tracker.project='${oc.env:GLASSREC_TEST_KEY}'",
             "tracker.group=${tracker.project}", "tracker.name=run-${seed}"]  # fmt: skip
    written = compose.written(compose.prepare("run", words))
    assert written["tracker"]["group"] == "${tracker.project}"
    assert written["tracker"]["name"] == "run-0"


def test_a_tracker_addresses_with_the_value_and_labels_with_the_text() -> None:
    words = ["tracker=wandb", TAGS, "tracker.project=${oc.env:GLASSREC_TEST_KEY}"]
    tracker = compose.build(compose.prepare("run", words))["tracker"]
    assert tracker.project == SECRET
    assert [*tracker.tags] == ["${oc.env:GLASSREC_TEST_KEY}", "plain"]


def test_a_message_does_not_show_the_value() -> None:
    with pytest.raises(ConfigError) as error:
        compose.prepare("run", ["trainer.max_epochs=${oc.env:GLASSREC_TEST_KEY}"])
    assert "trainer.max_epochs" in str(error.value)
    assert "${oc.env:GLASSREC_TEST_KEY}" in str(error.value)
    assert SECRET not in str(error.value)


def test_a_saved_run_reads_the_variable_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = "model.factors='${oc.decode:${oc.env:GLASSREC_TEST_SIZE}}'"
    words = ["model=gmf", size, f"run.dir={tmp_path / 'r'}"]
    config = compose.prepare("run", words)
    Run(tmp_path / "r", compose.plain(config), written=compose.written(config)).close()
    assert "GLASSREC_TEST_SIZE" in (tmp_path / "r" / "config.yaml").read_text()
    (tmp_path / "r" / "record.json").write_text(record_text({}))
    again = compose.prepare("explain", [f"run.dir={tmp_path / 'r'}"])
    assert again["model"]["factors"] == 12
    Run(tmp_path / "r", compose.plain(again), written=compose.written(again)).close()
    monkeypatch.setenv("GLASSREC_TEST_SIZE", "16")
    other = compose.prepare("explain", [f"run.dir={tmp_path / 'r'}"])
    keys = [key_of(experiment(compose.plain(each))) for each in (config, again, other)]
    assert keys[0] == keys[1] != keys[2], "what an artifact is made of is known by the value"
    monkeypatch.delenv("GLASSREC_TEST_SIZE")
    assert main(["explain", f"run.dir={tmp_path / 'r'}"]) == 2
    assert "GLASSREC_TEST_SIZE" in capsys.readouterr().err


def test_seeds_of_a_variable_are_written_into_their_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSREC_TEST_SEEDS", "[0,1]")
    config = compose.prepare("run", ["seeds='${oc.decode:${oc.env:GLASSREC_TEST_SEEDS}}'"])
    assert compose.written(config)["seeds"] == "${oc.decode:${oc.env:GLASSREC_TEST_SEEDS}}"
    written = compose.written(compose.of_seed(config, 1))
    assert (written["seed"], written["seeds"]) == (1, None)


def test_the_status_of_a_run_does_not_show_the_value(tmp_path: Path) -> None:
    run = Run(
        tmp_path, {"seed": 0, "data": {"root": f"/data/{SECRET}"}},
        written={"seed": 0, "data": {"root": "/data/${oc.env:GLASSREC_TEST_KEY}"}},
    )  # fmt: skip
    with pytest.raises(ValueError, match="no file"), run.working_on("train"):
        raise ValueError(f"/data/{SECRET}/rows.csv: no file")
    text = (tmp_path / "status.json").read_text()
    assert "no file" in text
    assert SECRET not in text
    run.close()
