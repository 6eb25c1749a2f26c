"""The one door to Weights & Biases."""

from glassrec.tracking.client import WandB
from glassrec.tracking.log import Log, NoTracker, Shown, Tracker

__all__ = ["Log", "NoTracker", "Shown", "Tracker", "WandB"]
