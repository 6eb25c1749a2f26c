"""Explain: which inputs moved the predictions, through which neurons, and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import pandas as pd
from safetensors.torch import load_file, save_file

from glassrec.artifacts import AttributionFile, Explanation, Metrics, Table
from glassrec.data.dataset import Dataset
from glassrec.explain import explanation_tables as tables
from glassrec.explain.evaluation.method_comparison import MethodComparison
from glassrec.explain.evaluation.significance import ROWS
from glassrec.explain.explainer import Explainer
from glassrec.explain.statistics import RunningStatistics, compare_selections
from glassrec.models.base import Recommender
from glassrec.progress import with_progress
from glassrec.run import replacing
from glassrec.stages import tracked
from glassrec.stages.explain_lines import lines
from glassrec.stages.pictures import pictures
from glassrec.stages.stage import Stage
from glassrec.stages.train import Training

SAVED_EVERY = 60.0
"""Seconds after which the statistics of neurons are saved, for a killed process to go on from."""

MODEL = ["weights.safetensors"]

ROWS_AND_BASELINE = ("task", "baseline", "select")
PLAYERS = (*ROWS_AND_BASELINE, "granularity", "groups")
METHOD = (*PLAYERS, "method", "tolerance")
JUDGED = (*METHOD, "compare", "faithfulness")
NEURONS = (*ROWS_AND_BASELINE, "neurons")
"""The settings that several results need: another one does not make them anew."""


class Explaining(Stage):
    """Attributions, what is known of neurons and pairs, and the trust that they deserve."""

    name: ClassVar[str] = "explain"
    slot: ClassVar[str | None] = "explain"

    def __init__(self, trained: Training) -> None:
        super().__init__(trained.settings, trained.log, trained.given)
        self.trained = trained

    def tell(self) -> None:
        """Attribute the logit to the inputs and to every neuron."""
        for line in lines(self):
            self.say(line)
        for name, inputs, draw in pictures(self):
            self.figure(name, inputs, draw)
        tracked.explanation(self)

    # What is found, in the order in which it is made.

    @cached_property
    def explainer(self) -> Explainer:
        """Who answers about the trained model."""
        explainer = self.trained.explain.build_explainer(*self._explained)
        explainer.check()
        return explainer

    @property
    def _explained(self) -> tuple[Recommender, Dataset, int]:
        return self.trained.model, self.trained.dataset, self.settings.seed

    @cached_property
    def attributions(self) -> AttributionFile:
        """What each input contributed to each logit."""
        return self._attributed("attributions.parquet", METHOD, lambda: self.explainer)

    def _attributed(
        self,
        name: str,
        needs: Sequence[str],
        explainer: Callable[[], Explainer],
        whose: str = "the predictions",
    ) -> AttributionFile:
        self.trained.weights  # noqa: B018  made first: it is the input
        self.once(
            name,
            AttributionFile,
            lambda: self._pieces(name, needs, explainer()),
            inputs=MODEL,
            needs=needs,
            doing=f"attributing {whose} to the inputs",
        )
        # The pieces that it was made of are gone.
        return AttributionFile.load(self.run.dir / name)

    def _pieces(self, name: str, needs: Sequence[str], explainer: Explainer) -> AttributionFile:
        """Piece by piece, from where a killed process stopped."""
        folder = self.parts(name, MODEL, needs)
        files = sorted(folder.glob("*.parquet"))
        done = AttributionFile(tuple(files)).rows
        pieces = ((len(piece.rows), piece) for piece in explainer.pieces(done))
        for piece in with_progress(pieces, len(explainer.rows), done):
            files.append(folder / f"{len(files):06}.parquet")
            with replacing(files[-1]) as temporary:
                AttributionFile.write_piece(temporary, piece)
        return AttributionFile(tuple(files))

    @cached_property
    def about(self) -> Explanation:
        """What was explained and how, and how far it can be trusted."""
        self.attributions  # noqa: B018  made first
        return self.once(
            "explanation.json",
            Explanation,
            lambda: self._totals.summary(tables.agreement(self.explainer)),
            inputs=["attributions.parquet"],
            needs=(*METHOD, "neurons", "faithfulness"),
        )

    @cached_property
    def importance(self) -> pd.DataFrame:
        """Statistics of each player's attributions, and whether they could be chance."""
        self.attributions  # noqa: B018  made first
        return self.once(
            "importance.parquet",
            Table,
            self._importance,
            inputs=["attributions.parquet"],
            needs=(*METHOD, "significance"),
        ).frame

    def _importance(self) -> Table:
        chance = tables.significance(self.explainer, self.attributions.sample(ROWS))
        return Table(pd.concat([self._totals.frame(), chance], axis=1))

    @cached_property
    def _totals(self) -> tables.AttributionTotals:
        return self.totals(self.attributions)

    def totals(self, attributions: AttributionFile) -> tables.AttributionTotals:
        """Statistics and facts of attributions."""
        return tables.AttributionTotals(self.explainer).update(attributions.pieces())

    @cached_property
    def neurons(self) -> pd.DataFrame:
        """What each neuron of each layer contributed to the logit."""
        return self.once(
            "neurons.parquet",
            Table,
            lambda: Table(self._neurons()),
            inputs=MODEL,
            needs=NEURONS,
            doing="following the predictions through every neuron",
        ).frame

    def _neurons(self) -> pd.DataFrame:
        saved = self.parts("neurons.parquet", MODEL, NEURONS) / "spreads.safetensors"
        explainer = self.explainer
        spreads = _read(saved) or {
            name: RunningStatistics(seed=explainer.seed) for name in explainer.model.layers
        }
        done, last = max((spread.rows for spread in spreads.values()), default=0), perf_counter()
        for values in with_progress(
            tables.stream_neurons(explainer, done), len(explainer.rows), done
        ):
            for name, spread in spreads.items():
                spread.update(values[name])
            if perf_counter() - last > SAVED_EVERY:
                _write(saved, spreads)
                last = perf_counter()
        return tables.neuron_table(explainer.model, spreads)

    @cached_property
    def completeness(self) -> pd.DataFrame:
        """Which layers are cuts, and what their conductance misses."""
        needs = (*ROWS_AND_BASELINE, "faithfulness")
        return self._table(
            "completeness", lambda: tables.completeness_table(self.explainer), needs=needs
        )

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """What every two features contributed to the logit together."""
        doing = "looking for features that act together"
        needs = (*PLAYERS, "pair_rows")
        return self._table("pairs", lambda: tables.pair_table(self.explainer), doing, needs=needs)

    @cached_property
    def methods(self) -> pd.DataFrame:
        """The method and those beside it: what each misses, how faithful, stable and fast it is."""
        doing = "judging the method and those beside it"
        return self._table("methods", self._methods, doing, needs=JUDGED)

    def _methods(self) -> pd.DataFrame:
        found, truth = self._judged, tables.ground_truth(self.explainer)
        if truth is None:
            return found.methods
        return found.methods.merge(
            tables.ground_truth_by_method(found.importance, truth), how="left"
        )

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Deletion and insertion curves of each method."""
        return self._table("curves", lambda: self._judged.curves, needs=JUDGED)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """How alike any two methods rank the players."""
        return self._table("agreement", lambda: self._judged.agreement, needs=JUDGED)

    @cached_property
    def _judged(self) -> MethodComparison:
        return tables.method_comparison(self.explainer)

    @cached_property
    def removals(self) -> pd.DataFrame:
        """What is left of the predictions without a whole kind of inputs."""
        return self._table(
            "removals", lambda: tables.removal_table(self.explainer), needs=ROWS_AND_BASELINE
        )

    @cached_property
    def marks(self) -> dict[str, float]:
        """How well effects were found, where they are known; else empty."""
        importance, pairs = self.importance, self.pairs
        inputs = [*MODEL, "importance.parquet", "pairs.parquet"]
        return self.once(
            "truth.json",
            Metrics,
            lambda: Metrics(tables.ground_truth_metrics(self.explainer, importance, pairs)),
            inputs=inputs,
            needs=PLAYERS,
        ).values

    @cached_property
    def against(self) -> tuple[pd.DataFrame, Explanation] | None:
        """The comparison with the other selection, and what was explained there."""
        if self.settings.explain.reference is None:
            self.run.forget("attributions_against.parquet")
            return None
        needs = tuple("reference" if name == "select" else name for name in METHOD)
        file = self._attributed(
            "attributions_against.parquet", needs, lambda: self._other, "those of the other rows"
        )
        inputs = ["attributions.parquet", "attributions_against.parquet"]
        totals = cache(lambda: tables.AttributionTotals(self._other).update(file.pieces()))
        about = self.once(
            "explanation_against.json",
            Explanation,
            lambda: totals().summary(None),
            inputs=inputs,
            needs=(*needs, "neurons"),
        )
        players = self.attributions.players
        compared = self._table(
            "selections",
            lambda: compare_selections(players, self._totals.statistics, totals().statistics),
            inputs=inputs,
            needs=(),
        )
        return compared, about

    @cached_property
    def _other(self) -> Explainer:
        """Who explains the other selection in the same way."""
        settings = self.trained.explain
        assert settings.reference is not None, "there is another selection"
        return replace(settings, select=settings.reference).build_explainer(*self._explained)

    def _table(
        self,
        name: str,
        make: Callable[[], pd.DataFrame],
        doing: str = "",
        inputs: Sequence[str] = MODEL,
        needs: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        self.trained.weights  # noqa: B018  made first
        return self.once(
            f"{name}.parquet", Table, lambda: Table(make()), inputs=inputs, doing=doing, needs=needs
        ).frame


def _write(path: Path, spreads: dict[str, RunningStatistics]) -> None:
    tensors = {
        f"{name}/{part}": tensor.contiguous()
        for name, spread in spreads.items()
        for part, tensor in spread.state().items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def _read(path: Path) -> dict[str, RunningStatistics]:
    """What `_write` wrote; empty where there is no file."""
    states: dict[str, dict[str, Any]] = {}
    for name, tensor in load_file(path).items() if path.is_file() else ():
        layer, _, part = name.rpartition("/")
        states.setdefault(layer, {})[part] = tensor
    return {layer: RunningStatistics.from_state(state) for layer, state in states.items()}
