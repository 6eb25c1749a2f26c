"""The tables of an explanation, each computed by an explainer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from math import inf, isnan

import pandas as pd
import torch
from torch import Tensor

from glassrec.artifacts import Attributions, Explanation
from glassrec.data.dataset import GroundTruth
from glassrec.explain.captum_methods import CaptumMethod
from glassrec.explain.evaluation import faithfulness
from glassrec.explain.evaluation.completeness import layer_completeness
from glassrec.explain.evaluation.method_comparison import (
    MethodComparison,
    compare_methods,
    seed_agreement,
)
from glassrec.explain.evaluation.significance import (
    PairedSwap,
    permuted_features,
    permuted_labels,
    score_features,
    score_main,
    score_pairs,
)
from glassrec.explain.explainer import KNOWN, ROUNDING, Explainer
from glassrec.explain.features import Granularity
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.coalitions import interactions, pair_evaluations, pair_names
from glassrec.explain.statistics import RunningStatistics
from glassrec.models.base import Recommender
from glassrec.processes import each
from glassrec.progress import with_progress

DRAWS = 1000
"""Permutations: the smallest p-value is a thousandth."""

INPUT_PARTS = 3
"""Parts of the inputs, at most: dense columns, fields and a history."""

SAME = 1e-6
"""The share of their size by which equal logits may differ in float32."""

STEPS = 32
"""Steps of the path by which the completeness of layers is measured."""


class AttributionTotals:
    """Statistics and metadata of all attributions, gathered piece by piece."""

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = explainer
        self.statistics = RunningStatistics(seed=explainer.seed)
        self._sums = torch.zeros(5, dtype=torch.float64)
        self._least, self._most = inf, -inf

    def update(self, pieces: Iterable[Attributions]) -> AttributionTotals:
        """Add all pieces; a row is identified by its number in the split."""
        for piece in pieces:
            self.statistics.update(piece.values.unsqueeze(0), piece.rows)
            difference = piece.logits - piece.baseline_logits
            sizes = piece.delta.abs(), difference.abs(), piece.logits.abs()
            each = piece.logits, piece.baseline_logits, *sizes
            self._sums += torch.stack([part.double().sum() for part in each])
            ends = torch.cat([piece.logits, piece.baseline_logits]).aminmax()
            self._least = min(self._least, ends.min.item())
            self._most = max(self._most, ends.max.item())
        return self

    def frame(self) -> pd.DataFrame:
        """One row for each feature: player (its name), and the columns of `RunningStatistics`."""
        names = pd.Series(self.explainer.feature_mask.features, name="player")
        return pd.concat([names, self.statistics.frame()], axis=1)

    def summary(self, agreement: float | None) -> Explanation:
        """The explanation's metadata, given the agreement of two seeds."""
        settings, explainer, rows = self.explainer.settings, self.explainer, self.statistics.rows
        logit, at_baseline, error, difference, size = (self._sums / rows).tolist()
        constant = self._most - self._least <= SAME * max(abs(self._most), abs(self._least))
        # Where nothing moves the logit, any error is infinitely large in relation.
        delta = error / max(difference, 1e-300) if error > ROUNDING * size else 0.0
        return Explanation(
            method=explainer.method.name,
            neurons=settings.neurons.name,
            baseline=explainer.baseline,
            selection=explainer.selection,
            task=explainer.target.name,
            rows=rows,
            mean_logit=logit,
            mean_baseline_logit=at_baseline,
            relative_delta=delta,
            complete=settings.method.complete,
            agreement=agreement,
            rank_stability=self.statistics.stability,
            trusted=not settings.method.complete or delta <= settings.tolerance,
            constant=constant,
            unread=unread(explainer),
        )


def unread(explainer: Explainer) -> tuple[str, ...]:
    """The columns of the data that the model does not read, in their order."""
    columns, read = (
        [*each.dense, *each.field_names, *(["history"] if each.history_length else [])]
        for each in (explainer.dataset.schema, explainer.model.schema)
    )
    return tuple(name for name in columns if name not in read)


def agreement(explainer: Explainer) -> float | None:
    """The mean rank correlation of the attributions of two seeds; None without a draw or a
    ranking.
    """
    sample, seed = explainer.sample(explainer.settings.faithfulness.rows), explainer.seed
    found = seed_agreement(explainer.method, sample, (seed, seed + 1))
    return None if isnan(found) else found


def significance(explainer: Explainer, attributions: Attributions) -> pd.DataFrame:
    """p_value and q_value of each feature, from some of the explained rows.

    No columns if there is no test, or where all labels are the same, as a retrieval's are.
    """
    seed, kind = explainer.seed, explainer.target.kind
    default = "labels" if kind == "retrieval" else "features"
    null = explainer.settings.significance or default
    null = null if explainer.dataset.labelled else "none"
    if null == "labels" and len(attributions.labels.unique()) > 1:
        return permuted_labels(attributions.values, attributions.labels, DRAWS, seed)
    if null == "features" and len(attributions.rows) > 1:
        swap = PairedSwap.draw(explainer.with_reference_rows(KNOWN), seed)
        labels = explainer.split.batch.targets[explainer.few(KNOWN), explainer.task]
        return permuted_features(swap, labels, kind, DRAWS, seed)
    return pd.DataFrame(index=range(len(explainer.feature_mask.features)))


