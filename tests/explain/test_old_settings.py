"""Settings of an earlier version build the explanations of today."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate

from glassrec.aliases import current, original
from glassrec.config import compose
from glassrec.explain.captum_methods import CaptumMethod, CaptumNeurons
from glassrec.explain.explainer import Explain
from glassrec.explain.methods.coalitions import Shapley
from glassrec.explain.selection import Selection

OLD = {
    "_target_": "glassrec.explain.stage.Explain",
    "players": "dimensions",
    "against": {"_target_": "glassrec.explain.selection.Selection", "rows": 9},
    "method": {
        "_target_": "glassrec.explain.neuron_conductance.NeuronConductance",
        "neuron": "top.0[1]",
        "steps": 8,
    },
    "neurons": {"_target_": "glassrec.explain.neurons.InternalInfluence", "steps": 4},
    "compare": {
        "shapley": {"_target_": "glassrec.explain.shapley.Shapley", "max_players": 9},
        "gradient": {"_target_": "glassrec.explain.gradients.InputXGradient"},
    },
}


def test_a_saved_explanation_of_an_earlier_version_is_built() -> None:
    config, notes = current({"explain": OLD})
    through = CaptumMethod(
        "NeuronConductance", {"method": "gausslegendre", "n_steps": 8}, neuron="top.0[1]"
    )
    assert instantiate(config["explain"], _convert_="all") == Explain(
        granularity="dimensions",
        reference=Selection(rows=9),
        method=through,
        neurons=CaptumNeurons("InternalInfluence", {"n_steps": 4}),
        compare={"shapley": Shapley(9), "gradient": CaptumMethod("InputXGradient", view="mask")},
    )
    assert any("explain.players is now explain.granularity" in note for note in notes)
    assert any("max_players" in note and "max_features" in note for note in notes)
    # So no result that was made under the old settings is stale.
    assert original(config) == {"explain": OLD}


@pytest.mark.parametrize(
    ("words", "today"),
    [
        (["explain.players=[steps,fields]"], ["explain.granularity=[steps,fields]"]),
        (
            ["explain/against=all", "explain.against.split=test"],
            ["explain/reference=all", "explain.reference.split=test"],
        ),
        (
            ["explain/neurons=internal_influence", "explain.neurons.steps=5"],
            ["explain/neurons=internal_influence", "explain.neurons.kwargs.n_steps=5"],
        ),
        (
            ["explain/method=shapley", "explain.method.max_players=5"],
            ["explain/method=shapley", "explain.method.max_features=5"],
        ),
    ],
)
def test_a_command_of_an_earlier_version_means_the_same(
    words: list[str], today: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert compose.prepare("run", words) == compose.prepare("run", today)
