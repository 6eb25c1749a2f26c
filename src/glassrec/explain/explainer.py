"""A model, its data and the settings of an explanation, ready to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from glassrec.artifacts import Attributions, Table
from glassrec.data.dataset import Dataset
from glassrec.explain.game import Game
from glassrec.explain.gates import Gates, Granularity, baseline, gates
from glassrec.explain.interactions import evaluations, interactions, names
from glassrec.explain.memory import rows_at_once
from glassrec.explain.methods import Method
from glassrec.explain.statistics import Spread
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Layer
from glassrec.spelling import one_of

if TYPE_CHECKING:
    from glassrec.explain.stage import Explain

PIECE = 4096
"""Rows whose attributions are handed on together; what a killed process loses at most."""

KNOWN = 4096
"""Training rows, at most, that the mean embedding is taken of."""


class Explainer:
    """Answers about one task of one model on some rows of one dataset.

    Args:
        settings: how to explain.
        model: any recommender; it is put into evaluation mode.
        dataset: where rows and baselines come from.
        seed: of every random draw.

    Raises:
        ValueError: there is no such task or player.
    """

    def __init__(self, settings: Explain, model: Recommender, dataset: Dataset, seed: int) -> None:
        self.settings, self.model, self.dataset, self.seed = settings, model.eval(), dataset, seed
        self.task = self._task(settings.task)
        self.view = self._gates(settings.players)

    def check(self) -> None:
        """ValueError, before hours of training, if the method cannot explain this model."""
        self.settings.method.check(self.model, self.view, self.settings.baselines)

    @cached_property
    def rows(self) -> Tensor:
        """(N,): the explained rows of the split, in order."""
        return self.settings.select.pick(self.model, self.dataset, self.task, self.seed)

    @cached_property
    def bases(self) -> Inputs:
        """M rows of inputs that stand for "nothing known"; results are averaged over them."""
        batch, settings = self.dataset.train.batch, self.settings
        wanted = settings.baselines if settings.kind == "background" else KNOWN
        drawn = batch.take(draw(batch.rows, wanted, self.seed)).to(self.model.device)
        with torch.no_grad():
            rows = self.model.embed(drawn)
        return rows if settings.kind == "background" else baseline(self.model, settings.kind, rows)

    @cached_property
    def at_once(self) -> int:
        """How many rows pass the model at once, the nodes of a path counted."""
        return rows_at_once(self.model, self.bases, self.settings.memory * 2**20)

    def attributions(self, done: int = 0) -> Iterator[Attributions]:
        """What each player contributed to the logit of each row, `PIECE` rows at a time.

        Args:
            done: how many rows, from the first one, are not wanted any more.

        Raises:
            ValueError: the method claims that its parts add up, and they miss more than the
                tolerance.
        """
        for start in range(done, len(self.rows), PIECE):
            piece = self.explained(self.settings.method, self.rows[start : start + PIECE], start)
            self._refuse_incomplete(piece)
            yield piece

    def explained(
        self, method: Method, rows: Tensor, start: int = 0, seed: int | None = None
    ) -> Attributions:
        """The attributions of some rows of the split, by any method.

        Args:
            method: how the logit's difference from the baseline is divided among the players.
            rows: (B,) rows of the split.
            start: the number of the first of them among all that are explained.
            seed: of what a sampled method draws; that of the run if None.
        """
        values, logits, differences = [], [], []
        draws = self.seed if seed is None else seed
        for game in self.games(rows, method.evaluations(len(self.view.players)), start):
            values.append(self._mean(method.attribute(game, draws)))
            logits.append(self._mean(game.logits(torch.ones(1, game.players))[:, 0]))
            differences.append(self._mean(game.difference))
        found, logit, difference = (
            torch.cat(part).float().cpu() for part in (values, logits, differences)
        )
        labels = self._split.batch.targets[rows, self.task]
        return Attributions(self.view.players, found, logit, logit - difference, rows, labels)

    def games(
        self, rows: Tensor, evaluations: int, start: int = 0, view: Gates | None = None
    ) -> Iterator[Game]:
        """Rows of the split beside each of the M baselines: games of B · M rows, row by row.

        Args:
            rows: (N,) rows of the split.
            evaluations: how many settings of each row will pass the model.
            start: the number of the first of them among all that are explained.
            view: the players; those of the settings if None.
        """
        many = self.bases.rows
        each = max(1, self.at_once // (evaluations * many))
        for batch in self._split.batch.take(rows).chunks(each):
            with torch.no_grad():
                inputs = self.model.embed(batch.to(self.model.device))
            pairs = Inputs(*(part.repeat_interleave(many, 0) for part in inputs))
            bases = Inputs(*(p.repeat(inputs.rows, *[1] * (p.ndim - 1)) for p in self.bases))
            index = torch.arange(start * many, (start + inputs.rows) * many)
            yield Game(
                self.model, view or self.view, pairs, bases.beside(pairs), self.task, self.at_once,
                index,
            )  # fmt: skip
            start += inputs.rows

    def neurons(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """What flows through each unit of each layer: (C, B, U) by layer, and the number B of rows.

        C holds each emission a row, of each task: that of the explained task's last one comes last.
        So the maximum over C tells who is silent for all, as a unit that only another task reads
        does something.
        """
        method, many = self.settings.neurons, self.bases.rows
        others = [t for t in range(len(self.dataset.schema.targets)) if t != self.task]
        for game in self.games(self.rows, method.evaluations):
            found = [
                method.values(self.model, game.inputs, game.baseline, task)
                for task in (*others, self.task)
            ]
            yield game.rows // many, {
                name: self._mean(torch.cat([each[name] for each in found]), 1) for name in found[0]
            }

    def neuron_table(self, spreads: dict[str, Spread]) -> Table:
        """One row a unit: which it is, and statistics of what flows through it."""
        frames = [
            pd.concat([_about(name, layer), spreads[name].frame()], axis=1)
            for name, layer in self.model.layers.items()
        ]
        return Table(pd.concat(frames, ignore_index=True) if frames else NO_NEURONS)

    def pairs(self) -> Table:
        """Statistics of the interaction of every two features, the strongest first.

        A player is a whole feature, though the settings ask for its dimensions.
        """
        whole: dict[Granularity, Granularity] = {"dimensions": "fields"}
        view = self._gates([whole.get(kind, kind) for kind in self.settings.kinds])
        rows = self.rows[draw(len(self.rows), self.settings.pair_rows, self.seed)]
        if not len(rows) or len(view.players) < 2:
            return Table(NO_PAIRS)
        spread = Spread()
        for game in self.games(rows, evaluations(len(view.players)), view=view):
            spread.add(self._mean(interactions(game)).unsqueeze(0))
        frame = pd.concat([names(view.players, _weights(self.model)), spread.frame()], axis=1)
        by_size = frame.sort_values("mean_abs", ascending=False, kind="stable", ignore_index=True)
        return Table(by_size)

    def _mean(self, values: Tensor, axis: int = 0) -> Tensor:
        """The mean over the baselines of values of B · M rows."""
        return values.unflatten(axis, (-1, self.bases.rows)).mean(axis + 1)

    @property
    def _split(self):
        return self.dataset.splits[self.settings.select.split]

    def _gates(self, players) -> Gates:
        schema, width = self.model.schema, self.model.width
        return gates(schema, width, players, self.model.device, self.settings.groups)

    def _task(self, name: str | None) -> int:
        """The column of the logit that is explained."""
        known = [target.name for target in self.dataset.schema.targets]
        if name is not None and name not in known:
            raise ValueError(f"explain.task: no task {name!r}{one_of(name, known)}")
        return 0 if name is None else known.index(name)