def stream_neurons(
    explainer: Explainer, done: int = 0
) -> Iterator[tuple[int, dict[str, RunningStatistics]]]:
    """The number B of rows and the statistics of each layer's neurons, some rows at a time.

    They are of values (C, B, U): C are all activations of a row for each task, the explained task's
    last. So the maximum over C is zero only for a neuron that has no effect on any task. The first
    `done` rows are left out.
    """
    others = [t for t in range(len(explainer.dataset.schema.targets)) if t != explainer.task]
    none = RunningStatistics(seed=explainer.seed)

    def statistics(part: tuple[int, Tensor]) -> tuple[int, dict[str, RunningStatistics]]:
        first, rows = part
        (view,) = explainer.views(rows, explainer.settings.neurons.evaluations)
        found = [_neuron_values(explainer, view, task) for task in (*others, explainer.task)]
        values = {name: torch.cat([each[name] for each in found]) for name in found[0]}
        return len(rows), {name: none.part(x, first) for name, x in values.items()}

    evaluations = explainer.settings.neurons.evaluations
    yield from each(explainer.chunks(explainer.rows[done:], evaluations, done), statistics)


def neuron_scores(
    explainer: Explainer,
    statistics: dict[str, RunningStatistics] | None = None,
    on_update: Callable[[dict[str, RunningStatistics]], None] = lambda _: None,
) -> pd.DataFrame:
    """One row for each neuron: statistics over the explained rows, which go on from those given."""
    statistics = statistics or {
        name: RunningStatistics(seed=explainer.seed) for name in explainer.model.layers
    }
    done = max((each.rows for each in statistics.values()), default=0)
    for found in with_progress(stream_neurons(explainer, done), len(explainer.rows), done):
        for name, known in statistics.items():
            known.merge(found[name])
        on_update(statistics)
    return neuron_table(explainer.model, statistics)


def neuron_values(explainer: Explainer, rows: Tensor) -> dict[str, Tensor]:
    """(N, U) by layer: the values of each neuron for some rows of the split."""
    views = explainer.views(rows, explainer.settings.neurons.evaluations)
    found = [_neuron_values(explainer, view, explainer.task) for view in views]
    return {name: torch.cat([each[name][-1] for each in found]).cpu() for name in found[0]}


def _neuron_values(explainer: Explainer, view: MaskedModel, task: int) -> dict[str, Tensor]:
    found = explainer.settings.neurons.values(explainer.model, view.inputs, view.baseline, task)
    return {name: explainer.averaged(values, 1).detach() for name, values in found.items()}


def neuron_table(model: Recommender, statistics: Mapping[str, RunningStatistics]) -> pd.DataFrame:
    """One row for each neuron: its layer and names, statistics, and the layer's `stability`."""
    frames = [
        statistics[name]
        .frame()
        .assign(rank_stability=statistics[name].stability, layer=name)
        .assign(position=range(len(layer.units)), unit=layer.units.tolist())
        .assign(name=layer.neuron_names(name))[[*NO_NEURONS]]
        for name, layer in model.layers.items()
    ]
    return pd.concat(frames, ignore_index=True) if frames else NO_NEURONS


def completeness_table(explainer: Explainer) -> pd.DataFrame:
    """The completeness error of each layer's conductance, on some of the rows."""
    views = explainer.views(explainer.few(explainer.settings.faithfulness.rows), STEPS + 1)
    return layer_completeness(views, steps=STEPS)


