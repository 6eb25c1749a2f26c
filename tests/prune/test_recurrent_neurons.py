"""Recurrent units through all of pruning: plan, cut, certificate, reload."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glassrec.artifacts import Weights
from glassrec.data.dataset import Dataset
from glassrec.explain.explainer import Explain
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.explain.neurons import Conductance
from glassrec.explain.selection import Selection
from glassrec.models.lstm import LSTM
from glassrec.prune.pruner import Pruner

SILENT, CONSTANT = 2, 4
EXPLAIN = Explain(select=Selection(rows=30), neurons=Conductance(4))


@pytest.fixture(params=["lstm", "gru"])
def model(build: Callable[..., LSTM], request: pytest.FixtureRequest) -> LSTM:
    """One recurrent unit always emits zero; another the same in every real step, but not before."""
    model = build("lstm", cell=request.param, hidden=6)
    cell = model.recurrent.cell
    # What is written into the state is the last block of the LSTM's gates, and the GRU's proposal.
    writes = cell.gates if request.param == "lstm" else cell.proposal
    with torch.no_grad():
        for unit, at in ((SILENT, 0.0), (CONSTANT, 40.0)):
            writes.weight[len(writes.weight) - 6 + unit] = 0
            writes.bias[len(writes.bias) - 6 + unit] = at
            for block in range(len(cell.gates.bias) // 6 - (request.param == "lstm")):
                row = 6 * block + unit
                cell.gates.weight[row] = 0
                # No memory of the step before; the other gates are wide open.
                cell.gates.bias[row] = -800 if block == 1 and unit == CONSTANT else 800
    return model


def test_the_unit_that_is_always_zero_goes_and_no_other(model: LSTM, dataset: Dataset) -> None:
    scores = neuron_scores(EXPLAIN.build_explainer(model, dataset, 0))
    prune = Pruner()
    plan = prune.plan(model, scores, dataset)
    assert plan.layers["recurrent"].constants == {SILENT: 0.0}
    assert CONSTANT in plan.layers["recurrent"].kept
    pruned = prune.prune(model, plan)
    certificate = prune.certify(model, pruned, plan, dataset, files={}, given={})
    assert certificate.exact
    assert certificate.max_abs_logit_difference < 1e-12
    assert _rows(pruned) * 6 == _rows(Weights(model.state_dict())) * 5


def _rows(weights: Weights) -> int:
    return len(weights.tensors["recurrent.cell.gates.weight"])


def test_a_unit_that_is_constant_but_for_padding_stays(model: LSTM, dataset: Dataset) -> None:
    """Folding its constant would put it into the state that the first step reads."""
    full = Dataset(
        dataset.schema, *(
            split.__class__(split.batch._replace(history=split.batch.ids[:, -1:].repeat(1, 4)))
            for split in dataset.splits.values()
        ),
    )  # fmt: skip
    scores = neuron_scores(EXPLAIN.build_explainer(model, full, 0))
    layer = Pruner().plan(model, scores, full).layers["recurrent"]
    assert layer.constants == {SILENT: 0.0}
    assert layer.tied == 1
