"""The pictures of an explanation: which there are, and what each is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from glassrec.artifacts import Picture
from glassrec.explain import explanation_tables as tables
from glassrec.explain.explainer import KNOWN
from glassrec.report.input_figures import feature_importance, feature_pairs, removals, selections
from glassrec.report.method_figures import faithfulness_curves, methods_agreement, methods_table
from glassrec.report.neuron_figures import (
    MAX_ROWS,
    layer_neurons,
    neuron_importance,
    neurons_over_rows,
)
from glassrec.report.row_figures import attribution_strips, explains_steps, single_rows, time_steps

if TYPE_CHECKING:
    from glassrec.stages.explain import Explaining

SAMPLE = 2000
"""Rows, at most, of pictures that show single ones."""

Drawing = tuple[str, list[str], Callable[[], Picture]]
"""A picture's name, the artifacts that it is made of, and how."""


def pictures(found: Explaining) -> Iterator[Drawing]:
    """All pictures of an explanation; none of what is zero everywhere."""
    about = found.about
    moves = not about.constant and found.importance["mean_abs"].any()
    if moves:
        yield from _of_inputs(found)
    yield from _of_neurons(found)
    if not moves:
        return
    yield from _of_methods(found)
    if len(found.pairs) > 1 and found.pairs["mean_abs"].any():
        rows = min(found.settings.explain.pair_rows, about.rows)
        yield (
            "feature_pairs",
            ["pairs.parquet", "explanation.json"],
            lambda: feature_pairs(found.pairs, rows, about),
        )
    if found.against is not None:
        compared, other = found.against
        yield (
            "selections",
            ["selections.parquet", "explanation.json", "explanation_against.json"],
            lambda: selections(compared, about, other),
        )


def _of_inputs(found: Explaining) -> Iterator[Drawing]:
    about = found.about
    of_rows = ["attributions.parquet", "explanation.json"]
    yield (
        "feature_importance",
        ["importance.parquet", "explanation.json"],
        lambda: feature_importance(found.importance, about),
    )
    yield "single_rows", of_rows, lambda: single_rows(found.attributions.sample(SAMPLE), about)
    yield "spread", of_rows, lambda: attribution_strips(found.attributions.sample(SAMPLE), about)
    if explains_steps(found.attributions.players):
        yield "time_steps", of_rows, lambda: _time_steps(found)
    rows, shares = min(KNOWN, about.rows), found.removals
    yield (
        "removals",
        ["removals.parquet", "explanation.json"],
        lambda: removals(shares, rows, about),
    )


def _time_steps(found: Explaining) -> Picture:
    sample = found.attributions.sample(SAMPLE)
    history = found.explainer.split.batch.history[sample.rows]
    return time_steps(sample, history, found.about)


def _of_neurons(found: Explaining) -> Iterator[Drawing]:
    """One of all layers, and two of the first cut and of the last layer."""
    scores, about = found.neurons, found.about
    if not scores["max_abs"].any():
        return
    inputs = ["neurons.parquet", "explanation.json"]
    yield "neuron_importance", inputs, lambda: neuron_importance(scores, about)
    layers = found.completeness
    shown = dict.fromkeys([*layers["layer"][layers["cut"]].head(1), *layers["layer"].tail(1)])
    for layer in shown:
        own = scores[scores["layer"] == layer]
        if not own["max_abs"].any():
            continue
        name = layer.replace(".", "_")
        yield f"neurons_{name}", inputs, partial(layer_neurons, own, about)
        yield (
            f"neurons_{name}_over_rows",
            [*inputs, "weights.safetensors"],
            partial(_over_rows, found, layer, list(own["name"])),
        )


def _over_rows(found: Explaining, layer: str, names: list[str]) -> Picture:
    sample = found.attributions.sample(MAX_ROWS)
    values = tables.neuron_values(found.explainer, sample.rows)[layer]
    return neurons_over_rows(values, sample.logits, names, found.about)


def _of_methods(found: Explaining) -> Iterator[Drawing]:
    about = found.about
    rows = min(found.settings.explain.faithfulness.rows, about.rows)
    judged = ["methods.parquet", "explanation.json"]
    yield "methods", judged, lambda: methods_table(found.methods, rows, about)
    if len(found.curves):
        yield (
            "faithfulness",
            ["curves.parquet", "explanation.json"],
            lambda: faithfulness_curves(found.curves, rows, about),
        )
    if found.agreement["first"].nunique() > 1:
        yield (
            "agreement",
            ["agreement.parquet", "explanation.json"],
            lambda: methods_agreement(found.agreement, rows, about),
        )
