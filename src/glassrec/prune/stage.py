"""Pruning a trained model: choose units, prove or rank them, cut, certify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

import pandas as pd
from annotated_types import Ge, Interval, MinLen

from glassrec.artifacts import Certificate, PrunePlan, Weights, digest
from glassrec.data.batch import Batch, track_batches
from glassrec.data.dataset import Dataset
from glassrec.models.base import Recommender
from glassrec.prune.budget import Budget, Measures
from glassrec.prune.certificate import certify, data_digests, refuse_non_finite
from glassrec.prune.constants import Emitted, emitted
from glassrec.prune.curves import Curves
from glassrec.prune.domain import LIMIT, combinations, domain, ground, tried
from glassrec.prune.levels import EXACT
from glassrec.prune.plan import Draft, Level, Watch
from glassrec.prune.scores import Conductance, Evidence, Loss, Score
from glassrec.prune.surgery import compact, copied, cut, precise, without
from glassrec.spelling import one_of

NOTHING = Measures()


@dataclass(frozen=True)
class Prune:
    """How to prune.

    Args:
        level: what a unit must be to go. domain: constant or unread whatever comes in, by interval
            bounds or by every combination of ids. data: constant on every row of every split, so
            the cut is exact there. sample: of zero conductance on the explained rows. budget: of
            the least worth. The last two may change any row, and the certificate says by how much.
        layers: those that may be cut: `top.0`, or `top` for all of that tower; all if None.
        score: level budget: what a unit is worth.
        share: level budget: how much goes; with `within`, the most that may go.
        of: what it is a share of: the units of each layer, or all units, parameters or
            floating-point operations, with units ranked over all layers.
        within: level budget: what the validation metric may lose, before any fine-tuning; as much
            goes as that allows. None sets no such limit.
        rounds: level budget: how many cuts the share is reached in; worth is measured anew each
            time.
        epochs: level budget: of training on after each round.
        fold: levels sample and budget: whether the mean of a unit takes its place. If not, 0 does.
        rows: training rows on which worth and means are measured.
        combinations: level domain: how many combinations of ids are tried one by one, at most, for
            a model that reads nothing else; interval bounds take over beyond.
        chunk: rows that pass the model at once; bounds the memory.
        curves: the cuts that are tried for the curve of quality against the share that goes.
    """

    level: Literal["domain", "data", "sample", "budget"] = "data"
    layers: Annotated[Sequence[str], MinLen(1)] | None = None
    score: Score = field(default_factory=Conductance)
    share: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    of: Literal["layer", "units", "parameters", "flops"] = "layer"
    within: Annotated[float, Ge(0)] | None = None
    rounds: Annotated[int, Ge(1)] = 1
    epochs: Annotated[int, Ge(0)] = 0
    fold: bool = True
    rows: Annotated[int, Ge(1)] = 10_000
    combinations: Annotated[int, Ge(0)] = LIMIT
    chunk: Annotated[int, Ge(1)] = 16384
    curves: Curves | None = None

    def __post_init__(self) -> None:
        if self.level not in get_args(Level):
            choice = one_of(self.level, get_args(Level))
            raise ValueError(f"prune.level: no level {self.level!r}{choice}")
        if not 0 <= self.share < 1:
            raise ValueError(
                f"prune.share: {self.share:g} is not allowed; must be at least 0 and below 1, as "
                "each layer keeps a unit"
            )

    def stays(self, model: Recommender) -> dict[str, str]:
        """Why each layer of a model keeps all of its units; empty for those that may be cut.

        Raises:
            ValueError: `layers` names one that there is not, or that is not prunable.
        """
        layers = model.layers
        if self.layers is None:
            return {name: layer.not_prunable_reason or "" for name, layer in layers.items()}
        stays = dict.fromkeys(layers, "it is not in prune.layers")
        for wanted in self.layers:
            found = [name for name in layers if f"{name}.".startswith(f"{wanted}.")]
            if not found:
                towers = dict.fromkeys(name.split(".")[0] for name in layers)
                known = dict.fromkeys([*towers, *layers])
                raise ValueError(f"prune.layers: no layer {wanted!r}{one_of(wanted, known)}")
            for name in found:
                if reason := layers[name].not_prunable_reason:
                    raise ValueError(f"prune.layers: {name} cannot be pruned: {reason}")
                stays[name] = ""
        return stays

    def plan(
        self,
        model: Recommender,
        scores: pd.DataFrame,
        dataset: Dataset,
        *,
        seed: int = 0,
        measures: Measures = NOTHING,
        whole: Recommender | None = None,
    ) -> PrunePlan:
        """Decide which units go.

        Args:
            model: the trained model.
            scores: of its neurons, see `artifacts.Table`.
            dataset: all rows of its splits, held-out rows and their candidates too.
            seed: of the rows that worth is measured on, and of what is drawn.
            measures: what some scores and budgets need.
            whole: what `share` is a share of; the model itself if None.

        Raises:
            ValueError: a layer of `layers` does not exist or is not prunable.
        """
        model = precise(model.eval())
        draft = Draft(model, scores, self.stays(model))
        if self.level in EXACT:
            watch, ground = self._watch(model, dataset)
            draft.drop_constant(watch, self.level)
            return draft.plan(self.level, ground=ground, folded=True)
        single = copied(model).float()  # what is approximate needs no more
        evidence = self.evidence(single, scores, dataset, seed, measures.loss)
        means = evidence.stand_ins(folded=self.fold)
        if self.level == "sample":
            draft.drop(draft.proposed(), means, self.level)
            return draft.plan(self.level, folded=self.fold)
        budget = Budget(self.share, self.of, self.within, whole or single, measures)
        goes = budget.goes(
            self.score.of(evidence), lambda goes: without(copied(single), goes, means)
        )
        draft.drop(goes, means, self.level)
        return draft.plan(self.level, score=self.score.name, folded=self.fold)

    def _watch(self, model: Recommender, dataset: Dataset) -> tuple[Watch, str]:
        """How an exact level watches units, and what it stands on."""
        if self.level == "domain":
            words = ground(model.schema, self.combinations)
            return lambda small: self._domain(small, dataset), words
        rows = sum(split.batch.rows for split in dataset.splits.values())
        every = f"all {rows:,} rows"
        return lambda small: emitted(small, track_batches(_rows(dataset, self.chunk), rows)), every

    def _domain(self, small: Recommender, dataset: Dataset) -> dict[str, Emitted]:
        return domain(small, dataset.schema, self.combinations, self.chunk)

    def evidence(
        self,
        model: Recommender,
        scores: pd.DataFrame,
        dataset: Dataset,
        seed: int,
        loss: Loss | None,
    ) -> Evidence:
        """What worth and means are measured on; arguments as those of `plan`."""
        stays = self.stays(model)
        layers = {name: layer for name, layer in model.layers.items() if not stays[name]}
        rows = dataset.sample(self.rows, seed)
        return Evidence(model, layers, scores, rows, self.chunk, seed, loss)

    def cut(self, model: Recommender, plan: PrunePlan) -> Weights:
        """The weights of the smaller model; ValueError if the plan is of another."""
        return Weights(compact(cut(model, plan).state_dict()))

    def certify(
        self,
        model: Recommender,
        pruned: Weights,
        plan: PrunePlan,
        dataset: Dataset,
        *,
        files: Mapping[str, str],
        given: Mapping[str, Mapping[str, str]],
    ) -> Certificate:
        """Compare both models on all rows.

        Args:
            model: the large one.
            pruned: the weights of the small one.
            plan: what went.
            dataset: all rows.
            files: the sha256 of the files of both models and of the plan.
            given: the sha256 of what came from outside, see `Certificate`.

        Raises:
            BrokenPromiseError: an exact level did not keep its promise.
            ValueError: weights are not finite.
        """
        refuse_non_finite("weights.safetensors", model.state_dict())
        refuse_non_finite("pruned.safetensors", pruned.tensors)
        large = precise(model).eval()
        small = deepcopy(large)  # with a table of its own, as others are loaded into it
        small.load(pruned.tensors, "the pruned model")
        rows = {
            name: track_batches(split.batch.chunks(self.chunk), split.batch.rows)
            for name, split in dataset.splits.items()
        }
        if plan.level == "domain" and (count := tried(large.schema, self.combinations)):
            every = combinations(dataset.schema, large.schema, self.chunk, large.device)
            rows["combinations"] = track_batches(every, count, "combinations")
        return certify(
            large,
            small,
            plan,
            rows,
            weights=digest(model.state_dict()),
            pruned=digest(pruned.tensors),
            files=files,
            given=given,
            splits=data_digests(dataset),
        )


def _rows(dataset: Dataset, chunk: int) -> Iterator[Batch]:
    """All rows of all splits."""
    for split in dataset.splits.values():
        yield from split.batch.chunks(chunk)
