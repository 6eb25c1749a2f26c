"""Rows beside their baselines: in how large pieces, which baselines, and what titles call them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from glassrec.artifacts import Explanation
from glassrec.data.dataset import Dataset
from glassrec.explain import explainer, explanation_tables
from glassrec.explain.explainer import Explain, Explainer
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.deeplift import DeepLiftShap
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.methods.lime import Lime
from glassrec.explain.selection import Selection
from glassrec.models.base import Inputs, Recommender

Build = Callable[..., Recommender]


@dataclass(frozen=True)
class WrongOfOneRow(IntegratedGradients):
    """Parts that are right but for those of the last of 21 rows."""

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        return super().attribute(view, seed) * (1 + (view.index == 20).unsqueeze(1))


def test_a_row_that_is_left_over_is_not_judged_by_itself(
    build: Build, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explainer, "PIECE", 20)
    settings = Explain(method=WrongOfOneRow(200), select=Selection(rows=21), tolerance=0.5)
    pieces = [*settings.build_explainer(build("dlrm"), dataset, 0).pieces()]
    assert [len(piece.rows) for piece in pieces] == [11, 10]
    assert pieces[-1].delta.abs().argmax() == 9


def test_baselines_of_your_own_are_counted_and_named(build: Build, dataset: Dataset) -> None:
    model, settings = build("dlrm"), Explain(method=DeepLiftShap(), select=Selection(rows=5))
    with pytest.raises(ValueError, match="there is 1 baseline"):
        settings.build_explainer(model, dataset, 0).check()
    own = Inputs(*(part.detach() for part in model.embed(dataset.train.batch.slice(0, 3))))
    given = settings.build_explainer(model, dataset, 0, own)
    given.check()
    assert _about(given).baseline == "3 given rows"


@pytest.mark.parametrize(
    ("baseline", "name"), [("zero", "zero"), ("background:7", "7 training rows")]
)
def test_titles_name_the_baseline(build: Build, dataset: Dataset, baseline: str, name: str) -> None:
    settings = Explain(method=IntegratedGradients(9), baseline=baseline, select=Selection(rows=5))
    asked = replace(settings, tolerance=9.0).build_explainer(build("dlrm"), dataset, 0)
    assert _about(asked).baseline == name


def test_where_nothing_can_be_ranked_seeds_do_not_agree(build: Build, dataset: Dataset) -> None:
    one = {"all": ["dense", "fields"]}
    settings = Explain(method=Lime(samples=9), granularity="groups", groups=one)
    assert explanation_tables.agreement(settings.build_explainer(build("dlrm"), dataset, 0)) is None


def test_rows_beside_others_are_those_of_the_sample(build: Build, dataset: Dataset) -> None:
    asked = Explain(baseline="background:3").build_explainer(build("lstm"), dataset, 0)
    alone, sampled = asked.with_reference_rows(9), asked.sample(9).with_reference_rows()
    for one, other in zip(
        (*alone.inputs, *alone.baseline), (*sampled.inputs, *sampled.baseline), strict=True
    ):
        assert torch.equal(one, other)
    assert torch.equal(alone.difference, sampled.difference)


def _about(asked: Explainer) -> Explanation:
    return explanation_tables.AttributionTotals(asked).update(asked.pieces()).summary(None)
