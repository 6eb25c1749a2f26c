"""Settings that cannot apply to a model from elsewhere, refused before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from glassrec.config.user_modules import IMPORTED
from glassrec.run import flat

_TRAINING = {"trainer.max_epochs", "prune.epochs", "prune.curves.epochs", "objective.group_lasso",
             "objective.l1", "start"}  # fmt: skip
_LABELS = ("prune.max_metric_drop", "explain.select.label", "explain.significance", "metrics.")
_SPLITS = "glassrec.data.splits.Given glassrec.data.splits.LeaveOneOut"
_UNKNOWN = {"prune.level": "domain", "explain.baseline": "unseen", "data.split._target_": _SPLITS}


def untrained(config: DictConfig) -> None:
    """Have an imported model stay as it is, unless an override says otherwise."""
    if OmegaConf.select(config, "model._target_") == IMPORTED[0]:
        OmegaConf.update(config, "trainer.max_epochs", 0)


def refused(stage: str, config: Mapping[str, Any]) -> Iterator[str]:
    """A problem for each setting that cannot apply."""
    values, start = flat(config), "is not allowed with an imported model"
    chosen = (values.get("model._target_"), values.get("data._target_"))
    if chosen != IMPORTED:
        if chosen[0] == IMPORTED[0] or chosen[1] == IMPORTED[1]:
            yield "model=imported and data=batches go together; choose both"
        return
    if stage == "export":
        yield "export: an imported model is exported in Python, by glassrec.wrap(...).save"
    if not (values["model.factory"] or values["model.weights"]):
        yield "model.factory: a value is needed, e.g. model.factory=my_model:build"
    taylor = values["prune.level"] == "budget" and "Taylor" in values["prune.score._target_"]
    for key, value in values.items():
        if key in _TRAINING and value:
            yield f"{key}: {value} {start}, which is not trained"
        elif key in _UNKNOWN and value in _UNKNOWN[key].split():
            yield f"{key}: {value} {start}, whose ids and columns are not known; take another"
        labels = key.startswith(_LABELS) or (taylor and key == "prune.score._target_")
        if not values["data.labels"] and labels and value not in (None, "none", {}):
            yield f"{key}: {value} needs labels, and there are none (data.labels=false)"
