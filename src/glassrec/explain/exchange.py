"""Two rows exchange the value of one player: how far the model needs it, and what it does alone.

No baseline is chosen here: the other row's value is one that the data hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.models.base import Inputs


@dataclass(frozen=True)
class Exchange:
    """H pairs of rows, drawn at random, each row in one of them; of an odd number one is left out.

    Exchanging a whole history keeps the number of steps of each row.
    """

    rows: Tensor
    """(2, H) int64: the pairs"""
    logits: Tensor
    """(2, H) float64: of the rows as they are"""
    exchanged: Tensor
    """(2, H, P) float64: of the rows with the other's value of one player"""

    @staticmethod
    def of(game: Game, seed: int) -> Exchange:
        """The pairs of a game's rows; its baseline is not used. P + 1 logits a row.

        Raises:
            ValueError: there is one row only.
        """
        if game.rows < 2:
            raise ValueError(f"two rows are needed to exchange values, and there is {game.rows}")
        half = game.rows // 2
        order = torch.randperm(game.rows, generator=torch.Generator().manual_seed(seed))
        order = order[: 2 * half].to(game.inputs.dense.device)
        inputs = Inputs(*(part[order] for part in game.inputs))
        others = Inputs(*(part.roll(half, 0) for part in inputs)).expand_to(inputs)
        pairs = replace(game, inputs=inputs, baseline=others, index=order.cpu())
        players = game.players
        found = pairs.logits(torch.cat([torch.ones(1, players), 1 - torch.eye(players)]))
        return Exchange(
            order.view(2, half), found[:, 0].view(2, half), found[:, 1:].unflatten(0, (2, half))
        )

    def main_effects(self) -> pd.DataFrame:
        """How strongly each player moves the logit by itself, whatever the others are.

        Its main effect is E[f | its value], and the strength is the standard deviation over rows of
        that, in logits: the root of Sobol's first-order variance (Sobol, 1993), estimated by
        Cov(f(b), f(a with b's value) − f(a)) over pairs of rows a, b (Saltelli et al., Computer
        Physics Communications 2010). What a player does only together with another is not in it,
        where an attribution holds a share of that. Columns should be independent of each other.

        Returns:
            One row a player: strength, strength_low, strength_high (95 %, normal on the variance).
        """
        other = (self.logits - self.logits.mean()).flip(0).unsqueeze(2)
        terms = (other * (self.exchanged - self.logits.unsqueeze(2))).mean(0)
        variance = terms.mean(0)
        error = 1.96 * terms.std(0) / len(terms) ** 0.5
        ends = {
            "strength": variance,
            "strength_low": variance - error,
            "strength_high": variance + error,
        }
        return pd.DataFrame({k: v.clamp_min(0).sqrt().cpu().numpy() for k, v in ends.items()})
