"""Methods side by side: what the tables hold, and that they put the right method first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.explain.evaluation import method_comparison as comparison
from glassrec.explain.evaluation.faithfulness import Sample, curves, infidelity, subsets
from glassrec.explain.evaluation.method_comparison import (
    MEASURES,
    Faithfulness,
    MethodComparison,
    compare_methods,
    nearby,
    randomisation,
    sensitivity,
)
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.methods.coalitions import Shapley
from glassrec.explain.methods.gradients import GradientShap, IntegratedGradients
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender

SETTINGS = Faithfulness(steps=6, subsets=30, points=2, models=2)
WEIGHTS = torch.linspace(-2, 3, 11)


@dataclass(frozen=True)
class Refusing(IntegratedGradients):
    """Cannot explain; or only once it is asked about inputs that moved."""

    allowed: int = 0

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        if view.rows == 1 or self.allowed:
            return super().attribute(view, seed)
        raise ValueError("no rule for this model")


@pytest.fixture
def found(linear: Callable[..., Sample], arbitrary: Method) -> MethodComparison:
    methods = {
        "ig": IntegratedGradients(2),
        "too_many": Shapley(max_features=10),
        "shapley": Shapley(),
        "refusing": Refusing(),
        "arbitrary": arbitrary,
    }
    return compare_methods(methods, linear(WEIGHTS, rows=100), SETTINGS, seed=0)


def test_every_method_has_its_row_and_who_cannot_explain_its_reason(
    found: MethodComparison,
) -> None:
    table = found.methods.set_index("method")
    assert [*table] == ["name", "complete", "problem", *MEASURES]
    assert table.index.tolist() == ["ig", "too_many", "shapley", "refusing", "arbitrary"]
    assert table["name"]["ig"] == IntegratedGradients(2).name
    assert table["complete"].tolist() == [True, True, True, True, False]
    assert "11 features need 2,048 evaluations" in table["problem"]["too_many"]
    assert table["problem"]["refusing"] == "no rule for this model"
    assert (table["problem"][["ig", "shapley", "arbitrary"]] == "").all()
    assert table.loc[["too_many", "refusing"], [*MEASURES]].isna().all(axis=None)
    drawn = table.loc["arbitrary", [*MEASURES]].astype(float)
    assert drawn.notna().all()
    assert (table.loc[["ig", "shapley"], "seconds"] > 0).all()
    assert table.loc[["ig", "shapley"], "agreement"].isna().all()


def test_an_average_over_training_rows_is_left_out_beside_one_baseline(
    linear: Callable[..., Sample],
) -> None:
    methods = {"expected": GradientShap()}
    one, two = (
        compare_methods(methods, linear(WEIGHTS, background=many), SETTINGS, 0).methods["problem"][
            0
        ]
        for many in (1, 2)
    )
    assert "set explain.baseline=background" in one
    assert two == ""


def test_arbitrary_parts_are_worst_in_every_respect(found: MethodComparison) -> None:
    table = found.methods.set_index("method")
    right, wrong = table.loc["ig"], table.loc["arbitrary"]
    assert right["delta"] < 1e-6 < 0.5 < wrong["delta"]
    assert right["infidelity"] < 1e-9 < 0.5 < wrong["infidelity"]
    assert right["randomisation"] < 0.6 < wrong["randomisation"]
    assert wrong["agreement"] < 0.2
    for kind in ("deletion", "insertion"):
        assert right[kind] > right[f"{kind}_random"] + 0.3 > wrong[kind]


def test_measures_are_those_of_the_functions(linear: Callable[..., Sample]) -> None:
    sample = linear(WEIGHTS[:5], rows=20, background=2)
    table = compare_methods({"shapley": Shapley()}, sample, SETTINGS, seed=3).methods.loc[0]
    parts = sample.attributions(Shapley(), 3)
    near = nearby(sample.inputs, SETTINGS.radius, SETTINGS.points, 3)
    expected = curves(sample, parts, SETTINGS.steps, 3).areas | {
        "infidelity": infidelity(sample, parts, subsets(5, SETTINGS.subsets, 3)),
        "sensitivity": sensitivity(Shapley(), sample, near, 3),
        "randomisation": randomisation(Shapley(), sample, SETTINGS.models, 3),
    }
    assert table[[*expected]].to_dict() == pytest.approx(expected)


def test_seconds_are_for_a_thousand_rows(
    linear: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 10.5])
    monkeypatch.setattr(comparison, "perf_counter", lambda: next(clock))
    table = compare_methods(
        {"ig": IntegratedGradients(2)}, linear(WEIGHTS, rows=20), SETTINGS, 0
    ).methods
    assert table["seconds"][0] == 25


def test_delta_is_what_the_parts_miss(linear: Callable[..., Sample]) -> None:
    @dataclass(frozen=True)
    class Half(IntegratedGradients):
        def attribute(self, view: MaskedModel, seed: int) -> Tensor:
            return super().attribute(view, seed) / 2

    sample = linear(WEIGHTS, background=3)
    table = compare_methods({"half": Half(2)}, sample, SETTINGS, seed=0).methods
    assert table["delta"][0] == pytest.approx(0.5)


def test_curves_are_those_of_each_method_that_explains(found: MethodComparison) -> None:
    assert [*found.curves] == ["method", "kind", "order", "share", "mean_logit"]
    sizes = found.curves.groupby(["method", "kind", "order"], sort=False).size()
    assert sizes.unique().tolist() == [SETTINGS.steps + 1]
    assert sizes.index.get_level_values(0).unique().tolist() == ["ig", "shapley", "arbitrary"]
    by_method = {key: curve["mean_logit"] for key, curve in found.curves.groupby("method")}
    np.testing.assert_allclose(by_method["ig"], by_method["shapley"])


def test_methods_agree_with_themselves_and_with_those_that_are_right(
    found: MethodComparison,
) -> None:
    matrix = found.agreement.pivot(index="first", columns="second", values="correlation")
    assert {*matrix} == {"ig", "shapley", "arbitrary"}
    np.testing.assert_allclose(np.diag(matrix), 1)
    np.testing.assert_allclose(matrix, matrix.T)
    assert matrix.loc["ig", "shapley"] == pytest.approx(1)
    assert abs(matrix.loc["ig", "arbitrary"]) < 0.2


def test_if_no_method_can_explain_the_tables_keep_their_columns(
    linear: Callable[..., Sample],
) -> None:
    found = compare_methods({"refusing": Refusing()}, linear(WEIGHTS), SETTINGS, seed=0)
    assert found.methods["problem"].tolist() == ["no rule for this model"]
    assert [*found.curves] == ["method", "kind", "order", "share", "mean_logit"]
    assert [*found.agreement] == ["first", "second", "correlation"]
    assert [*found.importance] == ["method", "player", "mean_abs"]
    assert found.curves.empty
    assert found.agreement.empty


def _sample(model: Recommender, batch: Batch, chunk: int) -> Sample:
    rows = Inputs(*(part.detach() for part in model.embed(batch)))
    inputs, others = (Inputs(*(part[at] for part in rows)) for at in (slice(6), slice(6, 12)))
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    base = build_baseline(model, "mean", inputs).expand_to(inputs)
    return Sample(MaskedModel(model, mask, inputs, base, chunk=chunk), others)


def test_chunks_change_no_table(model: Recommender, batch: Batch, arbitrary: Method) -> None:
    methods = {"ig": IntegratedGradients(3), "arbitrary": arbitrary}
    whole, chunked = (
        compare_methods(methods, _sample(model, batch, chunk), SETTINGS, seed=0)
        for chunk in (10_000, 7)
    )
    for first, second in zip(whole, chunked, strict=True):
        same = [column for column in first if column != "seconds"]
        pd.testing.assert_frame_equal(first[same], second[same], rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same(model: Recommender, batch: Batch) -> None:
    methods = {"ig": IntegratedGradients(3)}
    sample = _sample(model, batch, 10_000)
    view, others = sample.view, sample.references
    here = compare_methods(methods, sample, SETTINGS, seed=0)
    inputs, base, others = (
        Inputs(*(part.cuda() for part in rows)) for rows in (view.inputs, view.baseline, others)
    )
    mask = replace(view.feature_mask, feature_ids=view.feature_mask.feature_ids.cuda())
    there = replace(view, model=model.cuda(), feature_mask=mask, inputs=inputs, baseline=base)
    found = compare_methods(methods, Sample(there, others), SETTINGS, seed=0)
    for first, second in zip(here, found, strict=True):
        same = [column for column in first if column != "seconds"]
        pd.testing.assert_frame_equal(first[same], second[same], rtol=1e-2, atol=1e-3)
