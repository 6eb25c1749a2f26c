from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from glassrec.data.events import step_names
from glassrec.data.planted_sequence import PlantedSequence
from glassrec.explain.explainer import Explain
from glassrec.explain.selection import Selection
from glassrec.metrics.quality import quality
from glassrec.models.lstm import LSTM
from glassrec.training.objective import Objective
from glassrec.training.trainer import Trainer


def test_clicks_follow_the_item_lag_steps_ago_and_no_other():
    source = PlantedSequence(users=400, lag=2, history=4)
    rows = source.generate()
    item, click = (rows[name].to_numpy().reshape(400, 12) for name in ("item", "click"))
    assert np.isnan(click[:, :2]).all()
    for lag in range(1, 6):
        alike = item[:, lag:] % 2 == item[:, :-lag] % 2
        known = ~np.isnan(click[:, lag:])
        agree = (alike == click[:, lag:])[known].mean()
        # 1 / (1 + e^-3) = .953; elsewhere a coin, with a deviation of at most .5 / √2,000.
        assert agree == pytest.approx(0.953 if lag == 2 else 0.5, abs=0.05)


def test_the_best_possible_auc_is_what_it_says():
    rows = PlantedSequence(users=5000).generate()
    item, click = (rows[name].to_numpy().reshape(5000, 13) for name in ("item", "click"))
    alike = item[:, 3:] % 2 == item[:, :-3] % 2
    assert roc_auc_score(click[:, 3:].ravel(), alike.ravel()) == pytest.approx(0.953, abs=0.003)


def test_every_row_has_the_step_that_matters():
    source = PlantedSequence(users=50)
    data = source.load(seed=0)
    assert [split.batch.rows for split in data.splits.values()] == [350, 50, 100]
    for split in data.splits.values():
        assert split.batch.history.shape[1] == 6
        assert (split.batch.history[:, -3:] > 0).all()
    assert (data.train.batch.history[:, 0] == 0).any()
    assert data.ground_truth.pairs == {("history[-3]", "item"): 3.0}
    raw = source.generate()["item"].to_numpy().reshape(50, 13)
    items = sorted(np.unique(raw))
    newest = data.test.batch.history.view(2, 50, 6)[1] - data.schema.offsets[1] - 1
    users = data.test.batch.ids.view(2, 50, 2)[1, :, 0] - 1
    assert np.array_equal(np.array(items)[newest], raw[users, 6:12])


def test_it_needs_no_file_and_no_seed():
    source = PlantedSequence(users=30)
    assert source.fingerprint() == {}
    first, second = source.load(seed=0), source.load(seed=1)
    assert torch.equal(first.test.batch.ids, second.test.batch.ids)
    other = PlantedSequence(users=30, generator_seed=1).load(seed=0)
    assert not torch.equal(first.test.batch.ids, other.test.batch.ids)


def test_a_lag_beyond_the_history_is_refused():
    with pytest.raises(ValueError, match="lag 4 lies beyond the history of 3 steps"):
        PlantedSequence(history=3, lag=4)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_explanations_find_the_step_that_matters(tmp_path, cell):
    data = PlantedSequence(users=1000, items=8).load(seed=0)
    torch.manual_seed(0)
    model = LSTM(data.schema, embedding=8, hidden=16, cell=cell)
    trained = Trainer(max_epochs=6, batch_size=256).fit(
        model, data, partial(torch.optim.Adam, lr=0.02, fused=True), seed=0, directory=tmp_path,
        origin="here", objective=Objective(), validate=partial(quality, name="val"),
        on_epoch=lambda _: None,
    )  # fmt: skip
    model.load(trained.weights, "here")
    assert quality(model, data, "test")["auroc"] > 0.93
    explain = Explain(granularity="steps", select=Selection("test"))
    found = explain.build_explainer(model, data, seed=0).attributions()
    assert list(found.features) == step_names(6)
    largest = found.values.abs().argmax(1)
    assert (largest == 3).float().mean() >= 0.95
    assert found.importance().index[0] == "history[-3]"
    # The parts add up, with all that is no step as it is in the row.
    assert found.relative_delta < 0.02
