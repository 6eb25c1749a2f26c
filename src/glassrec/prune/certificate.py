"""The proof of a cut: the large and the small model side by side, on every row, in float64."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from glassrec.artifacts import Certificate
from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.prune.constants import score

EXACT = ("domain", "data")
"""The levels that promise equal logits on every row."""

TOLERANCE = 1e-9
"""The largest |Δlogit| in float64 that counts as equal: sums in another order differ by less."""


@torch.no_grad()
def certify(
    large: Recommender,
    small: Recommender,
    level: str,
    rows: Mapping[str, Iterable[Batch]],
    *,
    weights: str,
) -> Certificate:
    """Compare the logits of both models, in float64 and evaluation mode, on all rows.

    Args:
        large: the model before the cut.
        small: the model after it.
        level: what the plan promised.
        rows: each split's rows, in chunks.
        weights: the sha256 of the large model's file.

    Raises:
        RuntimeError: an exact level did not keep its promise, which is a defect of Glassrec.
    """
    differences, counts = [], {}
    for split, batches in rows.items():
        found = [(score(large, b) - score(small, b)).abs().amax(1).cpu() for b in batches]
        differences.append(torch.cat(found) if found else torch.empty(0).double())
        counts[split] = len(differences[-1])
    difference = torch.cat(differences)
    largest = difference.max().item()
    if level in EXACT and not largest <= TOLERANCE:
        raise RuntimeError(
            f"the {level} level promises equal logits, and they differ by up to {largest:.3g}; "
            "please report this"
        )
    return Certificate(
        level=level,
        exact=level in EXACT,
        rows=counts,
        max_abs_logit_difference=largest,
        p999_abs_logit_difference=_quantile(difference, 0.999),
        rows_changed=int((difference > TOLERANCE).sum()),
        tolerance=TOLERANCE,
        weights=weights,
        pruned=digest(small.state_dict()),
    )


def _quantile(values: Tensor, share: float) -> float:
    """The smallest value with at least `share` of the values at or below it."""
    rank = max(1, int(-(-share * len(values) // 1)))
    return values.kthvalue(rank).values.item()


def digest(weights: Mapping[str, Tensor]) -> str:
    """The sha256 of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
