"""A model, its data and the settings of an explanation, ready to be asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassrec.artifacts import Attributions
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Target
from glassrec.explain.game import Game
from glassrec.explain.gates import Gates, Granularity, baseline, gates
from glassrec.explain.memory import rows_at_once
from glassrec.explain.methods import Method
from glassrec.explain.sample import Sample
from glassrec.explain.selection import draw
from glassrec.models.base import Inputs, Recommender
from glassrec.progress import with_progress
from glassrec.spelling import one_of

if TYPE_CHECKING:
    from glassrec.explain.stage import Explain

PIECE = 4096
"""Rows, at most, of which results are handed on together; a killed process loses so many."""

ROUNDING = 1e-5
"""The share of the mean |logit| up to which what parts miss is rounding."""

KNOWN = 4096
"""Training rows, at most, that the mean embedding is taken of."""


class Explainer:
    """Answers about one task of one model on some rows of one dataset; see `Explain.of`."""

    def __init__(
        self,
        settings: Explain,
        model: Recommender,
        dataset: Dataset,
        seed: int,
        own_baseline: Inputs | None = None,
    ) -> None:
        self.settings, self.model, self.dataset, self.seed = settings, model.eval(), dataset, seed
        self.task = self._task(settings.task)
        self.view = self.gates(settings.players)
        self.own = own_baseline is not None
        if own_baseline is not None:
            with torch.no_grad():
                row = model.embed(dataset.train.batch.slice(0, 1).to(model.device))
            self.bases = Inputs(*(part.to(model.device) for part in own_baseline))
            for one in range(self.bases.rows):
                Inputs(*(part[one : one + 1] for part in self.bases)).expand_to(row)

    def check(self) -> None:
        """ValueError, before hours of training, if a method cannot explain this model."""
        settings = self.settings
        many = self.bases.rows if self.own else settings.baselines
        settings.method.check(self.model, self.view, many)
        if settings.significance == "features" and self.target.kind == "retrieval":
            raise ValueError(
                "explain.significance=features: a retrieval has no loss of a single row; take "
                "labels or none"
            )

    @cached_property
    def matching(self) -> Tensor:
        """The rows of the split that pass the filters of the selection."""
        return self.settings.select.matching(self.model, self.dataset, self.task)

    @cached_property
    def rows(self) -> Tensor:
        """(N,) int32: the explained rows of the split, in order."""
        select, matching = self.settings.select, self.matching
        return select.draw(matching, self.seed, select.held_out(matching, self.dataset, self.task))

    @property
    def selection(self) -> str:
        """Which rows are explained, for titles."""
        held_out = self.settings.select.held_out(self.rows, self.dataset, self.task)
        count = None if held_out is None else int(held_out.sum())
        return self.settings.select.describe(len(self.matching), count)

    @cached_property
    def bases(self) -> Inputs:
        """M rows of inputs that stand for "nothing known"; results are averaged over them."""
        batch, settings = self.dataset.train.batch, self.settings
        wanted = settings.baselines if settings.kind == "background" else KNOWN
        drawn = batch.select(draw(batch.rows, wanted, self.seed)).to(self.model.device)
        with torch.no_grad():
            return baseline(self.model, settings.kind, self.model.embed(drawn))

    @property
    def baseline(self) -> str:
        """What the baseline is, for titles."""
        many, kind = self.bases.rows, self.settings.kind
        if self.own:
            return f"{many} given row{'s' if many > 1 else ''}"
        return f"{many} training rows" if kind == "background" else kind

    @cached_property
    def at_once(self) -> int:
        """How many rows pass the model at once, the settings of each counted."""
        return rows_at_once(self.model, self.bases, self.settings.memory * 2**20)

    @property
    def target(self) -> Target:
        """The explained task."""
        return self.dataset.schema.targets[self.task]

    @property
    def split(self) -> Split:
        """Where the explained rows come from."""
        return self.dataset.splits[self.settings.select.split]

    @property
    def method(self) -> Method:
        """The method of the settings, refined until its parts add up, as far as it can be."""
        return self._refined[0]

    @cached_property
    def _refined(self) -> tuple[Method, Attributions | None]:
        """The refined method, and the attributions of `PIECE` random rows that it was judged by.

        Where the parts miss more of the logit difference than the tolerance, the nodes of the path
        are doubled. A method that cannot be refined is not judged here.
        """
        method = self.settings.method
        while method.complete and (finer := method.finer()) is not None:
            found = self.explained(method, self.few(PIECE))
            if self._adds_up(found):
                return method, found
            method = finer
        return method, None

    def attributions(self) -> Attributions:
        """What each player contributed to the logit of each row; as `pieces`, all at once."""
        return Attributions.join(self.pieces())

    def pieces(self, done: int = 0) -> Iterator[Attributions]:
        """What each player contributed to the logit of each row, some thousand rows at a time.

        Args:
            done: how many rows, from the first one, are not wanted any more.
        """
        # Of the same size: what few rows that are left over miss would say little of the method.
        pieces = max(1, ceil(len(self.rows) / PIECE))
        size = ceil(len(self.rows) / pieces)
        method, judged = self._refined
        for start in range(done, len(self.rows), size):
            if judged is not None and pieces == 1:
                yield judged  # all rows have been explained already
            else:
                yield self.explained(method, self.rows[start : start + size], start)

    def explained(self, method: Method, rows: Tensor, start: int = 0) -> Attributions:
        """The attributions of some rows of the split, by any method.

        Args:
            method: how the logit's difference from the baseline is divided among the players.
            rows: (B,) rows of the split.
            start: the number of the first of them among all that are explained.
        """
        values, logits, differences = [], [], []
        games = self.games(rows, method.evaluations(len(self.view.players)), start)
        parts = ((game.rows // self.bases.rows, game) for game in games)
        # A slow method takes minutes for the rows of one piece.
        for game in with_progress(parts, max(len(self.rows), start + len(rows)), start):
            values.append(self.averaged(method.attribute(game, self.seed)))
            logits.append(self.averaged(game.logits(torch.ones(1, game.players))[:, 0]))
            differences.append(self.averaged(game.difference))
        found, logit, difference = (
            torch.cat(part).detach().float().cpu() for part in (values, logits, differences)
        )
        labels = self.split.batch.targets[rows, self.task]
        return Attributions(
            self.view.players, found, logit, logit - difference, rows.long(), labels
        )

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
        at_once = min(PIECE, max(1, self.at_once // (evaluations * self.bases.rows)))
        for some in rows.split(at_once):
            yield self._game(some, start, view or self.view)
            start += len(some)

    def sample(self, count: int) -> Sample:
        """Some of the rows, each beside its baselines and beside another row of the split."""
        rows = self.few(count)
        return Sample(self._game(rows, 0, self.view), self._others(len(rows)))

    def beside_others(self, count: int) -> Game:
        """As that of the sample, which would hold each row once for each baseline."""
        inputs = self._embedded(self.few(count))
        others = self._others(inputs.rows).expand_to(inputs)
        return Game(self.model, self.view, inputs, others, self.task, self.at_once)

    def few(self, count: int) -> Tensor:
        """At most `count` of the explained rows, at random, in order."""
        return self.rows[draw(len(self.rows), count, self.seed)]

    def averaged(self, values: Tensor, axis: int = 0) -> Tensor:
        """The mean over the baselines of values whose `axis` is the B · M rows of a game."""
        return values.unflatten(axis, (-1, self.bases.rows)).mean(axis + 1)

    def gates(self, players: Granularity | Sequence[Granularity]) -> Gates:
        """Players of the explained model."""
        schema, width = self.model.schema, self.model.width
        return gates(schema, width, players, self.model.device, self.settings.groups)

    def _game(self, rows: Tensor, start: int, view: Gates) -> Game:
        inputs, many = self._embedded(rows), self.bases.rows
        pairs = Inputs(*(part.repeat_interleave(many, 0) for part in inputs))
        bases = Inputs(*(p.repeat(len(rows), *[1] * (p.ndim - 1)) for p in self.bases))
        index = torch.arange(start * many, (start + len(rows)) * many)
        return Game(self.model, view, pairs, bases.expand_to(pairs), self.task, self.at_once, index)

    def _others(self, count: int) -> Inputs:
        """Random rows of the split."""
        generator = torch.Generator().manual_seed(self.seed)
        rows = torch.randint(self.split.batch.rows, (count,), generator=generator)
        return self._embedded(rows)

    @torch.no_grad()
    def _embedded(self, rows: Tensor) -> Inputs:
        return self.model.embed(self.split.batch.select(rows).to(self.model.device))

    def _adds_up(self, piece: Attributions) -> bool:
        """Whether the parts miss no more than the tolerance."""
        # Where nothing moves the logit, what is missed is rounding.
        rounding = ROUNDING * piece.logits.abs().mean()
        missed = piece.delta.abs().mean()
        return bool(missed <= rounding) or piece.relative_delta <= self.settings.tolerance

    def _task(self, name: str | None) -> int:
        """The column of the logit that is explained."""
        known = [target.name for target in self.dataset.schema.targets]
        if name is not None and name not in known:
            raise ValueError(f"explain.task: no task {name!r}{one_of(name, known)}")
        return 0 if name is None else known.index(name)
