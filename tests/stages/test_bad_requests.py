"""What cannot be explained or cut is said to be so: what is wrong, the value, and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from glassrec.__main__ import main
from glassrec.data.dataset import Dataset
from glassrec.explain.captum_methods import CaptumMethod
from glassrec.explain.explainer import Explain
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.models.base import Inputs, Recommender
from small_run import QUICK


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run, in which no request is to leave anything."""
    return Path(shutil.copytree(trained, tmp_path_factory.mktemp("asked") / "run"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["explain.granularity=feilds"],
            2,
            "explain.granularity: 'feilds' is not allowed; must be",
        ),
        (["explain.baseline=men"], 2, "no baseline 'men'; did you mean 'mean'?"),
        (["explain.baseline=background:0"], 2, "no baseline 'background:0'"),
        (["explain.baseline=background:x"], 2, "no baseline 'background:x'"),
        (["explain.method=shapley"], 2, "with a slash; write explain/method=shapley"),
        (["explain.compare=none"], 2, "with a slash; write explain/compare=none"),
        (
            ["explain/methd=lime"],
            2,
            "config group; did you mean 'explain/method'?",
        ),
        (["explain.method.steps=0"], 2, "explain.method.steps: 0 is not allowed; must be >= 1"),
        (["explain.neurons.steps=0"], 2, "explain.neurons.steps: 0 is not allowed; must be >= 1"),
        (["explain/method=limee"], 2, "there is no such option; did you mean 'lime'?"),
        (["explain.select.rows=0"], 2, "explain.select.rows: 0 is not allowed; must be >= 1"),
        (
            ["explain.granularity=steps"],
            1,
            "explain.granularity=steps: the model reads no such columns",
        ),
        (["explain.granularity=groups"], 2, "explain.granularity: no group is named"),
        (["explain.granularity=[]"], 2, "explain.granularity: the list is empty"),
        (["explain.groups={a: [price]}"], 2, "explain.groups: a would not be used"),
        (
            ["explain.granularity=groups", "explain.groups={a: [prize]}"],
            1,
            "explain.groups.a: no input 'prize'; did you mean 'price'? (choices: dense, fields",
        ),
        (["explain.select.above=0.9999"], 1, "above 0.9999: none of 60 val rows is scored so"),
        (["explain.select.user=99"], 1, "user 99: the model has the users 0 to 12"),
        (["explain.select.user=u_1"], 1, "user u_1: the model has the users 0 to 12"),
        (["explain.select.where='prize > 3'"], 1, "no column 'prize'; did you mean 'price'?"),
        (["explain.select.where='price = 3'"], 2, "price = 3' is no condition (invalid syntax"),
        (
            ["explain/method=neuron_conductance", "explain.method.neuron='top.7[1]'"],
            1,
            "top.0",
        ),
        (["explain/method=captum"], 2, "explain.method.name: a value is needed"),
        (
            ["explain/method=captum", "explain.method.name=InputXGradent"],
            2,
            "did you mean 'InputXGradient'?",
        ),
        (
            ["explain/method=captum", "explain.method.name=Saliency", "explain.method.kwargs.ab=1"],
            2,
            "explain.method.kwargs.ab: captum.attr.Saliency has no such argument",
        ),
        (
            ["explain/neurons=captum", "explain.neurons.name=LayerConductanse"],
            2,
            "did you mean 'LayerConductance'?",
        ),
        (["explain/method=deeplift_shap"], 1, "set explain.baseline=background"),
        (["explain/method=shapley"], 1, "13 features need 8,192 evaluations"),
        (["explain/method=kernel_shap", "explain.method.samples=3"], 1, "samples"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_request_that_cannot_be_met_is_told(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    before = (run / "weights.safetensors").read_bytes()
    assert main(["explain", f"run.dir={run}", *words]) == code
    heard = capsys.readouterr().err
    assert said in heard
    assert "Traceback" not in heard
    assert not (run / "attributions.parquet").exists()
    assert (run / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["prune.share=1"], 2, "prune.share: 1 is not allowed; must be"),
        (["prune.level=dat"], 2, "prune.level: 'dat' is not allowed; must be 'domain', 'data'"),
        (["prune.budget_unit=bytes"], 2, "prune.budget_unit: 'bytes' is not allowed; must be"),
        (["prune/score=tailor"], 2, "there is no such option; did you mean 'taylor'?"),
        (["prune.score=taylor"], 2, "with a slash; write prune/score=taylor"),
        (["prune.layers=[]"], 2, "prune.layers: "),
        (["prune.layers=[topp.0]"], 1, "prune.layers: no layer 'topp.0'; did you mean 'top.0'? "
         "(choices: bottom, interaction, top, bottom.0, bottom.1, top.0, top.1)"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_cut_that_cannot_be_made_is_told(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert main(["prune", f"run.dir={run}", *QUICK, *words]) == code
    heard = capsys.readouterr().err
    assert said in heard
    assert "Traceback" not in heard
    assert not (run / "plan.json").exists()


def test_a_baseline_of_another_shape_is_refused(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    model = build("dlrm", embedding=2)
    row = model.embed(dataset.train.batch.slice(0, 1))
    wide = Inputs(row.dense, torch.zeros(1, 4, 3), row.history, row.steps)
    with pytest.raises(ValueError, match=r"baseline whose fields are \(1, 4, 3\) .* \(1, 4, 2\)"):
        Explain().build_explainer(model, dataset, 0, baseline=wide)
    own = Inputs(*(part.detach() + 1 for part in row))
    found = Explain(method=IntegratedGradients(400)).build_explainer(
        model, dataset, 0, baseline=own
    )
    assert found.attributions().delta.abs().max() < 0.05


def test_what_never_claimed_to_add_up_is_not_refused(
    build: Callable[..., Recommender], dataset: Dataset
) -> None:
    explain = Explain(method=CaptumMethod("InputXGradient"), tolerance=1e-9)
    found = explain.build_explainer(build("dlrm", embedding=2), dataset, 0).attributions()
    assert found.relative_delta > 0.01
