"""Rows on which methods are judged: their baselines are averaged, and chunks change nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glassrec.explain.evaluation.faithfulness import Sample
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.methods.gradients import IntegratedGradients

WEIGHTS = torch.tensor([2.0, -1, 0, 0.5])


def test_all_is_averaged_over_the_baselines_of_a_row(linear: Callable[..., Sample]) -> None:
    sample = linear(WEIGHTS, rows=3, background=4)
    assert (sample.rows, sample.background, sample.view.rows) == (3, 4, 12)
    x = sample.view.inputs.dense[::4]
    base = sample.view.baseline.dense.view(3, 4, 4).mean(1)
    parts = WEIGHTS.double() * (x - base)
    torch.testing.assert_close(sample.attributions(IntegratedGradients(2), 0), parts)
    torch.testing.assert_close(sample.difference, parts.sum(1))
    without_first = torch.tensor([[0.0, 1, 1, 1]])
    whole = sample.logits(torch.ones(1, 4))
    torch.testing.assert_close(whole - sample.logits(without_first), parts[:, :1])


@pytest.mark.parametrize("chunk", [1, 7])
def test_chunks_change_neither_parts_nor_draws(
    linear: Callable[..., Sample], arbitrary: Method, chunk: int
) -> None:
    whole, chunked = (linear(WEIGHTS, background=2, chunk=c) for c in (10_000, chunk))
    for method in (arbitrary, IntegratedGradients(3)):
        torch.testing.assert_close(whole.attributions(method, 4), chunked.attributions(method, 4))


def test_a_method_gets_no_more_rows_than_a_chunk_has_room_for(
    linear: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    own = IntegratedGradients.attribute

    def attribute(self: IntegratedGradients, view: MaskedModel, seed: int) -> torch.Tensor:
        seen.append(view.rows)
        return own(self, view, seed)

    monkeypatch.setattr(IntegratedGradients, "attribute", attribute)
    linear(WEIGHTS, rows=10, chunk=12).attributions(IntegratedGradients(3), 0)
    assert seen == [4, 4, 2]


def test_beside_others_a_feature_that_is_off_has_their_value(linear: Callable[..., Sample]) -> None:
    sample = linear(WEIGHTS, rows=3, background=4)
    view = sample.with_reference_rows()
    torch.testing.assert_close(view.masked_out.dense, sample.references.dense)
    torch.testing.assert_close(view.inputs.dense, sample.view.inputs.dense[::4])
    assert view.index.tolist() == [0, 4, 8]


def test_moved_inputs_stand_beside_every_baseline(linear: Callable[..., Sample]) -> None:
    sample = linear(WEIGHTS, rows=3, background=4)
    moved = sample.with_inputs(sample.inputs._replace(dense=sample.inputs.dense + 1))
    torch.testing.assert_close(moved.difference, sample.difference + WEIGHTS.double().sum())


def test_the_first_rows_keep_their_baselines_and_others(linear: Callable[..., Sample]) -> None:
    sample = linear(WEIGHTS, rows=3, background=4)
    first = sample.first(2)
    assert (first.rows, first.background) == (2, 4)
    torch.testing.assert_close(first.difference, sample.difference[:2])
    torch.testing.assert_close(first.references.dense, sample.references.dense[:2])


def test_rows_that_do_not_match_are_refused(linear: Callable[..., Sample]) -> None:
    sample = linear(WEIGHTS, rows=5)
    with pytest.raises(ValueError, match=r"got 2 for a view of 5 rows"):
        Sample(sample.view, sample.first(2).references)
    with pytest.raises(ValueError, match=r"got 0 for a view of 5 rows"):
        Sample(sample.view, type(sample.references)(*(part[:0] for part in sample.references)))
