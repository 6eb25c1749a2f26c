"""A whole pipeline as W&B sees it: offline, moved, sent, gone on with, and ended from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import matplotlib
import pytest
from wandb_server import serving

from glassrec.__main__ import main

Records = list[dict[str, Any]]
Inspect = Callable[[Path], Records]
Of = Callable[[str, Records], Records]

WORDS = [
    "run", "data.rows=600", "model=gmf", "model.factors=4", "trainer=cpu", "trainer.max_epochs=2",
    "explain.select.rows=20", "explain/compare=none", "prune.curves.shares=[0,0.5]",
    "prune.curves.draws=1", "tracker=wandb",
]  # fmt: skip

OUTSIDE = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")


class Ended(NamedTuple):
    """A run that a process of its own made."""

    directory: Path
    code: int
    said: str


def _start(place: Path, words: list[str], **environment: str) -> subprocess.Popen[str]:
    """Where a user may write, and where Glassrec may not, is a folder each, all of them empty."""
    outside = {name: place / "outside" / name for name in OUTSIDE}
    for folder in (*outside.values(), place / "run"):
        folder.mkdir(parents=True)
    free = {n: v for n, v in os.environ.items() if not n.startswith(("WANDB_", "GLASSREC_"))}
    caches = {"MPLCONFIGDIR": matplotlib.get_cachedir(), "TORCHINDUCTOR_CACHE_DIR": str(place)}
    return subprocess.Popen(
        [sys.executable, "-m", "glassrec", *words, f"run.dir={place / 'run'}"],
        cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**free, **{n: str(folder) for n, folder in outside.items()}, **caches, **environment},
    )  # fmt: skip


def _terminated(process: subprocess.Popen[str], run: Path) -> None:
    """Send SIGTERM once two epochs are saved."""
    deadline = monotonic() + 120
    while monotonic() < deadline and process.poll() is None:
        ledger = run / "wandb.json"
        if ledger.is_file() and json.loads(ledger.read_text())["epochs"] >= 2:
            break
        sleep(0.1)
    process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """A run that finished, as an agent's in a sweep, and beside it one that was told to stop."""
    places = {name: tmp_path_factory.mktemp(name) for name in ("finished", "stopped")}
    finished = _start(places["finished"], WORDS, WANDB_RUN_ID="agents1", WANDB_SWEEP_ID="sweep1")
    stopped = _start(places["stopped"], [*WORDS, "trainer.max_epochs=100000"])
    try:
        _terminated(stopped, places["stopped"] / "run")
        said = {"stopped": stopped.communicate(timeout=120)[0],
                "finished": finished.communicate(timeout=120)[0]}  # fmt: skip
        codes = {"stopped": stopped.returncode, "finished": finished.returncode}
        yield {n: Ended(place / "run", codes[n], said[n]) for n, place in places.items()}
    finally:
        for process in (finished, stopped):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def records(ended: dict[str, Ended], inspect: Inspect) -> Records:
    """What the finished run told."""
    assert ended["finished"].code == 0, ended["finished"].said
    return inspect(ended["finished"].directory)


@pytest.fixture(scope="module")
def summary(records: Records, of: Of) -> dict[str, Any]:
    updates = (each.get("update", {}) for each in of("summary", records))
    return {name: value for update in updates for name, value in update.items()}


def test_settings_and_exit_state_are_told(records: Records, of: Of) -> None:
    (run,) = of("run", records)
    config = run["config"]["update"]
    assert (run["run_id"], run["sweep_id"], run["job_type"]) == ("agents1", "sweep1", "run")
    assert (config["model/factors"], config["trainer/max_epochs"], config["seed"]) == (4, 2, 0)
    assert of("exit", records)[0].get("exit_code", 0) == 0
    assert not of("environment", records), "it names user, command line and folders"


