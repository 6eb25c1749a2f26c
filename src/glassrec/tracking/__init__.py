"""Trackers: Weights & Biases, and none."""

from glassrec.tracking.tracker import Log, NoTracker, TablePreview, Tracker
from glassrec.tracking.wandb_tracker import WandB

__all__ = ["Log", "NoTracker", "TablePreview", "Tracker", "WandB"]
