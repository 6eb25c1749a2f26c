"""The tables that an explanation consists of, each from an explainer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from math import inf, isnan

import pandas as pd
import torch
from torch import Tensor

from glassrec.artifacts import Attributions, Explanation
from glassrec.data.dataset import GroundTruth
from glassrec.data.schema import Schema
from glassrec.explain import faithfulness, stability
from glassrec.explain.comparison import Comparison, compare
from glassrec.explain.completeness import completeness
from glassrec.explain.exchange import Exchange
from glassrec.explain.explainer import KNOWN, ROUNDING, Explainer
from glassrec.explain.game import Game
from glassrec.explain.gates import Granularity
from glassrec.explain.interactions import evaluations, interactions, names
from glassrec.explain.significance import permuted_features, permuted_labels
from glassrec.explain.statistics import Spread
from glassrec.explain.truth import score_main, score_pairs, score_players
from glassrec.models.base import Recommender
from glassrec.models.layers import PrunableLayer
from glassrec.progress import with_progress

DRAWS = 1000
"""Permutations: the least p-value is a thousandth."""

KINDS = 3
"""Of inputs, at most: dense columns, fields and a history."""

SAME = 1e-6
"""The share of their size by which logits that are equal may differ in float32."""

TINY = 1e-300
"""Where nothing moves the logit, what parts miss of its difference is beyond measure."""

STEPS = 32
"""Of the path that tells whether layers are complete."""


class Totals:
    """What is known of all attributions once their pieces have passed: statistics, and facts."""

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = explainer
        self.spread = Spread(seed=explainer.seed)
        self._sums = torch.zeros(5, dtype=torch.float64)
        self._least, self._most = inf, -inf

    def read(self, pieces: Iterable[Attributions]) -> Totals:
        """Take all pieces in; a row is known by its number in the split."""
        for piece in pieces:
            self.spread.add(piece.values.unsqueeze(0), piece.rows)
            difference = piece.logits - piece.baseline_logits
            sizes = piece.delta.abs(), difference.abs(), piece.logits.abs()
            each = piece.logits, piece.baseline_logits, *sizes
            self._sums += torch.stack([part.double().sum() for part in each])
            ends = torch.cat([piece.logits, piece.baseline_logits]).aminmax()
            self._least = min(self._least, ends.min.item())
            self._most = max(self._most, ends.max.item())
        return self

    def statistics(self) -> pd.DataFrame:
        """One row a player: its name, and the columns of `Spread`."""
        return pd.concat(
            [pd.Series(self.explainer.view.players, name="player"), self.spread.frame()], axis=1
        )

    def about(self, agreement: float | None) -> Explanation:
        """The facts, given how far two seeds agree."""
        settings, explainer = self.explainer.settings, self.explainer
        logit, at_baseline, missed, difference, size = (self._sums / self.spread.rows).tolist()
        constant = self._most - self._least <= SAME * max(abs(self._most), abs(self._least))
        delta = missed / max(difference, TINY) if missed > ROUNDING * size else 0.0
        return Explanation(
            method=explainer.method.name,
            neurons=settings.neurons.name,
            baseline=explainer.baseline,
            selection=explainer.selection,
            task=explainer.target.name,
            rows=self.spread.rows,
            mean_logit=logit,
            mean_baseline_logit=at_baseline,
            relative_delta=delta,
            complete=settings.method.complete,
            agreement=agreement,
            rank_stability=self.spread.stability,
            trusted=not settings.method.complete or delta <= settings.tolerance,
            constant=constant,
            unread=unread(explainer),
        )


def unread(explainer: Explainer) -> tuple[str, ...]:
    """The columns of the data that the model does not read, in their order."""
    columns, read = (_columns(each.schema) for each in (explainer.dataset, explainer.model))
    return tuple(name for name in columns if name not in read)


def _columns(schema: Schema) -> list[str]:
    """All columns, and the history where there is one."""
    history = ["history"] if schema.history_length else []
    return [*schema.dense, *schema.field_names, *history]


def agreement(explainer: Explainer) -> float | None:
    """The mean rank correlation, over some rows, of two seeds' parts.

    None if nothing is drawn, or nothing can be ranked, as with one player.
    """
    method, seed = explainer.method, explainer.seed
    if not method.draws(len(explainer.view.players)):
        return None
    sample = explainer.sample(explainer.settings.faithfulness.rows)
    found = stability.agreement(method, sample, (seed, seed + 1))
    return None if isnan(found) else found


def significance(explainer: Explainer, attributions: Attributions) -> pd.DataFrame:
    """p_value and q_value of each player, from some of the explained rows.

    None if not asked, or where labels are all the same, as a retrieval's are: permuted, they could
    only call every effect chance.
    """
    seed, kind = explainer.seed, explainer.target.kind
    default = "labels" if kind == "retrieval" else "features"
    null = explainer.settings.significance or default
    if null == "labels" and len(attributions.labels.unique()) > 1:
        return permuted_labels(attributions.values, attributions.labels, DRAWS, seed)
    if null == "features" and len(attributions.rows) > 1:
        game, labels = explainer.beside_others(KNOWN), _labels(explainer, KNOWN)
        exchange = Exchange.of(game, seed)
        return permuted_features(exchange, labels, kind, DRAWS, seed)
    return pd.DataFrame(index=range(len(explainer.view.players)))


def _labels(explainer: Explainer, count: int) -> Tensor:
    return explainer.split.batch.targets[explainer.few(count), explainer.task]


def neurons(explainer: Explainer, done: int = 0) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """What flows through each unit of each layer, some rows at a time, after the first `done`.

    Yields:
        The number B of rows, and (C, B, U) by layer. C holds each emission a row, of each task:
        that of the explained task's last one comes last. So the maximum over C tells who is silent
        for all, as a unit that only another task reads does something.
    """
    others = [t for t in range(len(explainer.dataset.schema.targets)) if t != explainer.task]
    for game in explainer.games(explainer.rows[done:], explainer.settings.neurons.evaluations):
        found = [_units(explainer, game, task) for task in (*others, explainer.task)]
        values = {name: torch.cat([each[name] for each in found]) for name in found[0]}
        yield game.rows // explainer.bases.rows, values


def neuron_scores(explainer: Explainer) -> pd.DataFrame:
    """One row a unit of any layer: statistics over the explained rows."""
    spreads = {name: Spread(seed=explainer.seed) for name in explainer.model.layers}
    for values in with_progress(neurons(explainer), len(explainer.rows)):
        for name, spread in spreads.items():
            spread.add(values[name])
    return neuron_table(explainer.model, spreads)


def units(explainer: Explainer, rows: Tensor) -> dict[str, Tensor]:
    """(N, U) by layer: what flows through each unit for some rows of the split."""
    games = explainer.games(rows, explainer.settings.neurons.evaluations)
    found = [_units(explainer, game, explainer.task) for game in games]
    return {name: torch.cat([each[name][-1] for each in found]).cpu() for name in found[0]}


def _units(explainer: Explainer, game: Game, task: int) -> dict[str, Tensor]:
    found = explainer.settings.neurons.values(explainer.model, game.inputs, game.baseline, task)
    return {name: explainer.averaged(values, 1).detach() for name, values in found.items()}


def neuron_table(model: Recommender, spreads: Mapping[str, Spread]) -> pd.DataFrame:
    """One row a unit: which it is, statistics of what flows through it, and `rank_stability`.

    The last is its layer's `Spread.stability`.
    """
    frames = [
        pd.concat([_about(name, layer), spreads[name].frame()], axis=1).assign(
            rank_stability=spreads[name].stability
        )
        for name, layer in model.layers.items()
    ]
    return pd.concat(frames, ignore_index=True) if frames else NO_NEURONS


def layer_completeness(explainer: Explainer) -> pd.DataFrame:
    """Whether each layer's conductance adds up, on some of the rows."""
    games = explainer.games(explainer.few(explainer.settings.faithfulness.rows), STEPS + 1)
    beside = ((game.inputs, game.baseline) for game in games)
    return completeness(explainer.model, beside, steps=STEPS, task=explainer.task)


