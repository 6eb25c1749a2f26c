"""Train a recommender, explain it, prune what does nothing, and prove what the cut did."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "RecommenderDataModule": "glassrec.training.datamodule",
    "RecommenderModule": "glassrec.training.module",
    "TrainedRun": "glassrec.inference.notebook",
    "fit": "glassrec.inference.fit",
    "load": "glassrec.inference.notebook",
    "wrap": "glassrec.imported.wrapping",
}
"""Public names and their modules, which take seconds to import."""

__all__ = [
    "RecommenderDataModule", "RecommenderModule", "TrainedRun", "__version__", "fit", "load",
    "wrap",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'glassrec' has no attribute {name!r}")
