"""The expectations of those who use W&B daily, each read back from the log of an offline run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

import glassrec
from glassrec.__main__ import main
from glassrec.run import key_of
from glassrec.run.provenance import git_commit
from glassrec.tracking.tracker import SWEEP

Records = list[dict[str, Any]]
Inspect = Callable[[Path], Records]
Of = Callable[[str, Records], Records]

WORDS = [
    "data.rows=600", "model=gmf", "model.factors=4", "seed=3", "trainer=cpu",
    "trainer.max_epochs=4", "trainer.batch_size=64", "+trainer.log_every_n_steps=2",
    "optimizer.lr=0.3", "explain.select.rows=20", "explain/compare=none",
    "prune.curves.shares=[0,0.5]", "prune.curves.draws=1", "tracker=wandb", "tracker.tags=[mine]",
    "tracker.notes=why it was run",
]  # fmt: skip
"""A learning rate so high that the last epoch is not the best one."""

STEPS, EPOCHS = 8, 4
"""Of an epoch of 480 rows, and of the run."""


class Seen(NamedTuple):
    """What W&B has of a run, and its directory."""

    directory: Path
    run: dict[str, Any]
    config: dict[str, Any]
    summary: dict[str, Any]
    history: Records
    axes: dict[str, str]

    def curve(self, name: str) -> list[float]:
        return [item[name] for item in self.history if name in item]


def _seen(directory: Path, inspect: Inspect, of: Of) -> Seen:
    records = inspect(directory)
    (run,) = of("run", records)
    config = dict(run["config"]["update"])
    for each in of("config", records):
        config |= each["update"]
    updates = (each.get("update", {}) for each in of("summary", records))
    return Seen(
        directory, run, config, {k: v for update in updates for k, v in update.items()},
        [each["item"] for each in of("history", records)],
        {each["glob_name"]: each["step_metric"] for each in of("metric", records)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, inspect: Inspect, of: Of) -> dict[str, Seen]:
    """A job that trains in a sweep, the same job evaluated alone, a copy, and the comparison."""
    folder = tmp_path_factory.mktemp("widths")
    job, copy, found = folder / "1", folder / "copy", {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("NETRC", str(folder / "no-netrc"))
        patch.setenv(SWEEP, str(folder))
        patch.setenv("GLASSREC_LABEL", "factors=4")
        assert main(["train", *WORDS, "figures=true", f"run.dir={job}"]) == 0
        found["job"] = _seen(job, inspect, of)
        patch.delenv(SWEEP)
        patch.delenv("GLASSREC_LABEL")
        assert main(["evaluate", *WORDS, f"run.dir={job}"]) == 0
        found["later"] = _seen(job, inspect, of)
        shutil.copytree(job, copy, ignore=shutil.ignore_patterns("wandb"))
        assert main(["evaluate", *WORDS, f"run.dir={copy}"]) == 0
        found["copy"] = _seen(copy, inspect, of)
        assert main(["compare", str(job), str(copy), "--wandb", "glassrec",
                     "--out", str(folder / "comparison")]) == 0  # fmt: skip
        found["comparison"] = _seen(folder / "comparison", inspect, of)
    return found


def _history(seen: dict[str, Seen]) -> pd.DataFrame:
    return pd.read_csv(seen["job"].directory / "history.csv")


def _best(seen: dict[str, Seen]) -> pd.Series:
    history = _history(seen)
    return history.loc[history["val/auroc"].idxmax()]


def loss_within_epochs(seen: dict[str, Seen]) -> None:
    losses = seen["job"].curve("step/loss")
    assert len(losses) == STEPS // 2 * EPOCHS
    by_epoch = pd.Series(losses).groupby(pd.Series(range(len(losses))) // (STEPS // 2)).mean()
    # All batches but the last one of an epoch have 64 rows.
    assert by_epoch.tolist() == pytest.approx(_history(seen)["train/loss"].tolist(), rel=0.05)


def learning_rate_within_epochs(seen: dict[str, Seen]) -> None:
    assert seen["job"].curve("step/learning_rate") == [0.3] * (STEPS // 2 * EPOCHS)


def gradient_norm_within_epochs(seen: dict[str, Seen]) -> None:
    norms = seen["job"].curve("step/gradient_norm")
    assert len({*norms}) == STEPS // 2 * EPOCHS
    assert min(norms) > 0


def rows_per_second_within_epochs(seen: dict[str, Seen]) -> None:
    assert min(seen["job"].curve("step/rows_per_second")) > 64


def steps_are_an_axis(seen: dict[str, Seen]) -> None:
    assert seen["job"].curve("step/number") == [*range(2, STEPS * EPOCHS + 1, 2)]
    assert seen["job"].axes["step/*"] == "step/number"


def epochs_are_an_axis(seen: dict[str, Seen]) -> None:
    assert seen["job"].curve("epoch") == [1, 2, 3, 4]
    assert seen["job"].axes["train/*"] == seen["job"].axes["val/*"] == "epoch"
    assert seen["job"].curve("val/auroc") == pytest.approx(_history(seen)["val/auroc"].tolist())


def summary_names_the_best_epoch(seen: dict[str, Seen]) -> None:
    summary = seen["job"].summary
    assert summary["best_epoch"] == _best(seen)["epoch"] < EPOCHS, "else this tests nothing"
    assert summary["epochs"] == EPOCHS


def summary_has_the_validation_of_the_best_epoch(seen: dict[str, Seen]) -> None:
    for each in (seen["job"], seen["later"]):
        assert each.summary["val/auroc"] == pytest.approx(_best(seen)["val/auroc"])


def summary_has_the_loss_of_the_best_epoch(seen: dict[str, Seen]) -> None:
    loss = _best(seen)["train/loss"]
    assert loss != _history(seen)["train/loss"].iloc[-1]
    assert all(seen[n].summary["train/loss"] == pytest.approx(loss) for n in ("job", "later"))


def summary_has_no_last_points_of_curves(seen: dict[str, Seen]) -> None:
    curves = ("step/", "prune/", "neuron/")
    assert seen["later"].curve("prune/share") == [0, 0.5]
    names = [*seen["job"].summary, *seen["later"].summary]
    assert not [name for name in names if name.startswith(curves)]


def report_is_a_panel(seen: dict[str, Seen]) -> None:
    later = seen["later"]
    assert later.summary["pages/report._type"] == "html-file"
    (file,) = later.directory.glob(
        f"wandb/offline-run-*/files/{later.summary['pages/report.path']}"
    )
    assert file.read_bytes() == (later.directory / "report.html").read_bytes()


def comparison_is_a_panel(seen: dict[str, Seen]) -> None:
    found = seen["comparison"]
    assert (found.run["job_type"], found.summary["pages/comparison._type"]) == (
        "compare", "html-file"
    )  # fmt: skip
    (file,) = found.directory.glob(
        f"wandb/offline-run-*/files/{found.summary['pages/comparison.path']}"
    )
    assert file.read_bytes() == (found.directory / "index.html").read_bytes()


def comparison_is_a_table(seen: dict[str, Seen]) -> None:
    settings = pd.read_csv(seen["comparison"].directory / "settings.csv")
    assert seen["comparison"].summary["tables/settings.nrows"] == len(settings)


def config_has_the_model(seen: dict[str, Seen]) -> None:
    config = seen["job"].config
    assert (config["model"], config["data"], config["model/factors"]) == ("gmf", "planted", 4)


def config_has_the_version(seen: dict[str, Seen]) -> None:
    assert seen["job"].config["version"] == glassrec.__version__


def config_has_the_commit(seen: dict[str, Seen]) -> None:
    assert seen["job"].config["commit"] == git_commit(Path(glassrec.__file__))


def config_has_the_hash_of_the_data(seen: dict[str, Seen]) -> None:
    settings = {name: value for name, value in seen["job"].config.items() if "data/" in name}
    assert settings["data/rows"] == 600
    plain = {name.removeprefix("data/"): value for name, value in settings.items()}
    assert seen["job"].config["data_hash"] == key_of({"settings": plain, "files": {}})[:12]


def seed_is_a_tag(seen: dict[str, Seen]) -> None:
    assert "seed 3" in seen["job"].run["tags"]


def sweep_is_a_tag(seen: dict[str, Seen]) -> None:
    tag = f"sweep {seen['job'].directory.parent.name}"
    assert all(tag in seen[name].run["tags"] for name in ("job", "later"))


def tags_of_the_user_are_there(seen: dict[str, Seen]) -> None:
    assert {"mine", "gmf", "planted"} < {*seen["job"].run["tags"]}


def notes_are_there(seen: dict[str, Seen]) -> None:
    assert seen["job"].run["notes"] == "why it was run"


def figures_have_an_axis(seen: dict[str, Seen]) -> None:
    figures = [item for item in seen["job"].history if "figures/learning_curve.path" in item]
    assert [item["figures/version"] for item in figures] == [1]
    assert seen["job"].axes["figures/*"] == "figures/version"


def name_and_group_stay_when_evaluated_later(seen: dict[str, Seen]) -> None:
    for each in (seen["job"], seen["later"]):
        folder = each.directory.parent.name
        assert (each.run["display_name"], each.run["run_group"]) == ("factors=4", folder)
    assert seen["job"].run["run_id"] == seen["later"].run["run_id"]
    assert seen["later"].curve("epoch") == [], "W&B has them"


def a_copy_is_a_run_of_its_own(seen: dict[str, Seen]) -> None:
    job, copy = seen["later"], seen["copy"]
    assert copy.run["run_id"] != job.run["run_id"]
    assert (copy.run["display_name"], copy.run.get("run_group", "")) == ("copy", "")
    assert copy.curve("epoch") == [1, 2, 3, 4], "W&B has nothing of it yet"
    state = json.loads((job.directory / "wandb.json").read_text())
    assert state["id"] == job.run["run_id"]


EXPECTATIONS = (
    loss_within_epochs, learning_rate_within_epochs, gradient_norm_within_epochs,
    rows_per_second_within_epochs, steps_are_an_axis, epochs_are_an_axis,
    summary_names_the_best_epoch, summary_has_the_validation_of_the_best_epoch,
    summary_has_the_loss_of_the_best_epoch, summary_has_no_last_points_of_curves,
    report_is_a_panel, comparison_is_a_panel, comparison_is_a_table, config_has_the_model,
    config_has_the_version, config_has_the_commit, config_has_the_hash_of_the_data, seed_is_a_tag,
    sweep_is_a_tag, tags_of_the_user_are_there, notes_are_there, figures_have_an_axis,
    name_and_group_stay_when_evaluated_later, a_copy_is_a_run_of_its_own,
)  # fmt: skip
"""24; the cuts of a run, as curves of both splits, are tested in test_pipeline_run.py."""


@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=lambda each: each.__name__)
def test_wandb_users_find(
    expectation: Callable[[dict[str, Seen]], None], seen: dict[str, Seen]
) -> None:
    expectation(seen)
