"""What is found of a model never ends a run: constant, dead and one-neuron models have metrics."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from extreme_models import as_made, dead, executed, half_dead, is_complete, words_of, zero
from glassrec.__main__ import main
from glassrec.artifacts import Explanation
from glassrec.data.dataset import Dataset
from glassrec.explain import explanation_tables as tables
from glassrec.explain.explainer import Explain
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.selection import Selection
from glassrec.models.base import Recommender
from small_run import QUICK

Build = Callable[..., Recommender]


@pytest.mark.parametrize(
    ("model", "level", "plant", "constant"),
    [("dlrm", "data", as_made, False), ("dlrm", "data", dead, True), ("dlrm", "budget", zero, True),
     ("neumf", "sample", half_dead, False)],
)  # fmt: skip
def test_extreme_models_end_with_metrics(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    level: str,
    plant: Callable[[Recommender], None],
    constant: bool,
) -> None:
    words = [
        word
        for word in words_of(model, 8 if plant is as_made else 1)
        if not word.startswith("prune.curves.")
    ]
    words += ["trainer.max_epochs=0", "prune/curves=none", f"prune.level={level}"]
    words += ["prune.budget_unit=neurons", "prune.share=0.99"] if level == "budget" else []
    assert is_complete(executed(tmp_path / "run", words, plant))
    told = capsys.readouterr().out
    assert ("the model gives the same logit" in told) == constant
    assert not (constant and ("largest significant effects" in told or "interact most" in told))
    assert ("NeuMF does not read" in told) == (model == "neumf")
    assert ("no more can be pruned" in told) == (level == "budget")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
    report = (tmp_path / "run" / "report.html").read_text()
    assert ("The model gives the same" in report) == constant


def _about(build: Build, dataset: Dataset, steps: int, tolerance: float) -> Explanation:
    settings = Explain(
        method=IntegratedGradients(steps), select=Selection(rows=20), tolerance=tolerance
    )
    explainer = settings.build_explainer(
        build("dlrm", bottom=[4], top=[4], embedding=2), dataset, 0
    )
    return tables.AttributionTotals(explainer).update(explainer.pieces()).summary(None)


def test_parts_that_do_not_add_up_are_refined_until_they_do(build: Build, dataset: Dataset) -> None:
    missed = {
        steps: _about(build, dataset, steps, 1e9).relative_delta for steps in (1, 2, 4, 8, 128)
    }
    assert missed[1] > missed[4] > missed[128]
    for steps in (2, 4, 8):
        tolerance = missed[steps] * 1.0001
        first = next(each for each in (1, 2, 4, 8) if missed[each] <= tolerance)
        found = _about(build, dataset, 1, tolerance)
        assert found.method == f"integrated gradients, {first} Gauss-Legendre nodes"
        assert found.relative_delta == missed[first]
        assert found.trusted


def test_parts_that_never_add_up_are_not_trusted(build: Build, dataset: Dataset) -> None:
    found = _about(build, dataset, 32, 1e-9)
    assert found.method == "integrated gradients, 128 Gauss-Legendre nodes"
    assert not found.trusted
    assert not found.constant


def test_refining_does_not_depend_on_what_was_done_before(
    build: Build, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassrec.explain.explainer.PIECE", 8)
    settings = Explain(
        method=IntegratedGradients(1), select=Selection(rows=20), tolerance=1e-9, baseline="zero"
    )
    model = build("dlrm", bottom=[4], top=[4], embedding=2)
    whole = [*settings.build_explainer(model, dataset, 0).pieces()]
    assert [len(piece.rows) for piece in whole] == [7, 7, 6]
    (rest,) = settings.build_explainer(model, dataset, 0).pieces(done=14)
    assert torch.equal(rest.values, whole[2].values)
    fine = replace(settings, method=IntegratedGradients(128), tolerance=1e9)
    expected = fine.build_explainer(model, dataset, 0).attributions()
    torch.testing.assert_close(torch.cat([piece.values for piece in whole]), expected.values)


def test_a_constant_logit_is_told_from_one_that_moves(build: Build, dataset: Dataset) -> None:
    def about(plant: Callable[[Recommender], None]) -> Explanation:
        model = build("gmf")
        plant(model)
        explainer = Explain(select=Selection(rows=20)).build_explainer(model, dataset, 0)
        return tables.AttributionTotals(explainer).update(explainer.pieces()).summary(None)

    assert about(zero).constant
    assert not about(lambda _: None).constant
    assert about(zero).unread == ("I1", "I2", "I3", "C1", "C2", "history")
    frame = pd.DataFrame({"mean_abs": [0.0], "max_abs": [0.0], "player": ["user"]})
    explainer = Explain(select=Selection(rows=20)).build_explainer(build("gmf"), dataset, 0)
    assert tables.ground_truth_metrics(explainer, frame, tables.NO_PAIRS) == {}


def test_an_explanation_that_does_not_add_up_is_kept_and_marked(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    words = [word for word in QUICK if not word.startswith(("explain.method.", "explain.tol"))]
    assert main(["explain", f"run.dir={run}", *words, "explain/method=deeplift_captum"]) == 0
    told = capsys.readouterr().out
    assert "not trusted" in told
    assert "more than explain.tolerance (5.0%)" in told
    facts = json.loads((run / "explanation.json").read_text())
    assert facts["trusted"] is False
    assert facts["relative_delta"] > 0.05
    assert main(["explain", f"run.dir={run}", "explain.tolerance=9"]) == 0
    assert "not trusted" not in capsys.readouterr().out
    assert json.loads((run / "explanation.json").read_text())["trusted"] is True
