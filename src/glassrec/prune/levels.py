"""Which settings of pruning have an effect at which level. Nothing heavy is imported."""

from __future__ import annotations

EXACT = ("domain", "data")
"""The levels that guarantee equal logits. Explained rows play no part in them."""

LEVELS: dict[str, tuple[str, ...]] = {
    "prune.share": ("budget",),
    "prune.budget_unit": ("budget",),
    "prune.max_metric_drop": ("budget",),
    "prune.rounds": ("budget",),
    "prune.epochs": ("budget",),
    "prune.score": ("budget",),
    "prune.fold": ("sample", "budget"),
    "prune.rows": ("sample", "budget"),
    "prune.max_enumerated_inputs": ("domain",),
}
"""The levels at which a setting of pruning has an effect; the others have one at every level."""


def levels_of(setting: str) -> tuple[str, ...] | None:
    """The levels at which a setting, by its dotted name, has an effect; None for all levels."""
    return next((LEVELS[name] for name in LEVELS if f"{setting}.".startswith(f"{name}.")), None)