def pairs(explainer: Explainer) -> pd.DataFrame:
    """Statistics of the interaction of every two features, the strongest first.

    A player is a whole feature, though the settings ask for its dimensions.
    """
    asked = explainer.settings.players
    kinds: list[Granularity] = [asked] if isinstance(asked, str) else [*asked]
    view = explainer.gates(["fields" if kind == "dimensions" else kind for kind in kinds])
    rows = explainer.few(explainer.settings.pair_rows)
    if not len(rows) or len(view.players) < 2:
        return NO_PAIRS
    spread = Spread(seed=explainer.seed)
    games = explainer.games(rows, evaluations(len(view.players)), view=view)
    parts = ((game.rows // explainer.bases.rows, game) for game in games)
    for game in with_progress(parts, len(rows)):
        spread.add(explainer.averaged(interactions(game)).unsqueeze(0))
    frame = pd.concat([names(view.players, _weights(explainer.model)), spread.frame()], axis=1)
    return frame.sort_values("mean_abs", ascending=False, kind="stable", ignore_index=True)


def judged(explainer: Explainer) -> Comparison:
    """The method of the settings and those beside it, on the same few rows."""
    settings = explainer.settings
    methods = dict(settings.compare)
    method = explainer.method
    if method not in methods.values():
        key = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(method).__name__).lower()
        methods = {key if key not in methods else f"{key}_chosen": method, **methods}
    sample = explainer.sample(settings.faithfulness.rows)
    return compare(methods, sample, settings.faithfulness, explainer.seed)


def removals(explainer: Explainer) -> pd.DataFrame:
    """What removing all dense, or all other inputs of a row does to its prediction."""
    beside_baselines = explainer.games(explainer.few(KNOWN), KINDS + 1)
    beside_others = [explainer.beside_others(KNOWN)]
    return faithfulness.removals({"baseline": beside_baselines, "data row": beside_others})


def known_effects(explainer: Explainer) -> GroundTruth | None:
    """The true effects, if there are any and players are whole columns, as those of effects are."""
    return explainer.dataset.ground_truth if explainer.settings.players == "fields" else None


def marks(explainer: Explainer, importance: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, float]:
    """How well effects that are known were found, by name of the ranking; else empty.

    players and pairs are the rankings of the tables. main is that of what each player does alone,
    main_importance that of the players, marked by who has a main effect. Those that end in _signed
    are by signed means instead, in which rows cancel, and pairs_weights is by the model's weights.
    """
    truth = known_effects(explainer)
    if truth is None or len(explainer.rows) < 2 or not importance["max_abs"].any():
        return {}  # what is zero everywhere is no ranking
    by_player = importance.set_index("player")
    strengths = Exchange.of(explainer.beside_others(KNOWN), explainer.seed).main_effects()
    main = pd.Series(strengths["strength"].to_numpy(), by_player.index)
    found = {
        "players": score_players(by_player["mean_abs"], truth),
        "players_signed": score_players(by_player["mean"].abs(), truth),
        "main": score_main(main, truth),
        "main_importance": score_main(by_player["mean_abs"], truth),
        "main_importance_signed": score_main(by_player["mean"].abs(), truth),
    }
    if len(pairs):
        by_pair = pairs.set_index(["first", "second"])
        found["pairs"] = score_pairs(by_pair["mean_abs"], truth)
        found["pairs_signed"] = score_pairs(by_pair["mean"].abs(), truth)
        if "weight_norm" in by_pair:
            found["pairs_weights"] = score_pairs(by_pair["weight_norm"], truth)
    return {
        f"truth/{name}_{mark}": value
        for name, score in found.items()
        for mark, value in (("precision", score.precision), ("correlation", score.correlation))
    }


def marks_of_methods(importance: pd.DataFrame, truth: GroundTruth) -> pd.DataFrame:
    """How well each method finds known effects.

    Args:
        importance: method, player, mean_abs.
        truth: the effects.

    Returns:
        One row a method: method; truth_precision and truth_correlation of its ranking of the
        players; main_precision and main_correlation of the same ranking, marked by main effects.
    """
    kinds = {"truth": score_players, "main": score_main}
    columns = [f"{kind}_{mark}" for kind in kinds for mark in ("precision", "correlation")]
    found = {}
    for method, one in importance.groupby("method"):
        sizes = one.set_index("player")["mean_abs"]
        found[method] = [
            mark for marked in kinds.values() for mark in astuple(marked(sizes, truth))
        ]
    table = pd.DataFrame.from_dict(found, orient="index", columns=columns)
    return table.rename_axis("method").reset_index()


NO_NEURONS = pd.DataFrame(
    columns=["layer", "position", "unit", "name", *Spread.COLUMNS, "rank_stability"]
)
NO_PAIRS = pd.DataFrame(columns=["first", "second", *Spread.COLUMNS])


def _weights(model: Recommender) -> pd.DataFrame | None:
    """The model's own view of its pairs of features, by their names, if it has one."""
    norms = model.feature_pairs()
    columns = [*model.schema.dense, *model.schema.field_names]
    return None if norms is None else pd.DataFrame(norms.cpu().numpy(), columns, columns)


def _about(name: str, layer: PrunableLayer) -> pd.DataFrame:
    """Which units a layer has."""
    return pd.DataFrame(
        {
            "layer": name,
            "position": range(len(layer.units)),
            "unit": layer.units.tolist(),
            "name": layer.neuron_names(name),
        }
    )
