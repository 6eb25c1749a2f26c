"""The certificate: the large and the small model compared on every row, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from math import inf

import torch

from glassrec import __version__
from glassrec.artifacts import (
    Certificate,
    CertifiedLayer,
    LayerPlan,
    PrunedNeurons,
    PrunePlan,
    digest,
)
from glassrec.artifacts.pruning import EXACT
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.models.base import Recommender
from glassrec.prune.certificate_text import in_short
from glassrec.prune.logit_differences import LogitDifferences
from glassrec.prune.surgery import check_plan_fits

TOLERANCE = 1e-9
"""The largest |Δlogit| in float64 that counts as equal, relative to the largest |logit| of all
rows of the same task, or, if that is smaller, to 1 (of a rating, to its standard deviation). A sum
in another order differs by less: it is off by about 1e-16 of its largest term for each term
(Higham, "Accuracy and Stability of Numerical Algorithms", 2002, chapter 4)."""


class BrokenPromiseError(RuntimeError):
    """The guarantee of an exact level does not hold, which is a defect of Glassrec."""


@torch.no_grad()
def certify(
    large: Recommender,
    small: Recommender,
    plan: PrunePlan,
    rows: Mapping[str, Iterable[Batch]],
    *,
    weights: str,
    pruned: str,
    files: Mapping[str, str],
    given: Mapping[str, Mapping[str, str]],
    splits: Mapping[str, str],
) -> Certificate:
    """Compare the logits of both models, in float64 and evaluation mode, on all rows.

    `rows` are each split's, in chunks; `weights` and `pruned` are the digests of both models'
    tensors, as they are stored; for the others see `Certificate`.

    Raises:
        BrokenPromiseError: the guarantee of an exact level does not hold.
        ValueError: there are no rows, or the plan is of another model.
    """
    check_plan_fits(plan, large)
    found = LogitDifferences(large, small, rows)
    if not sum(found.counts.values()):
        raise ValueError("there are no rows to compare the models on")
    most, size = found.largest, found.size
    # Of each task, as a rating's unit may be a million times as large as a logit, or as small.
    tolerances = TOLERANCE * size.maximum(large.target_scale.units.to(size))
    changed = found.changed(tolerances)
    exact = plan.level in EXACT and not plan.finetuned
    if exact and changed:
        task = int((most / tolerances).nan_to_num(inf).argmax())
        raise BrokenPromiseError(
            f"the {plan.level} level promises equal logits, and those of "
            f"{large.schema.targets[task].name!r} differ by up to {most[task]:.3g}, "
            f"where up to {tolerances[task]:.3g} is rounding; please report this, if all files are "
            "whole"
        )
    return Certificate(
        level=plan.level,
        exact=exact,
        ground=plan.ground,
        rows=found.counts,
        max_abs_logit_difference=most.max().item(),
        p999_abs_logit_difference=found.p999(),
        rows_changed=changed,
        max_abs_logit=size.max().item(),
        tolerance=tolerances.max().item(),
        layers=_layers(large, plan),
        weights=weights,
        pruned=pruned,
        files=dict(files),
        given={name: dict(hashes) for name, hashes in given.items()},
        splits=dict(splits),
        versions=versions(),
    )


def data_digests(dataset: Dataset) -> dict[str, str]:
    """The sha256 of each split's tensors."""
    return {name: digest(split.batch._asdict()) for name, split in dataset.splits.items()}


def versions() -> dict[str, str]:
    """The versions of the packages that compute the logits."""
    return {"glassrec": __version__, "torch": version("torch")}


def _layers(large: Recommender, plan: PrunePlan) -> dict[str, CertifiedLayer]:
    found = {}
    for name, layer in large.layers.items():
        names = dict(zip(layer.units.tolist(), layer.neuron_names(name), strict=True))
        found[name] = CertifiedLayer(layer.size, len(names), _pruned(plan.layers[name], names))
    return found


def _pruned(cut: LayerPlan, names: Mapping[int, str]) -> list[PrunedNeurons]:
    together: dict[tuple[str, float], list[str]] = {}
    for level, units in cut.dropped.items():
        for unit in units:
            together.setdefault((level, cut.constants[unit]), []).append(names[unit])
    return [
        PrunedNeurons(level, constant, len(units), in_short(units))
        for (level, constant), units in together.items()
    ]
