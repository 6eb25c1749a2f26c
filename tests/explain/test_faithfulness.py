"""Curves, infidelity and removals against brute force, formulas and Captum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.explain.evaluation.faithfulness import Sample, curves, infidelity, removals, subsets
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender

WEIGHTS = torch.linspace(-2, 3, 7)


def _sample(model: Recommender, batch: Batch) -> Sample:
    """Four rows beside their mean, and four others."""
    model.double()
    rows = model.embed(batch._replace(dense=batch.dense.double()))
    inputs, others = (
        Inputs(*(part.detach()[at] for part in rows)) for at in (slice(4), slice(4, 8))
    )
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    base = build_baseline(model, "mean", inputs).expand_to(inputs)
    return Sample(MaskedModel(model, mask, inputs, base), others)


def _by_hand(sample: Sample, parts: Tensor, kind: str) -> np.ndarray:
    """The mean logit of a linear model with the first k features replaced, or put back, by row."""
    weights, bias = (p.detach().numpy() for p in sample.view.model.output.parameters())
    x, other = sample.inputs.dense.numpy(), sample.references.dense.numpy()
    logits = np.empty((len(x), x.shape[1] + 1))
    for row, part in enumerate(parts.numpy()):
        now, then = (x, other) if kind == "deletion" else (other, x)
        mixed = now[row].copy()
        for k, feature in enumerate([None, *sorted(range(len(part)), key=lambda p: -part[p])]):
            if feature is not None:
                mixed[feature] = then[row, feature]
            logits[row, k] = mixed @ weights[0] + bias[0]
    return logits.mean(0)


@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_curves_equal_replacing_one_feature_after_the_other(
    linear: Callable[..., Sample], kind: str
) -> None:
    sample = linear(WEIGHTS)
    parts = sample.attributions(IntegratedGradients(2), 0)
    frame, areas = curves(sample, parts, steps=20, seed=0)
    found = frame.query("kind == @kind and order == 'method'")
    expected = _by_hand(sample, parts, kind)
    np.testing.assert_allclose(found["share"], np.arange(8) / 7)
    np.testing.assert_allclose(found["mean_logit"], expected, rtol=1e-12, atol=1e-12)
    change = np.abs(
        (sample.inputs.dense - sample.references.dense).numpy() @ WEIGHTS.numpy()
    ).mean()
    moved = (expected - expected[0]) * (1 if kind == "insertion" else -1)
    area = ((moved[1:] + moved[:-1]) / 2).mean() / change
    assert areas[kind] == pytest.approx(area, rel=1e-6)


def test_both_ends_are_the_row_and_the_other_row_and_chunks_change_nothing(
    linear: Callable[..., Sample], arbitrary: Method
) -> None:
    whole, chunked = linear(WEIGHTS), linear(WEIGHTS, chunk=11)
    frame, areas = curves(whole, whole.attributions(arbitrary, 0), steps=3, seed=1)
    score = whole.view.model.score
    ends = [score(rows).mean().item() for rows in (whole.inputs, whole.references)]
    for (kind, _), curve in frame.groupby(["kind", "order"]):
        found = curve["mean_logit"].iloc[[0, -1]].tolist()
        assert found == pytest.approx(ends if kind == "deletion" else ends[::-1])
        assert curve["share"].tolist() == pytest.approx([0, 2 / 7, 5 / 7, 1])
    assert curves(
        chunked, whole.attributions(arbitrary, 0), steps=3, seed=1
    ).areas == pytest.approx(areas)


def test_only_parts_that_know_the_model_beat_a_random_order(
    linear: Callable[..., Sample], arbitrary: Method
) -> None:
    sample = linear(WEIGHTS, rows=300)
    right = curves(sample, sample.attributions(IntegratedGradients(2), 0), steps=20, seed=0).areas
    chance = curves(sample, sample.attributions(arbitrary, 0), steps=20, seed=0).areas
    wrong = curves(sample, -sample.attributions(IntegratedGradients(2), 0), steps=20, seed=0).areas
    for kind in ("deletion", "insertion"):
        assert right[kind] > 0.3 + right[f"{kind}_random"]
        assert chance[kind] == pytest.approx(chance[f"{kind}_random"], abs=0.1)
        assert wrong[kind] < wrong[f"{kind}_random"] - 0.3
        assert right[f"{kind}_random"] == chance[f"{kind}_random"]


def test_a_random_order_favours_neither_end_of_a_linear_model(
    linear: Callable[..., Sample],
) -> None:
    sample = linear(WEIGHTS)
    frame, areas = curves(sample, torch.zeros(30, 7), steps=20, seed=0)
    change = (sample.inputs.dense - sample.references.dense) @ WEIGHTS.double()
    expected = (change.mean() / 2 / change.abs().mean()).item()
    assert areas["deletion_random"] == pytest.approx(expected)
    assert areas["insertion_random"] == pytest.approx(expected)
    curve = frame.query("kind == 'deletion' and order == 'random'")["mean_logit"].to_numpy()
    np.testing.assert_allclose(curve + curve[::-1], curve[0] + curve[-1])


def test_a_model_that_nothing_moves_has_no_area(linear: Callable[..., Sample]) -> None:
    sample = linear(torch.zeros(3))
    areas = curves(sample, torch.rand(30, 3), steps=20, seed=0).areas
    assert np.isnan([*areas.values()]).all()


def test_many_features_are_replaced_in_few_steps(linear: Callable[..., Sample]) -> None:
    sample = linear(torch.randn(107), rows=3)
    frame = curves(sample, torch.randn(3, 107), steps=20, seed=0).frame
    assert frame.groupby(["kind", "order"]).size().tolist() == [21] * 4


@pytest.mark.parametrize("name", ["dlrm", "neumf", "lstm"])
def test_infidelity_is_that_of_captum_on_the_same_sets(
    build: Callable[..., Recommender], batch: Batch, name: str
) -> None:
    sample = _sample(build(name), batch)
    view = sample.view
    parts = sample.attributions(IntegratedGradients(8), 0)
    removed = subsets(view.size, 25, seed=3)

    def forward(on: Tensor) -> Tensor:
        inputs, base = (
            Inputs(*(x.repeat_interleave(len(on) // 4, 0) for x in rows))
            for rows in (view.inputs, view.baseline)
        )
        return view.model.task_logits(view.feature_mask.apply(on, inputs, base))[:, 0]

    def perturb(on: Tensor) -> tuple[Tensor, Tensor]:
        drawn = removed.repeat(4, 1)
        return drawn, on - drawn

    def reference(values: Tensor) -> Tensor:
        on = torch.ones_like(parts)
        return captum_infidelity(forward, perturb, on, values, n_perturb_samples=25).mean()

    expected = reference(parts) / reference(torch.zeros_like(parts))
    assert expected > 1e-4
    assert infidelity(sample, parts, removed) == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("background", [1, 3])
def test_infidelity_of_a_linear_model_is_known(
    linear: Callable[..., Sample], arbitrary: Method, background: int
) -> None:
    sample = linear(WEIGHTS, background=background)
    removed = subsets(7, 200, seed=0)
    parts = sample.attributions(IntegratedGradients(2), 0)
    for scale, expected in ((1, 0), (0, 1), (2, 1), (0.5, 0.25)):
        assert infidelity(sample, scale * parts, removed) == pytest.approx(expected, abs=1e-9)
    assert infidelity(sample, 3 * sample.attributions(arbitrary, 0), removed) > 1


def test_sets_are_of_all_sizes_and_follow_the_seed() -> None:
    drawn = subsets(10, 5000, seed=2)
    # A share that is uniform makes each of the 11 sizes equally likely.
    counts = torch.bincount(drawn.sum(1).long(), minlength=11) / 5000
    torch.testing.assert_close(counts, torch.full((11,), 1 / 11), rtol=0, atol=0.02)
    assert torch.equal(drawn, subsets(10, 5000, seed=2))
    assert not torch.equal(drawn, subsets(10, 5000, seed=3))


def _without(inputs: Inputs, replacement: Inputs, kind: str) -> Inputs:
    return inputs._replace(**{kind: getattr(replacement, kind)})


def test_removing_a_kind_equals_replacing_its_inputs(model: Recommender, batch: Batch) -> None:
    sample = _sample(model, batch)
    frame = removals(
        {"baseline": sample.view.chunks(500_000), "data row": [sample.with_reference_rows()]}
    )
    inputs, others = sample.inputs, sample.references.expand_to(sample.inputs)
    replacements = {"baseline": sample.view.baseline, "data row": others}
    kinds = [kind for kind in ("dense", "fields", "history") if getattr(inputs, kind)[0].numel()]
    assert [*zip(frame["removed"], frame["replacement"], strict=True)] == [
        (kind, replacement) for replacement in replacements for kind in kinds
    ]
    for _, row in frame.iterrows():
        mixed = _without(inputs, replacements[row["replacement"]], row["removed"])
        for when, rows in (("before", inputs), ("after", mixed)):
            logits = model.task_logits(rows)[:, 0].detach()
            assert row[f"mean_logit_{when}"] == pytest.approx(logits.mean().item())
            assert row[f"positive_{when}"] == pytest.approx((logits > 0).double().mean().item())


def test_removals_do_not_depend_on_the_features(
    build: Callable[..., Recommender], batch: Batch
) -> None:
    model = build("dlrm")
    sample = _sample(model, batch)
    dense = build_feature_mask(model.schema, model.width, "dense", model.device)
    other = MaskedModel(model, dense, sample.view.inputs, sample.view.baseline, chunk=3)
    found, expected = (removals({"baseline": [view]}) for view in (other, sample.view))
    pd.testing.assert_frame_equal(found, expected)