def pair_table(explainer: Explainer) -> pd.DataFrame:
    """Statistics of the interaction of every two features, the strongest first.

    Fields are whole also where the settings ask for their dimensions.
    """
    asked = explainer.settings.granularity
    levels: list[Granularity] = [asked] if isinstance(asked, str) else [*asked]
    mask = explainer.build_feature_mask(["fields" if x == "dimensions" else x for x in levels])
    rows, features = explainer.few(explainer.settings.pair_rows), mask.features
    if not len(rows) or len(features) < 2:
        return NO_PAIRS
    statistics = RunningStatistics(seed=explainer.seed)
    views = explainer.views(rows, pair_evaluations(len(features)), features=mask)
    parts = ((view.rows // explainer.bases.rows, view) for view in views)
    for view in with_progress(parts, len(rows)):
        statistics.update(explainer.averaged(interactions(view)).unsqueeze(0))
    schema, norms = explainer.model.schema, explainer.model.feature_pairs()
    columns = [*schema.dense, *schema.field_names]
    weights = None if norms is None else pd.DataFrame(norms.cpu().numpy(), columns, columns)
    names = pair_names(features, weights)
    frame = pd.concat([names, statistics.frame()], axis=1)
    return frame.sort_values("mean_abs", ascending=False, kind="stable", ignore_index=True)


def method_comparison(explainer: Explainer) -> MethodComparison:
    """The method of the settings compared with others, on the same few rows."""
    settings = explainer.settings
    methods = dict(settings.compare)
    method = explainer.method
    if method not in methods.values():
        kind = method.name if isinstance(method, CaptumMethod) else type(method).__name__
        key = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
        methods = {key if key not in methods else f"{key}_chosen": method, **methods}
    sample = explainer.sample(settings.faithfulness.rows)
    return compare_methods(methods, sample, settings.faithfulness, explainer.seed)


def removal_table(explainer: Explainer) -> pd.DataFrame:
    """The effect of removing all dense columns, all fields or the whole history of a row."""
    with_baselines = explainer.views(explainer.few(KNOWN), INPUT_PARTS + 1)
    with_rows = [explainer.with_reference_rows(KNOWN)]
    return faithfulness.removals({"baseline": with_baselines, "data row": with_rows})


def ground_truth(explainer: Explainer) -> GroundTruth | None:
    """The true effects, if they are known and features are whole columns, as effects are."""
    return explainer.dataset.ground_truth if explainer.settings.granularity == "fields" else None


def ground_truth_metrics(
    explainer: Explainer, importance: pd.DataFrame, pairs: pd.DataFrame
) -> dict[str, float]:
    """Metrics of rankings against known effects, by name of the ranking; else empty.

    players and pairs are the rankings of the tables. main is that of main effects, main_importance
    that of the features, compared with main effects. Those that end in _signed are by signed means
    instead, and pairs_weights is by the model's weights.
    """
    truth = ground_truth(explainer)
    if truth is None or len(explainer.rows) < 2 or not importance["max_abs"].any():
        return {}  # zero everywhere is no ranking
    by_feature = importance.set_index("player")
    swap = PairedSwap.draw(explainer.with_reference_rows(KNOWN), explainer.seed)
    strengths = swap.main_effects()
    main = pd.Series(strengths["strength"].to_numpy(), by_feature.index)
    found = {
        "players": score_features(by_feature["mean_abs"], truth),
        "players_signed": score_features(by_feature["mean"].abs(), truth),
        "main": score_main(main, truth),
        "main_importance": score_main(by_feature["mean_abs"], truth),
        "main_importance_signed": score_main(by_feature["mean"].abs(), truth),
    }
    if len(pairs):
        by_pair = pairs.set_index(["first", "second"])
        found["pairs"] = score_pairs(by_pair["mean_abs"], truth)
        found["pairs_signed"] = score_pairs(by_pair["mean"].abs(), truth)
        if "weight_norm" in by_pair:
            found["pairs_weights"] = score_pairs(by_pair["weight_norm"], truth)
    return {
        f"truth/{name}_{metric}": value
        for name, score in found.items()
        for metric, value in asdict(score).items()
    }


def ground_truth_by_method(importance: pd.DataFrame, truth: GroundTruth) -> pd.DataFrame:
    """One row for each method: its metrics against known effects.

    `importance` has method, player, mean_abs. truth_precision and truth_correlation are of its
    ranking of the features, main_precision and main_correlation of the same against main effects.
    """
    rows = []
    for method, one in importance.groupby("method"):
        row = {"method": method}
        for kind, score in (("truth", score_features), ("main", score_main)):
            metrics = asdict(score(one.set_index("player")["mean_abs"], truth))
            row |= {f"{kind}_{metric}": value for metric, value in metrics.items()}
        rows.append(row)
    columns = [f"{kind}_{m}" for kind in ("truth", "main") for m in ("precision", "correlation")]
    return pd.DataFrame(rows, columns=["method", *columns])


def change_of_kept_neurons(large: Explainer, small: Explainer, count: int) -> float:
    """The largest change of a neuron's value by pruning, as a share of the largest of its layer.

    The mean of |·| over the same rows, at most `count`, is compared, with each model's own
    baseline. It is 0 up to rounding where pruning is exact on the whole path from the baseline to
    the row, too, as at the level domain. A neuron that is constant on the data may still vary
    there.
    """
    rows = large.few(count)
    before, after = (
        {name: each.double().abs().mean(0) for name, each in neuron_values(x, rows).items()}
        for x in (large, small)
    )
    changes = []
    for name, layer in small.model.layers.items():
        kept = torch.searchsorted(large.model.layers[name].units, layer.units).cpu()
        change = (after[name] - before[name][kept]).abs().max()
        changes.append((change / before[name].max().clamp_min(1e-30)).item())
    return max(changes, default=0.0)


NO_NEURONS = pd.DataFrame(
    columns=["layer", "position", "unit", "name", *RunningStatistics.COLUMNS, "rank_stability"]
)
NO_PAIRS = pd.DataFrame(columns=["first", "second", *RunningStatistics.COLUMNS])
