"""Pruning a trained model: choose neurons by a guarantee or by importance, prune, certify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, get_args

import pandas as pd
import torch
from annotated_types import Ge, Interval, MinLen
from torch import Tensor

from glassrec.artifacts import Certificate, PrunePlan, Weights, digest
from glassrec.artifacts.file_list import PRUNED, WEIGHTS
from glassrec.artifacts.pruning import EXACT
from glassrec.artifacts.tensors import blocks
from glassrec.data.batch import Batch, track_batches
from glassrec.data.dataset import Dataset
from glassrec.models.base import Recommender
from glassrec.processes import from_first
from glassrec.prune import precision, surgery
from glassrec.prune.budget import Budget, Measures
from glassrec.prune.certificate import certify, data_digests
from glassrec.prune.guarantees import ranges
from glassrec.prune.guarantees.all_pairs import all_pairs
from glassrec.prune.guarantees.change_bounds import change_bound
from glassrec.prune.importance import CalibrationData, ConductanceScore, ImportanceScore, Loss
from glassrec.prune.new_rows import float64_pair
from glassrec.prune.plan import FindRanges, Level, PlanBuilder
from glassrec.prune.pruning_curves import PruningCurves
from glassrec.spelling import one_of

NO_MEASURES = Measures()


@dataclass(frozen=True)
class Pruner:
    """The settings of pruning.

    Args:
        level: the guarantee, and so which neurons are pruned. domain: those that are constant or
            unused whatever the input, by interval bounds or by every combination of ids. data:
            those that are constant on every row of every split, so that pruning is exact there.
            sample: those of zero conductance on the explained rows. budget: those of the least
            importance. The last two may change any row, and the certificate measures by how much.
        layers: those that are pruned: `top.0`, or `top` for all of that tower; all if None.
        score: level budget: the importance score of neurons.
        share: level budget: how much is pruned; with `max_metric_drop`, the most.
        budget_unit: what it is a share of: the neurons of each layer, or all neurons, parameters or
            floating-point operations, with neurons ranked over all layers.
        max_metric_drop: level budget: the allowed loss of the validation metric, before any
            fine-tuning; as much is pruned as that allows. None sets no such limit.
        rounds: level budget: in how many rounds the share is reached; importance is computed anew
            in each.
        epochs: level budget: of fine-tuning after each round.
        fold: levels sample and budget: whether a neuron is replaced by its mean. If not, by 0.
        rows: training rows from which importance and means are computed.
        max_enumerated_inputs: the most combinations of ids to enumerate, for a model that reads
            nothing else: for level domain (interval bounds beyond), and to compare all pairs.
        bound_boxes: of inputs, of which the change of a logit is bounded: the more, the lower is
            the proven bound for all inputs. 0 computes none.
        chunk: rows that pass the model at once; bounds the memory.
        curves: the pruned models of the curve of quality against the share.
        quantize: int8 adds a copy of the pruned model with int8 tables and towers, for onnxruntime.
    """

    level: Literal["domain", "data", "sample", "budget"] = "data"
    layers: Annotated[Sequence[str], MinLen(1)] | None = None
    score: ImportanceScore = field(default_factory=ConductanceScore)
    share: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    budget_unit: Literal["layer", "neurons", "parameters", "flops"] = "layer"
    max_metric_drop: Annotated[float, Ge(0)] | None = None
    rounds: Annotated[int, Ge(1)] = 1
    epochs: Annotated[int, Ge(0)] = 0
    fold: bool = True
    rows: Annotated[int, Ge(1)] = 10_000
    max_enumerated_inputs: Annotated[int, Ge(0)] = ranges.MAX_ENUMERATED_INPUTS
    bound_boxes: Annotated[int, Ge(0)] = 0
    chunk: Annotated[int, Ge(1)] = 16384
    curves: PruningCurves | None = None
    quantize: Literal["int8"] | None = None

    def __post_init__(self) -> None:
        if self.level not in get_args(Level):
            choice = one_of(self.level, get_args(Level))
            raise ValueError(f"prune.level: no level {self.level!r}{choice}")
        if not 0 <= self.share < 1:
            raise ValueError(
                f"prune.share: {self.share:g} is not allowed; must be at least 0 and below 1, as "
                "each layer keeps a neuron"
            )

    def not_prunable_reasons(self, model: Recommender) -> dict[str, str]:
        """Why each layer keeps all neurons, if so; ValueError if `layers` names such a one."""
        layers = model.layers
        if self.layers is None:
            return {name: layer.not_prunable_reason or "" for name, layer in layers.items()}
        reasons = dict.fromkeys(layers, "it is not in prune.layers")
        for wanted in self.layers:
            found = [name for name in layers if f"{name}.".startswith(f"{wanted}.")]
            if not found:
                towers = dict.fromkeys(name.split(".")[0] for name in layers)
                known = dict.fromkeys([*towers, *layers])
                raise ValueError(f"prune.layers: no layer {wanted!r}{one_of(wanted, known)}")
            for name in found:
                if reason := layers[name].not_prunable_reason:
                    raise ValueError(f"prune.layers: {name} cannot be pruned: {reason}")
                reasons[name] = ""
        return reasons

    def plan(
        self,
        model: Recommender,
        scores: pd.DataFrame,
        dataset: Dataset,
        *,
        seed: int = 0,
        measures: Measures = NO_MEASURES,
        reference_model: Recommender | None = None,
    ) -> PrunePlan:
        """Decide which neurons are pruned.

        Args:
            model: the trained model.
            scores: of its neurons, see `file_list.NEURONS`.
            dataset: all rows of its splits.
            seed: of the calibration rows and of random scores.
            measures: needed by some scores and budgets.
            reference_model: the model that `share` is a share of; the model itself if None.

        Raises:
            ValueError: a layer of `layers` does not exist or is not prunable.
        """
        model = precision.to_float64(model.eval())
        builder = PlanBuilder(model, scores, self.not_prunable_reasons(model))
        if self.level in EXACT:
            find_ranges, ground = self._evidence(model, dataset)
            builder.prune_constant(find_ranges, self.level)
            return builder.build(self.level, ground=ground, folded=True)
        single = precision.copy_sharing_table(model).float()  # approximate levels need no more
        data = self.calibration(single, scores, dataset, seed, measures.loss)
        means = data.replacements(folded=self.fold)
        if self.level == "sample":
            builder.prune(builder.proposed(), means, self.level)
            return builder.build(self.level, folded=self.fold)
        budget = Budget(
            self.share,
            self.budget_unit,
            self.max_metric_drop,
            reference_model or single,
            measures,
        )
        masks = budget.mask(
            self.score.importance(data),
            lambda masks: surgery.prune_neurons(precision.copy_sharing_table(single), masks, means),
        )
        builder.prune(masks, means, self.level)
        return builder.build(self.level, score=self.score.name, folded=self.fold)

    def _evidence(self, model: Recommender, dataset: Dataset) -> tuple[FindRanges, str]:
        """The ranges of activations that an exact level rests on, and their scope in words."""
        if self.level == "domain":
            limit, chunk = self.max_enumerated_inputs, self.chunk
            return (
                lambda small: ranges.domain_ranges(small, dataset.schema, limit, chunk),
                ranges.scope(model.schema, limit),
            )
        rows = sum(split.batch.rows for split in dataset.splits.values())
        return (
            lambda small: ranges.activation_ranges(
                small, track_batches(_rows(dataset, self.chunk), rows)
            ),
            f"all {rows:,} rows",
        )

    def calibration(
        self,
        model: Recommender,
        scores: pd.DataFrame,
        dataset: Dataset,
        seed: int,
        loss: Loss | None,
    ) -> CalibrationData:
        """The data that importance and means are computed from; arguments as those of `plan`."""
        reasons = self.not_prunable_reasons(model)
        layers = {name: layer for name, layer in model.layers.items() if not reasons[name]}
        rows = dataset.sample(self.rows, seed)
        return CalibrationData(model, layers, scores, rows, self.chunk, seed, loss)

    def prune(self, model: Recommender, plan: PrunePlan) -> Weights:
        """The weights of the smaller model; ValueError if the plan is of another."""
        return Weights(
            precision.to_float32_where_equal(surgery.prune_model(model, plan).state_dict())
        )

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
        """Compare the large model and the small one, of the weights `pruned`, on all rows.

        `files` has the sha256 of both models' files and of the plan's, `given` those of external
        inputs.

        Raises:
            BrokenPromiseError: the guarantee of an exact level does not hold.
            ValueError: weights are not finite.
        """
        _refuse_non_finite(WEIGHTS.name, model.state_dict())
        _refuse_non_finite(PRUNED.name, pruned.tensors)
        large, small = float64_pair(model, pruned)
        rows = {
            name: track_batches(split.batch.chunks(self.chunk), split.batch.rows)
            for name, split in dataset.splits.items()
        }
        count = ranges.count_inputs(large.schema, self.max_enumerated_inputs)
        if plan.level == "domain" and count:
            every = ranges.enumerate_inputs(dataset.schema, large.schema, self.chunk, large.device)
            rows["combinations"] = track_batches(every, count, "combinations")
        certificate = certify(
            large,
            small,
            plan,
            rows,
            weights=digest(model.state_dict()),
            pruned=digest(pruned.tensors),
            files=files,
            given=given,
            splits=from_first(lambda: data_digests(dataset)),
        )
        if self.bound_boxes:
            parts = [each.batch.dense.aminmax(dim=0) for each in dataset.splits.values()]
            lows, highs = map(torch.stack, zip(*parts, strict=True))
            dense = torch.stack([lows.amin(0), highs.amax(0)])[:, large._dense]
            try:
                bound = from_first(
                    lambda: change_bound(large, small, plan, dense, self.bound_boxes)
                )
            except ValueError as error:
                raise ValueError(f"prune.bound_boxes: {error}; take 0") from error
            certificate = replace(certificate, change_bound=bound)
        sides = {large.schema.user, large.schema.item}
        if not count or not plan.dropped or {*large.schema.field_names} != sides:
            return certificate
        pairs = from_first(lambda: all_pairs(large, small, dataset))
        return replace(certificate, all_pairs=pairs)


def combine_plans(first: PrunePlan, then: PrunePlan) -> PrunePlan:
    """One plan of two rounds, the second of which prunes the model that the first has left."""
    layers = {}
    for name, earlier in first.layers.items():
        later = then.layers[name]
        levels = dict.fromkeys([*earlier.dropped, *later.dropped])
        layers[name] = replace(
            later,
            dropped={
                level: sorted([*earlier.dropped.get(level, ()), *later.dropped.get(level, ())])
                for level in levels
            },
            constants=dict(sorted((earlier.constants | later.constants).items())),
        )
    return replace(then, weights=first.weights, passes=first.passes + then.passes, layers=layers)


def _rows(dataset: Dataset, chunk: int) -> Iterator[Batch]:
    for split in dataset.splits.values():
        yield from split.batch.chunks(chunk)


def _refuse_non_finite(file: str, tensors: Mapping[str, Tensor]) -> None:
    bad = {n: sum(int((~b.isfinite()).sum()) for b in blocks(t)) for n, t in tensors.items()}
    listed = ", ".join(
        f"{name} ({n:,} of {tensors[name].numel():,})" for name, n in bad.items() if n
    )
    if listed:
        raise ValueError(
            f"{file}: values that are not finite in {listed}; restore the file, or train again "
            "with a lower learning rate"
        )
