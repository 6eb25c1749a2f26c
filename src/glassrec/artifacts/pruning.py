"""The levels of a guarantee, the plan of a pruning, and the certificate of its effect."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from glassrec.artifacts.formats import JsonRecord, write_json

EXACT = ("domain", "data")
"""The levels that guarantee equal logits. Explained rows play no part in them."""

LEVELS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("prune.share", "prune.budget_unit", "prune.max_metric_drop", "prune.rounds",
         "prune.epochs", "prune.score"), ("budget",)),
    **dict.fromkeys(("prune.fold", "prune.rows"), ("sample", "budget")),
}  # fmt: skip
"""The levels at which a setting of pruning has an effect; the others have one at every level."""


def levels_of(setting: str) -> tuple[str, ...] | None:
    """The levels at which a setting, by its dotted name, has an effect; None for all levels."""
    return next((LEVELS[name] for name in LEVELS if f"{setting}.".startswith(f"{name}.")), None)


@dataclass(frozen=True)
class LayerPlan:
    """The plan for one layer; neurons are numbered as the layer was built."""

    built: int
    """neurons that the layer was built with"""
    kept: list[int]
    dropped: dict[str, list[int]]
    """by level: domain, data, sample or budget; an exact plan of level data also has neurons at
    level domain: those without any downstream layer before anything was pruned"""
    constants: dict[int, float]
    """what downstream layers put in the place of each dropped neuron: its constant activation at
    the levels domain and data, its mean at the levels sample and budget, 0 if means are not
    folded"""
    proposed: int
    """neurons of zero conductance on the sample"""
    refuted: int
    """of those, the ones kept, as they are not constant"""
    tied: int
    """neurons kept though the level lets them go, as a downstream layer is more than a weighted
    sum of them"""
    stays: str
    """why the layer keeps all of its neurons, or its last one; empty if neither is so"""


@dataclass(frozen=True)
class PrunePlan(JsonRecord):
    """Which neurons are pruned, which constants replace them, and how they were found."""

    level: str
    score: str
    """the importance score that ranked neurons, at level budget; empty at the others"""
    ground: str
    """the scope of an exact guarantee, in words; empty at the other levels"""
    passes: int
    """forward passes over all rows until no further neuron became constant"""
    folded: bool
    """whether the means of pruned neurons were folded, where pruning is not exact"""
    finetuned: bool
    """whether the smaller model was trained afterwards: its weights do not follow from the plan"""
    weights: str
    """sha256 of the tensors of the model that was pruned, in the order of their names"""
    layers: dict[str, LayerPlan]

    @property
    def dropped(self) -> int:
        """The number of pruned neurons."""
        return sum(len(cut.constants) for cut in self.layers.values())

    @property
    def units(self) -> int:
        """The number of neurons before pruning."""
        return self.dropped + sum(len(cut.kept) for cut in self.layers.values())

    @classmethod
    def fields_from(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The fields, with neurons as whole numbers; ValueError if they do not agree."""
        layers = {}
        for name, layer in values["layers"].items():
            constants = {int(neuron): value for neuron, value in layer["constants"].items()}
            if sorted(chain(*layer["dropped"].values())) != sorted(constants):
                raise ValueError(f"it drops other neurons of {name} than it gives constants for")
            layers[name] = LayerPlan(**layer | {"constants": constants})
        return values | {"layers": layers}


@dataclass(frozen=True)
class PrunedNeurons:
    """Neurons of a layer that were pruned at one level and replaced by the same constant."""

    level: str
    constant: float
    count: int
    units: str
    """their names as the layer was built: `top.0[0-5, 9]`, `C3×C14, C3×C15`"""


@dataclass(frozen=True)
class CertifiedLayer:
    """The neurons that were pruned from one layer."""

    built: int
    """neurons that the layer was built with"""
    before: int
    """neurons that it had before pruning"""
    gone: list[PrunedNeurons]

    @property
    def count(self) -> int:
        """The number of pruned neurons."""
        return sum(gone.count for gone in self.gone)


@dataclass(frozen=True)
class AllPairs:
    """The comparison of both models on every user beside every item, unseen ones included.

    The largest difference is that of `user` and `item`. `same_members` is the share of users whose
    first ten of all items are the same, `same_order` of those with the same order, too.
    """

    users: int
    items: int
    max_abs_logit_difference: float
    user: str
    item: str
    same_members: float
    same_order: float


@dataclass(frozen=True)
class ChangeBound:
    """A proven bound of every |Δlogit| for any ids, and dense columns within their range on the
    rows, from bounds of some boxes of inputs; and the largest on random inputs of that kind.
    """

    bound: float
    boxes: int
    random_rows: int
    random_max: float


@dataclass(frozen=True)
class Int8Comparison:
    """The int8 copy of the small model measured beside the large one; it is never exact."""

    rows: int
    """of the test split"""
    max_abs_logit_difference: float
    p999_abs_logit_difference: float
    mean_abs_logit_difference: float
    agreement: dict[str, float]
    """the share of the first ten of a list that still are, `top10_agreement`, of each task"""
    bytes: int
    """of its file"""


@dataclass(frozen=True)
class Certificate(JsonRecord):
    """The result of comparing the large and the small model on all rows."""

    level: str
    exact: bool
    """whether the level promises equality, and the comparison kept the promise"""
    ground: str
    """the scope of the guarantee, in words"""
    rows: dict[str, int]
    """rows compared, by split"""
    max_abs_logit_difference: float
    """in float64"""
    p999_abs_logit_difference: float
    """the 99.9th percentile, in float64"""
    rows_changed: int
    """rows whose logit moved by more than `tolerance`"""
    max_abs_logit: float
    """the largest |logit| of the large model, in float64"""
    tolerance: float
    """the |Δlogit| up to which logits count as equal: 1e-9 of the largest |logit|, or of 1; of a
    rating, or of its standard deviation; each task has its own, and this is the largest"""
    layers: dict[str, CertifiedLayer]
    """the pruned neurons by layer, input side first"""
    weights: str
    """`digest` of the large model's tensors"""
    pruned: str
    """`digest` of the small model's tensors"""
    files: dict[str, str]
    """sha256 of the files of both models and of the plan"""
    given: dict[str, dict[str, str]]
    """sha256 of external inputs: the data's files, and the weights that training started from"""
    splits: dict[str, str]
    """`digest` of each split's tensors, so that generated data has one too"""
    versions: dict[str, str]
    """of the packages that made the comparison"""
    all_pairs: AllPairs | None = None
    """of a model that reads a user and an item alone, if neurons were pruned"""
    change_bound: ChangeBound | None = None
    """where one was asked for"""
    int8: Int8Comparison | None = None
    """with `prune.quantize=int8`"""

    def save(self, path: Path) -> None:
        """Write JSON, without the parts that are not there."""
        write_json(path, {k: v for k, v in asdict(self).items() if v is not None})

    @classmethod
    def fields_from(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The fields, with each layer's record."""
        layers = {}
        for name, layer in values["layers"].items():
            gone = [PrunedNeurons(**each) for each in layer["gone"]]
            layers[name] = CertifiedLayer(**layer | {"gone": gone})
        kinds = {"all_pairs": AllPairs, "change_bound": ChangeBound, "int8": Int8Comparison}
        parts = {name: kind(**values[name]) for name, kind in kinds.items() if name in values}
        return super().fields_from(values) | {"layers": layers} | parts
