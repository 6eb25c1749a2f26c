"""The explanation of a trained model: which inputs moved the logit, and through which neurons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pandas as pd
import torch
from annotated_types import Ge
from torch import Tensor

from glassrec.artifacts import Attributions, Table
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.explain.conductance import conductance
from glassrec.explain.game import Game
from glassrec.explain.gates import Gates, Granularity, baseline, gates
from glassrec.explain.gradients import IntegratedGradients
from glassrec.explain.interactions import evaluations, interactions, names
from glassrec.explain.methods import Method
from glassrec.explain.statistics import Spread
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Layer
from glassrec.spelling import one_of


@dataclass(frozen=True)
class Explain:
    """How to explain.

    Args:
        task: the target whose logit is explained; the first one if None, in a run the first that
            is learnt.
        method: how the logit's difference from the baseline is divided among the players.
        players: what gets an attribution: each dense column, each field and each step of a history;
            the same with each embedding dimension; the dense columns alone; or the steps alone.
        baseline: what "nothing known" is: all zeros, the mean embedding of training rows, each
            field's unseen id, or training rows drawn at random, over which results are averaged.
        background: how many of them.
        split: where the explained rows come from. Pruning proposes from them, so not from test.
        rows: how many rows, drawn at random by the run's seed; all if there are fewer.
        pair_rows: on how many of them pairs of features are explained; 0 leaves that out. P
            features take 1 + P (P + 1) / 2 evaluations a row.
        steps: path steps for conductance.
        rule: how conductance integrates the path.
        chunk: rows that pass the model at once, the path's nodes counted; bounds the memory.
    """

    task: str | None = None
    method: Method = field(default_factory=IntegratedGradients)
    players: Literal["fields", "dimensions", "dense", "steps"] = "fields"
    baseline: Literal["zero", "mean", "unseen", "background"] = "mean"
    background: Annotated[int, Ge(1)] = 50
    split: Literal["train", "val", "test"] = "val"
    rows: Annotated[int, Ge(1)] = 2000
    pair_rows: Annotated[int, Ge(0)] = 200
    steps: Annotated[int, Ge(1)] = 32
    rule: Literal["trapezoid", "captum"] = "trapezoid"
    chunk: Annotated[int, Ge(1)] = 16384

    def check(self, model: Recommender, dataset: Dataset) -> None:
        """ValueError, before hours of training, if there is nothing of what is to be explained."""
        self._task(dataset)
        self.method.evaluations(len(self._view(model).players))

    def attributions(self, model: Recommender, dataset: Dataset, seed: int) -> Attributions:
        """What each player contributed to the task's logit, for the chosen rows.

        Raises:
            ValueError: there is no such task or player, or the method cannot explain so many.
        """
        model.eval()
        view = self._view(model)
        bases = self._baselines(model, dataset, seed)
        rows = self._rows(dataset, seed)
        task = self._task(dataset)
        found = [
            self._explained(model, view, inputs, bases, task)
            for inputs in self._embedded(
                model, dataset, rows, self.method.evaluations(len(view.players))
            )
        ]
        values, logits, at_baseline = (torch.cat(part).cpu() for part in zip(*found, strict=True))
        facts = {
            "method": self.method.name,
            "neurons": f"conductance, {self.steps} steps, {self.rule} rule",
            "baseline": f"{len(bases)} training rows" if len(bases) > 1 else self.baseline,
            "split": self.split,
            "task": dataset.schema.targets[task].name,
        }
        return Attributions(view.players, values, logits, at_baseline, rows, facts)

    def _explained(
        self, model: Recommender, view: Gates, inputs: Inputs, bases: list[Inputs], task: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attributions (B, P), logits (B,), and logits with all players at baseline (B,)."""
        off = inputs.dense.new_zeros(inputs.rows, len(view.players))
        values, at_baseline = [], []
        for base in bases:
            beside = base.beside(inputs)
            game = Game(model, view, inputs, beside, task, self.chunk)
            values.append(self.method.attribute(game, 0))
            with torch.no_grad():
                at_baseline.append(model.score(view.apply(off, inputs, beside))[:, task])
        with torch.no_grad():
            logits = model.score(inputs)[:, task]
        return torch.stack(values).mean(0), logits, torch.stack(at_baseline).mean(0)

    def neurons(self, model: Recommender, dataset: Dataset, seed: int) -> Table:
        """Statistics of the conductance of every unit of every layer, over the chosen rows.

        They are those of the explained task; but `max_abs`, which tells who is silent, is over all
        tasks, as a unit that only another task reads does something.
        """
        model.eval()
        spreads = {name: Spread() for name in model.layers}
        bases = self._baselines(model, dataset, seed)
        own = self._task(dataset)
        tasks = [*(task for task in range(len(dataset.schema.targets)) if task != own), own]
        for inputs in self._embedded(model, dataset, self._rows(dataset, seed), self.steps + 1):
            found = [self._emissions(model, inputs, bases, task) for task in tasks]
            for name, spread in spreads.items():
                spread.add(torch.cat([each[name] for each in found]))
        frames = [
            pd.concat([_about(name, layer), spreads[name].frame()], axis=1)
            for name, layer in model.layers.items()
        ]
        return Table(pd.concat(frames, ignore_index=True) if frames else NO_NEURONS)

    def _emissions(
        self, model: Recommender, inputs: Inputs, bases: list[Inputs], task: int
    ) -> dict[str, Tensor]:
        """(C, B, U) for each layer: the conductance of its emissions, averaged over baselines."""
        found = [
            conductance(model, inputs, b, steps=self.steps, rule=self.rule, task=task).emissions
            for b in bases
        ]
        return {name: torch.stack([each[name] for each in found]).mean(0) for name in found[0]}

    def pairs(self, model: Recommender, dataset: Dataset, seed: int) -> Table:
        """Statistics of the interaction of every two features, the strongest first.

        A player is a whole feature, though `players` asks for its dimensions.
        """
        model.eval()
        kind: Granularity = "fields" if self.players == "dimensions" else self.players
        view = gates(model.schema, model.width, kind, model.device)
        if not self.pair_rows or len(view.players) < 2:
            return Table(NO_PAIRS)
        spread = Spread()
        for found in self._interactions(model, view, dataset, seed):
            spread.add(found.unsqueeze(0))
        frame = pd.concat([names(view.players, _weights(model)), spread.frame()], axis=1)
        by_size = frame.sort_values("mean_abs", ascending=False, kind="stable", ignore_index=True)
        return Table(by_size)

    def _interactions(
        self, model: Recommender, view: Gates, dataset: Dataset, seed: int
    ) -> Iterator[Tensor]:
        """The interactions (B, pairs) of some of the explained rows, averaged over baselines."""
        rows = self._rows(dataset, seed)
        rows = rows[_draw(len(rows), self.pair_rows, seed)]
        bases = self._baselines(model, dataset, seed)
        task = self._task(dataset)
        chunk = max(1, self.chunk // max(1, model.schema.history_length))
        for inputs in self._embedded(model, dataset, rows, evaluations(len(view.players))):
            found = [
                interactions(Game(model, view, inputs, base.beside(inputs), task, chunk))
                for base in bases
            ]
            yield torch.stack(found).mean(0)

    def _view(self, model: Recommender) -> Gates:
        return gates(model.schema, model.width, self.players, model.device)

    def _task(self, dataset: Dataset) -> int:
        """The column of the logit that is explained."""
        names = [target.name for target in dataset.schema.targets]
        if self.task is not None and self.task not in names:
            raise ValueError(f"explain.task: no task {self.task!r}{one_of(self.task, names)}")
        return 0 if self.task is None else names.index(self.task)

    def _rows(self, dataset: Dataset, seed: int) -> Tensor:
        """The explained rows of the split, in order."""
        return _draw(dataset.splits[self.split].batch.rows, self.rows, seed)

    def _embedded(
        self, model: Recommender, dataset: Dataset, rows: Tensor, evaluations: int
    ) -> Iterator[Inputs]:
        """The explained rows, embedded, as many at a time as a chunk has room for.

        A row of a long history counts once for each of its steps.
        """
        batch: Batch = dataset.splits[self.split].batch.take(rows)
        each = evaluations * max(1, model.schema.history_length)
        for part in batch.chunks(max(1, self.chunk // each)):
            with torch.no_grad():
                inputs = model.embed(part.to(model.device))
            yield inputs

    def _baselines(self, model: Recommender, dataset: Dataset, seed: int) -> list[Inputs]:
        """Rows of inputs that stand for "nothing known"; results are averaged over them."""
        batch = dataset.train.batch
        wanted = self.background if self.baseline == "background" else 4096
        with torch.no_grad():
            rows = model.embed(batch.take(_draw(batch.rows, wanted, seed)).to(model.device))
        if self.baseline == "background":
            return [Inputs(*each) for each in zip(*(part.split(1) for part in rows), strict=True)]
        return [baseline(model, self.baseline, rows)]


NO_NEURONS = pd.DataFrame(columns=["layer", "position", "unit", "name", *Spread.COLUMNS])
NO_PAIRS = pd.DataFrame(columns=["first", "second", *Spread.COLUMNS])


def _weights(model: Recommender) -> pd.DataFrame | None:
    """The model's own view of its pairs of features, by their names, if it has one."""
    norms = model.feature_pairs()
    columns = [*model.schema.dense, *model.schema.field_names]
    return None if norms is None else pd.DataFrame(norms.cpu().numpy(), columns, columns)


def _about(name: str, layer: Layer) -> pd.DataFrame:
    """Which units a layer has."""
    return pd.DataFrame(
        {
            "layer": name,
            "position": range(len(layer.units)),
            "unit": layer.units.tolist(),
            "name": layer.unit_names(name),
        }
    )


def _draw(available: int, wanted: int, seed: int) -> Tensor:
    """`wanted` of `available` rows at random, in order; all of them if there are fewer."""
    if available <= wanted:
        return torch.arange(available)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(available, generator=generator)[:wanted].sort().values