def test_each_stage_has_its_history_over_an_axis_of_its_own(
    ended: dict[str, Ended], records: Records, of: Of
) -> None:
    items = [each["item"] for each in of("history", records)]
    epochs = [item for item in items if "epoch" in item]
    assert [item["epoch"] for item in epochs] == [1, 2]
    assert all({"train/loss", "val/auroc"} <= item.keys() for item in epochs)
    cuts = [item for item in items if "prune/share" in item]
    assert [item["prune/share"] for item in cuts] == [0, 0.5]
    scores = {"conductance", "magnitude", "random"}
    assert all({f"prune/{name}/val/auroc" for name in scores} <= item.keys() for item in cuts)
    ranks = [item for item in items if "neuron/rank" in item]
    assert [item["neuron/rank"] for item in ranks] == [1, 2, 3, 4]
    ((layer, values),) = {
        name: [item[name] for item in ranks]
        for name in ranks[0] if name.startswith("neuron/") and name != "neuron/rank"
    }.items()  # fmt: skip
    assert layer == "neuron/product"
    assert values == sorted(values, reverse=True)


def test_the_summary_has_all_metrics_and_the_facts_of_the_certificate(
    ended: dict[str, Ended], summary: dict[str, Any]
) -> None:
    run = ended["finished"].directory
    for file in ("metrics.json", "latency.json"):
        for name, value in json.loads((run / file).read_text()).items():
            assert summary[name] == pytest.approx(value), name
    certificate = json.loads((run / "certificate.json").read_text())
    assert summary["certificate/level"] == certificate["level"]
    assert summary["certificate/max_abs_logit_difference"] == pytest.approx(
        certificate["max_abs_logit_difference"]
    )
    assert not [name for name in summary if name.startswith(("prune/", "neuron/"))]


def test_tables_and_all_pictures_are_there(
    ended: dict[str, Ended], summary: dict[str, Any]
) -> None:
    tables = {n.split(".")[0] for n, value in summary.items() if value == "table-file"}
    assert tables == {
        f"tables/{name}" for name in ("importance", "neurons", "methods", "pairs", "attributions")
    }
    assert (summary["tables/attributions.nrows"], summary["tables/neurons.nrows"]) == (20, 4)
    run = ended["finished"].directory
    drawn = {path.stem for path in (run / "figures").glob("*.png")}
    images = {n.split(".")[0] for n, value in summary.items() if value == "image-file"}
    assert images == {f"figures/{name}" for name in drawn}
    (folder,) = run.glob("wandb/offline-run-*/files")
    for name in tables | images:
        assert (folder / summary[f"{name}.path"]).is_file()


def test_artifacts_go_from_data_to_the_pruned_model_and_each_is_used_by_what_follows(
    records: Records, of: Of
) -> None:
    chain = [each for each in of("artifact", records) if each["type"] != "table"]
    assert [each["type"] for each in chain] == ["data", "checkpoint", "attributions", "pruned"]
    assert [each.get("user_created", False) for each in chain] == [True, False, False, False]
    assert [each.get("use_after_commit", False) for each in chain] == [True, True, True, False]
    files = {each["type"]: {f["path"] for f in each["manifest"]["contents"]} for each in chain}
    assert files["data"] == {"data.json"}
    assert files["checkpoint"] == {"weights.safetensors"}
    assert {"attributions.parquet", "neurons.parquet"} <= files["attributions"]
    assert {"pruned.safetensors", "plan.json", "certificate.json"} <= files["pruned"]
    facts = {each["type"]: json.loads(each["metadata"]) for each in chain}
    weights = facts["checkpoint"]["files.weights.safetensors"]
    assert facts["attributions"]["made_of.weights.safetensors"] == weights
    assert facts["pruned"]["made_of.weights.safetensors"] == weights


def test_nothing_is_written_outside_the_run(ended: dict[str, Ended]) -> None:
    for each in ended.values():
        outside = each.directory.parent / "outside"
        left = [p.relative_to(outside) for p in outside.rglob("*") if not p.is_dir()]
        assert left == []


def test_a_run_that_was_moved_is_sent_whole(
    ended: dict[str, Ended], tmp_path: Path, records: Records, of: Of
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(ended["finished"].directory, moved, symlinks=True)
    hidden = ended["finished"].directory.rename(tmp_path / "not_there")
    try:
        with serving() as server:
            # Without the variables by which the client would join the one of this process.
            free = {name: v for name, v in os.environ.items() if not name.startswith("WANDB_")}
            key = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "k" * 40}
            done = subprocess.run(
                [sys.executable, "-m", "wandb", "sync", "--yes"], cwd=moved, check=True, timeout=60,
                env=free | key, capture_output=True, text=True,
            )  # fmt: skip
    finally:
        hidden.rename(ended["finished"].directory)
    assert "ERROR" not in done.stderr
    for artifact in of("artifact", records):
        for file in artifact["manifest"]["contents"]:
            sent = server.files[f"/{artifact['name']}/{file['path']}"]
            assert b64encode(md5(sent).digest()).decode() == file["digest"]
    committed = {given["artifactID"] for name, given in server.queries if name == "CommitArtifact"}
    used = {given["artifactID"] for name, given in server.queries if name == "UseArtifact"}
    assert committed == {each["name"] for each in of("artifact", records)}
    assert {name.split("-")[0] for name in used} == {"data", "checkpoint", "attributions"}
    assert server.lines["wandb-history.jsonl"] == len(of("history", records))


