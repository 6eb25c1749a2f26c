"""The settings of an explanation, and the explainer that they build for a model and its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from re import fullmatch
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from glassrec.artifacts import Attributions
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Target
from glassrec.explain.evaluation.faithfulness import Sample
from glassrec.explain.evaluation.method_comparison import Faithfulness
from glassrec.explain.features import Granularity, build_feature_mask
from glassrec.explain.masking import FeatureMask, MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.neurons import Conductance, NeuronMethod
from glassrec.explain.path import BaselineKind, build_baseline, rows_at_once
from glassrec.explain.selection import Selection, draw
from glassrec.models.base import Inputs, Recommender
from glassrec.processes import alone, each
from glassrec.progress import with_progress
from glassrec.spelling import one_of

BASELINES = ("zero", "mean", "unseen", "background", "background:50")
"""The values of `explain.baseline`; background alone is background:50, and may have any number."""

PIECE = 4096
"""Rows, at most, of which results are handed on together; a killed process loses so many."""

ROUNDING = 1e-5
"""The share of the mean |logit| up to which a completeness error is rounding."""

KNOWN = 4096
"""Training rows, at most, that the mean embedding is taken of."""


@dataclass(frozen=True)
class Explain:
    """How to explain.

    Args:
        task: the target whose logit is explained; the first one if None, in a run the first that
            is learnt.
        method: how the logit's difference from the baseline is divided among the features.
        neurons: how every neuron of every layer is scored.
        granularity: what gets an attribution: each dense column, each field and each step of a
            history; the same with each embedding dimension; the dense columns alone; the steps
            alone; or `groups`. Of several, a value belongs to the first that covers it.
        groups: by name, the columns `price`, dimensions `user[0:8]`, steps `history[-1]` or parts
            `dense` that are masked together.
        baseline: all zeros, the mean embedding of training rows, each field's unseen id, or N
            training rows drawn at random, over which results are averaged.
        select: which rows are explained.
        reference: other rows, for which the same explanation is made and compared.
        compare: other methods that are evaluated with this one.
        faithfulness: how thoroughly methods are evaluated.
        significance: how a feature's effect is tested: its values swapped between rows, labels
            permuted over rows, or not at all; None is features, but labels for a retrieval, which
            has no loss of a single row.
        pair_rows: on how many of the rows pairs of features are explained; 0 leaves that out. P
            features take 1 + P (P + 1) / 2 evaluations a row.
        tolerance: the largest completeness error of a method that should be complete, as a share of
            the logit difference.
        memory: MiB that the rows which pass the model at once may take.
    """

    task: str | None = None
    method: Method = field(default_factory=IntegratedGradients)
    neurons: NeuronMethod = field(default_factory=Conductance)
    granularity: (
        Literal["fields", "dimensions", "dense", "steps", "groups"]
        | Sequence[Literal["fields", "dimensions", "dense", "steps", "groups"]]
    ) = "fields"
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    baseline: str = "mean"
    select: Selection = field(default_factory=Selection)
    reference: Selection | None = None
    compare: Mapping[str, Method] = field(default_factory=dict)
    faithfulness: Faithfulness = field(default_factory=Faithfulness)
    significance: Literal["features", "labels", "none"] | None = None
    pair_rows: Annotated[int, Ge(0)] = 200
    tolerance: Annotated[float, Gt(0)] = 0.05
    memory: Annotated[int, Ge(1)] = 64

    def __post_init__(self) -> None:
        if not fullmatch("zero|mean|unseen|background(:0*[1-9][0-9]*)?", self.baseline):
            raise ValueError(
                f"explain.baseline: no baseline {self.baseline!r}{one_of(self.baseline, BASELINES)}"
            )
        if not self.granularity:
            raise ValueError("explain.granularity: the list is empty; e.g. [groups,fields]")
        levels = [self.granularity] if isinstance(self.granularity, str) else self.granularity
        if "groups" in levels and not self.groups:
            raise ValueError(
                "explain.granularity: no group is named; e.g. explain.groups={who: [age, user]}"
            )
        if self.groups and "groups" not in levels:
            raise ValueError(
                f"explain.groups: {', '.join(self.groups)} would not be used; "
                "set explain.granularity=groups, or [groups,fields]"
            )

    @property
    def kind(self) -> BaselineKind:
        """The kind of the baseline, without the number of its rows."""
        kind: BaselineKind = self.baseline.partition(":")[0]  # type: ignore[assignment]
        return kind

    @property
    def baselines(self) -> int:
        """Over how many baselines results are averaged."""
        _, _, count = self.baseline.partition(":")
        return int(count or 50) if self.kind == "background" else 1

    def build_explainer(
        self, model: Recommender, dataset: Dataset, seed: int, baseline: Inputs | None = None
    ) -> Explainer:
        """Build an explainer for a model, put into evaluation mode, and its data.

        `baseline` is embedded rows of your own in the place of the settings' baseline.

        Raises:
            ValueError: there is no such task, feature or group, or the baseline does not fit.
        """
        return Explainer(self, model, dataset, seed, baseline)


class Explainer:
    """Explains one task of one model on some rows of one dataset; see `Explain.build_explainer`."""

    def __init__(
        self,
        settings: Explain,
        model: Recommender,
        dataset: Dataset,
        seed: int,
        own_baseline: Inputs | None = None,
    ) -> None:
        self.settings, self.model, self.dataset, self.seed = settings, model.eval(), dataset, seed
        tasks = [target.name for target in dataset.schema.targets]
        if settings.task is not None and settings.task not in tasks:
            raise ValueError(
                f"explain.task: no task {settings.task!r}{one_of(settings.task, tasks)}"
            )
        self.task = 0 if settings.task is None else tasks.index(settings.task)
        self.feature_mask = self.build_feature_mask(settings.granularity)
        self.own = own_baseline is not None
        if own_baseline is not None:
            row = self._embedded(torch.tensor([0]))
            self.bases = Inputs(*(part.to(model.device) for part in own_baseline))
            for one in range(self.bases.rows):
                Inputs(*(part[one : one + 1] for part in self.bases)).expand_to(row)

    def check(self) -> None:
        """ValueError, before hours of training, if a method cannot explain this model."""
        settings = self.settings
        many = self.bases.rows if self.own else settings.baselines
        settings.method.check(self.model, self.feature_mask, many)
        settings.neurons.check(self.model)
        settings.select.check(self.dataset)
        if settings.significance == "features" and self.target.kind == "retrieval":
            raise ValueError(
                "explain.significance=features: a retrieval has no loss of a single row; take "
                "labels or none"
            )

    @cached_property
    def matching(self) -> Tensor:
        """The rows of the split that pass the filters of the selection."""
        with alone():  # the processes need them at different times
            return self.settings.select.matching(self.model, self.dataset, self.task)

    @cached_property
    def rows(self) -> Tensor:
        """(N,) int32: the explained rows of the split, in order."""
        select, matching = self.settings.select, self.matching
        return select.draw(matching, self.seed, select.held_out(matching, self.dataset, self.task))

    @property
    def selection(self) -> str:
        """The explained rows in words, for titles."""
        held_out = self.settings.select.held_out(self.rows, self.dataset, self.task)
        count = None if held_out is None else int(held_out.sum())
        return self.settings.select.describe(len(self.matching), count)

    @cached_property
    def bases(self) -> Inputs:
        """The M baselines; results are averaged over them."""
        batch, settings = self.dataset.train.batch, self.settings
        wanted = settings.baselines if settings.kind == "background" else KNOWN
        drawn = batch.select(draw(batch.rows, wanted, self.seed)).to(self.model.device)
        with torch.no_grad():
            return build_baseline(self.model, settings.kind, self.model.embed(drawn))

    @property
    def baseline(self) -> str:
        """The baseline in words, for titles."""
        many, kind = self.bases.rows, self.settings.kind
        if self.own:
            return f"{many} given row{'s' if many > 1 else ''}"
        return f"{many} training rows" if kind == "background" else kind

    @cached_property
    def at_once(self) -> int:
        """How many masked rows pass the model at once."""
        return rows_at_once(self.model, self.bases, self.settings.memory * 2**20)

    @property
    def target(self) -> Target:
        """The explained task."""
        return self.dataset.schema.targets[self.task]

    @property
    def split(self) -> Split:
        """The split of the explained rows."""
        return self.dataset.splits[self.settings.select.split]

    @property
    def method(self) -> Method:
        """The method of the settings, refined until it is complete, as far as it can be."""
        return self._refined[0]

    @cached_property
    def _refined(self) -> tuple[Method, Attributions | None]:
        """The refined method, and the attributions of `PIECE` random rows that it was tested on.

        Its nodes are doubled while the completeness error exceeds the tolerance.
        """
        method = self.settings.method
        while method.complete and (finer := method.finer()) is not None:
            found = self.explained(method, self.few(PIECE))
            # Where nothing moves the logit, the error is rounding.
            error, rounding = found.delta.abs().mean(), ROUNDING * found.logits.abs().mean()
            if bool(error <= rounding) or found.relative_delta <= self.settings.tolerance:
                return method, found
            method = finer
        return method, None

    def attributions(self) -> Attributions:
        """The attributions of all rows at once."""
        return Attributions.join(self.pieces())

    def pieces(self, done: int = 0) -> Iterator[Attributions]:
        """The attributions of all rows, some thousand at a time, without the first `done`."""
        pieces = max(1, ceil(len(self.rows) / PIECE))  # of one size
        size = ceil(len(self.rows) / pieces)
        method, tested = self._refined
        for start in range(done, len(self.rows), size):
            if tested is not None and pieces == 1:
                yield tested  # all rows have been explained already
            else:
                yield self.explained(method, self.rows[start : start + size], start)

    def explained(self, method: Method, rows: Tensor, start: int = 0) -> Attributions:
        """The attributions of some rows (B,) of the split, by any method.

        `start` is the number of the first of them among all that are explained.
        """

        def explain(part: tuple[int, Tensor]) -> tuple[Tensor, ...]:
            view = self._view(part[1], part[0], self.feature_mask)
            logits = view.logits(torch.ones(1, view.size))[:, 0]
            found = method.attribute(view, self.seed), logits, view.difference
            return tuple(self.averaged(values).detach().float().cpu() for values in found)

        chunks = self.chunks(rows, method.evaluations(len(self.feature_mask.features)), start)
        counted = ((len(some), (first, some)) for first, some in chunks)
        # A slow method takes minutes for the rows of one piece.
        parts = with_progress(counted, max(len(self.rows), start + len(rows)), start)
        found, logit, difference = map(torch.cat, zip(*each(parts, explain), strict=True))
        labels = self.split.batch.targets[rows, self.task]
        return Attributions(
            self.feature_mask.features, found, logit, logit - difference, rows.long(), labels
        )

    def chunks(
        self, rows: Tensor, evaluations: int, start: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Rows that pass the model at once, `evaluations` masked versions of each, some at a time.

        Before them the number of their first among all explained rows, counted from `start`.
        """
        at_once = min(PIECE, max(1, self.at_once // (evaluations * self.bases.rows)))
        for some in rows.split(at_once):
            yield start, some
            start += len(some)

    def views(
        self, rows: Tensor, evaluations: int, features: FeatureMask | None = None
    ) -> Iterator[MaskedModel]:
        """Masked views of the `chunks` of rows (N,) of the split, each row with each baseline.

        `features` are those of the settings if None.
        """
        for first, some in self.chunks(rows, evaluations):
            yield self._view(some, first, features or self.feature_mask)

    def sample(self, count: int) -> Sample:
        """Some of the rows, each with its baselines and with another row of the split."""
        rows = self.few(count)
        return Sample(self._view(rows, 0, self.feature_mask), self._reference_rows(len(rows)))

    def with_reference_rows(self, count: int) -> MaskedModel:
        """As that of the sample, which would hold each row once for each baseline."""
        inputs = self._embedded(self.few(count))
        others = self._reference_rows(inputs.rows).expand_to(inputs)
        return MaskedModel(self.model, self.feature_mask, inputs, others, self.task, self.at_once)

    def few(self, count: int) -> Tensor:
        """At most `count` of the explained rows, at random, in order."""
        return self.rows[draw(len(self.rows), count, self.seed)]

    def averaged(self, values: Tensor, axis: int = 0) -> Tensor:
        """The mean over the baselines of values whose `axis` is the B · M rows of a view."""
        return values.unflatten(axis, (-1, self.bases.rows)).mean(axis + 1)

    def build_feature_mask(self, granularity: Granularity | Sequence[Granularity]) -> FeatureMask:
        """The features of the explained model at a granularity."""
        model, groups = self.model, self.settings.groups
        return build_feature_mask(model.schema, model.width, granularity, model.device, groups)

    def _view(self, rows: Tensor, start: int, features: FeatureMask) -> MaskedModel:
        return self.view_of(self._embedded(rows), start, features)

    def view_of(self, inputs: Inputs, start: int, features: FeatureMask) -> MaskedModel:
        """The masked view of B embedded rows, each M times, with each of the M baselines."""
        many = self.bases.rows
        pairs = Inputs(*(part.repeat_interleave(many, 0) for part in inputs))
        bases = Inputs(*(p.repeat(inputs.rows, *[1] * (p.ndim - 1)) for p in self.bases))
        index = torch.arange(start * many, (start + inputs.rows) * many)
        base = bases.expand_to(pairs)
        return MaskedModel(self.model, features, pairs, base, self.task, self.at_once, index)

    def _reference_rows(self, count: int) -> Inputs:
        generator = torch.Generator().manual_seed(self.seed)
        return self._embedded(torch.randint(self.split.batch.rows, (count,), generator=generator))

    @torch.no_grad()
    def _embedded(self, rows: Tensor) -> Inputs:
        return self.model.embed(self.split.batch.select(rows).to(self.model.device))
