"""Lists served to one user are those of all rows scored, with the reasons of the same method."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from captum import attr
from raw_clicks import FinishedRun
from torch import Tensor

import glassrec
from glassrec.explain.methods.deeplift import DeepLift
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.inference.serving import Server
from glassrec.models.base import Inputs
from glassrec.models.lstm import LSTM


@pytest.mark.parametrize("which", ["finished", "sequential"])
@pytest.mark.parametrize("model", ["trained", "pruned"])
def test_lists_are_those_of_recommend(
    which: str, model: str, request: pytest.FixtureRequest
) -> None:
    """With the run's own method, the same items, numbers and words."""
    finished: FinishedRun = request.getfixturevalue(which)
    run = glassrec.load(finished.directory)
    server = run.serve(model=model, method=run.opened.explain_settings.method)
    for user in ("u_00007", "u_00011", "u_00003"):
        context = {"city": "Łódź"} if which == "finished" else {}
        expected = run.recommend(user, 6, context=context, reasons=4, model=model)
        found = server.recommend(server.user(user, context), 6, reasons=4)
        columns = ["user", "rank", "item", "name", *(f"reason_{n}" for n in range(1, 5))]
        pd.testing.assert_frame_equal(found[columns], expected[columns], check_dtype=False)
        for name in ("probability", "logit"):
            assert np.abs(found[name] - expected[name]).max() < 1e-5


def test_some_items_and_seen_ones(finished: FinishedRun) -> None:
    run = glassrec.load(finished.directory)
    keep, drop = run.serve(seen="keep"), run.serve()
    user = keep.user("u_00007")
    everything = keep.recommend(user, 1000)
    seen = {*finished.log.loc[finished.log["user_id"] == "u_00007", "sku"]}
    unseen = drop.recommend(user, 1000)["item"].tolist()
    assert unseen == [item for item in everything["item"] if item not in seen] != []
    some = everything["item"].tolist()[::-3]
    assert keep.recommend(user, 1000, items=some)["item"].tolist() == some[::-1]
    with pytest.raises(ValueError, match="'nothing' is no candidate"):
        keep.recommend(user, items=[some[0], "nothing"])


def captums(server: Server, rows: Inputs, method: type, **given: object) -> Tensor:
    """Stock Captum's attributions (B, P) by column."""
    explainer, model = server.lists.explainer, server.lists.model
    kept = rows.history, rows.steps

    def logit(dense: Tensor, fields: Tensor) -> Tensor:
        past = (part[:1].expand(len(dense), *part.shape[1:]) for part in kept)
        return model.task_logits(Inputs(dense, fields, *past))[:, explainer.task]

    base = tuple(explainer.bases[:2])
    dense, fields = method(logit).attribute(tuple(rows[:2]), base, **given)
    return torch.cat([dense, fields.sum(2)], 1).float()


def test_reasons_are_captums_and_complete(finished: FinishedRun) -> None:
    run = glassrec.load(finished.directory)
    by_path, by_slopes = run.serve(method=IntegratedGradients(50)), run.serve()
    for server in (by_path, by_slopes):
        user, lists = server.user("u_00007").batch, server.lists
        found = lists.best(user, 5, lists.all)
        rows = lists.scorer.inputs(lists.model.embed(user), found.places)
        base = lists.model.task_logits(lists.explainer.bases)[:, 0]
        if server is by_path:
            expected = captums(server, rows, attr.IntegratedGradients, n_steps=50)
            torch.testing.assert_close(found.attributions, expected, rtol=0, atol=1e-5)
        else:
            assert "DeepLIFT" in lists.method.name
            whole = found.attributions.sum(1) + base
            torch.testing.assert_close(whole, found.logits, rtol=0, atol=1e-5)


def test_a_model_without_rules_falls_back_to_the_runs_method(
    sequential: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = LSTM.score
    monkeypatch.setattr(LSTM, "score", lambda *of: torch.maximum(score(*of), score(*of) - 1))
    run = glassrec.load(sequential.directory)
    server = run.serve()
    assert server.lists.method == run.opened.explain_settings.method
    assert len(server.recommend(server.user("u_00003"), 3)) == 3
    with pytest.raises(ValueError, match="no rule for `maximum`"):
        _ = run.serve(method=DeepLift()).lists