def test_the_same_command_again_says_nothing_twice(
    ended: dict[str, Ended], tmp_path: Path, inspect: Inspect, of: Of
) -> None:
    again = tmp_path / "again"
    shutil.copytree(ended["finished"].directory, again, symlinks=True)
    hidden = ended["finished"].directory.rename(tmp_path / "not_there")  # moved, and no copy
    try:
        assert main([*WORDS, f"run.dir={again}"]) == 0
    finally:
        hidden.rename(ended["finished"].directory)
    records = inspect(again)
    assert of("run", records)[0]["run_id"] == "agents1"
    assert (of("history", records), of("artifact", records)) == ([], [])


def test_cuts_of_a_run_are_a_curve_of_both_splits_and_a_table(
    ended: dict[str, Ended], tmp_path: Path, inspect: Inspect, of: Of
) -> None:
    run = Path(shutil.copytree(ended["finished"].directory, tmp_path / "run", symlinks=True))
    words = ["prune", "-m", f"run.dir={run}", "prune.level=budget"]
    assert main([*words, "prune.share=0.25,0.5", "prune/score=magnitude,conductance"]) == 0
    records = inspect(run)
    own = json.loads((run / "wandb.json").read_text())["id"]  # of the copy
    assert of("run", records)[0]["run_id"] == own != "agents1", "no run of its own for each cut"
    points = [each["item"] for each in of("history", records) if "cuts/share" in each["item"]]
    assert [point["cuts/share"] for point in points] == [0, 0.25, 0.5, 0.25, 0.5]
    for share, score in ((s, n) for s in (0.25, 0.5) for n in ("magnitude", "conductance")):
        file = run / "cuts" / f"share={share},score={score}" / "metrics.json"
        metrics = json.loads(file.read_text())
        (point,) = (
            p for p in points if p["cuts/share"] == share and f"cuts/{score}/val/auroc" in p
        )
        for split in ("val", "test"):
            value = pytest.approx(metrics[f"pruned/{split}/auroc"])
            assert point[f"cuts/{split}/auroc"] == point[f"cuts/{score}/{split}/auroc"] == value
            assert f"cuts/{split}/auroc_change_low" in point
    (axis,) = {each["step_metric"] for each in of("metric", records)
               if each.get("glob_name") == "cuts/*"}  # fmt: skip
    assert axis == "cuts/share"
    updates = {k: v for each in of("summary", records) for k, v in each.get("update", {}).items()}
    assert updates["tables/cuts.nrows"] == 5
    # One more cut is one more point.
    assert main([*words, "prune.share=0.25,0.75", "prune/score=magnitude"]) == 0
    items = [each["item"] for each in of("history", inspect(run))]
    assert [item["cuts/share"] for item in items if "cuts/share" in item] == [0.75]


def test_sigterm_marks_a_run_and_keeps_its_history(
    ended: dict[str, Ended], inspect: Inspect, of: Of
) -> None:
    stopped = ended["stopped"]
    assert stopped.code == 143, stopped.said
    assert stopped.said.splitlines()[-1] == (
        "glassrec: error: terminated by SIGTERM; the same command goes on from here"
    )
    status = json.loads((stopped.directory / "status.json").read_text())
    assert status == {"state": "interrupted", "stage": "train", "problem": "terminated by SIGTERM"}
    records = inspect(stopped.directory)
    assert of("exit", records)[0]["exit_code"] == 143
    items = [each["item"] for each in of("history", records)]
    epochs = [item["epoch"] for item in items if "epoch" in item]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) == json.loads((stopped.directory / "wandb.json").read_text())["epochs"] >= 2
