"""The explanation of a trained model: which inputs moved the logit, and through which neurons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import pandas as pd
import torch
from annotated_types import Ge
from torch import Tensor

from glassrec.artifacts import Attributions, Table
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.explain.conductance import conductance
from glassrec.explain.gates import baseline, gates
from glassrec.explain.statistics import Spread
from glassrec.models.base import Inputs, Recommender


@dataclass(frozen=True)
class Explain:
    """How to explain.

    Args:
        players: what gets an attribution: each dense column and each field, each dense column and
            each embedding dimension, or the dense columns alone.
        baseline: what "nothing known" is: all zeros, the mean embedding of training rows, or each
            field's unseen id.
        split: where the explained rows come from. Pruning proposes from them, so not from test.
        rows: how many rows, drawn at random by the run's seed; all if there are fewer.
        steps: nodes of the integration for attributions, and path steps for conductance.
        rule: how conductance integrates the path.
        chunk: rows that pass the model at once, the path's nodes counted; bounds the memory.
    """

    players: Literal["fields", "dimensions", "dense"] = "fields"
    baseline: Literal["zero", "mean", "unseen"] = "mean"
    split: Literal["train", "val", "test"] = "val"
    rows: Annotated[int, Ge(1)] = 2000
    steps: Annotated[int, Ge(1)] = 32
    rule: Literal["trapezoid", "captum"] = "trapezoid"
    chunk: Annotated[int, Ge(1)] = 16384

    def attributions(self, model: Recommender, dataset: Dataset, seed: int) -> Attributions:
        """Integrated gradients of the first task's logit, for the chosen rows."""
        # Captum takes a second to import, and a run that has its attributions needs none.
        from glassrec.explain.attribution import integrated_gradients

        model.eval()
        view = gates(model.schema, model.width, self.players, model.device)
        base = self._baseline(model, dataset, seed)
        rows = self._rows(dataset, seed)
        parts = [
            (integrated_gradients(model, view, inputs, base, steps=self.steps)[0],
             model.score(inputs)[:, 0].detach())
            for inputs in self._embedded(model, dataset, rows)
        ]  # fmt: skip
        values, logits = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        with torch.no_grad():
            at_baseline = model.score(base)[:, 0].cpu().expand(len(logits)).clone()
        facts = {
            "method": f"integrated gradients, {self.steps} Gauss-Legendre nodes",
            "neurons": f"conductance, {self.steps} steps, {self.rule} rule",
            "baseline": self.baseline,
            "split": self.split,
            "task": dataset.schema.targets[0],
        }
        return Attributions(view.players, values, logits, at_baseline, rows, facts)

    def neurons(self, model: Recommender, dataset: Dataset, seed: int) -> Table:
        """Statistics of the conductance of every unit of every layer, over the chosen rows."""
        model.eval()
        base = self._baseline(model, dataset, seed)
        spreads = {name: Spread() for name in model.layers}
        for inputs in self._embedded(model, dataset, self._rows(dataset, seed)):
            found = conductance(model, inputs, base, steps=self.steps, rule=self.rule)
            for name, values in found.layers.items():
                spreads[name].add(values)
        frames = []
        for name, layer in model.layers.items():
            about = pd.DataFrame(
                {
                    "layer": name,
                    "position": range(len(layer.units)),
                    "unit": layer.units.tolist(),
                    "name": layer.unit_names(name),
                }
            )
            frames.append(pd.concat([about, spreads[name].frame()], axis=1))
        return Table(pd.concat(frames, ignore_index=True))

    def _rows(self, dataset: Dataset, seed: int) -> Tensor:
        """The explained rows of the split, in order."""
        return _draw(dataset.splits[self.split].batch.rows, self.rows, seed)

    def _embedded(self, model: Recommender, dataset: Dataset, rows: Tensor) -> Iterator[Inputs]:
        """The explained rows, embedded, so many at a time that their path fits in a chunk."""
        batch: Batch = dataset.splits[self.split].batch.take(rows)
        for part in batch.chunks(max(1, self.chunk // (self.steps + 1))):
            with torch.no_grad():
                inputs = model.embed(part.to(model.device))
            yield inputs

    def _baseline(self, model: Recommender, dataset: Dataset, seed: int) -> Inputs:
        batch = dataset.train.batch
        with torch.no_grad():
            background = model.embed(batch.take(_draw(batch.rows, 4096, seed)).to(model.device))
        return baseline(model, self.baseline, background)


def _draw(available: int, wanted: int, seed: int) -> Tensor:
    """`wanted` of `available` rows at random, in order; all of them if there are fewer."""
    if available <= wanted:
        return torch.arange(available)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(available, generator=generator)[:wanted].sort().values
