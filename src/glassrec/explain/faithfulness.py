"""Whether the parts say what the logit does when inputs are taken away.

The parts are given, so nothing here asks which method they came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.game import Game, double
from glassrec.explain.gates import Gates
from glassrec.explain.sample import Sample


class Curves(NamedTuple):
    """How the mean logit moves as players are replaced, or put back, one after the other."""

    frame: pd.DataFrame
    """kind (deletion or insertion), order (method or random), share (of the players that were
    replaced or put back), mean_logit (over rows)"""
    areas: dict[str, float]
    """deletion, insertion, deletion_random, insertion_random"""


def curves(sample: Sample, parts: Tensor, steps: int, seed: int) -> Curves:
    """Deletion and insertion curves (Petsiuk, Das and Saenko, BMVC 2018), with a random reference.

    Players go in the order of their signed parts, those that raise the logit most first. By size
    instead, what raises and what lowers would go together, and the mean logit would say little.
    A player that is deleted has the value of another data row; insertion starts from that row. So
    every value is one of the data, where a baseline can be a place that the model never saw.

    With m(s) the mean logit at share s, and Δ the mean over rows of |logit − that of the other
    row|, the areas are ∫ (m(0) − m(s)) ds / Δ for deletion and ∫ (m(s) − m(0)) ds / Δ for
    insertion, by the trapezoid rule: how far the logit falls or rises on the way. For both, the
    larger and the further above a random order, the more faithful. NaN if no player moves a logit.

    Args:
        sample: B rows.
        parts: (B, P).
        steps: shares at which the logit is taken, beside 0; fewer players take one step each.
        seed: of the random orders: one for each row, and its reverse, so that luck evens out.
    """
    game = sample.beside_others()
    counts = torch.linspace(0, game.players, min(steps, game.players) + 1).round()
    random = torch.rand(parts.shape, generator=torch.Generator().manual_seed(seed))
    scale = game.difference.abs().mean().item()
    frames, areas = [], {}
    shares = counts.double() / game.players
    for order, rankings in (("method", [parts]), ("random", [random, -random])):
        found = [game.logits(_nested(ranked.to(parts), counts)).mean(0) for ranked in rankings]
        means = torch.stack(found).mean(0).cpu().view(2, -1)
        ends = "" if order == "method" else "_random"
        for kind, sign, mean in zip(("deletion", "insertion"), (-1, 1), means, strict=True):
            columns = {"share": shares.numpy(), "mean_logit": mean.numpy()}
            frames.append(pd.DataFrame({"kind": kind, "order": order, **columns}))
            area = torch.trapezoid(sign * (mean - mean[0]), shares).item()
            areas[kind + ends] = area / scale if scale else float("nan")
    return Curves(pd.concat(frames, ignore_index=True), areas)


def _nested(ranked: Tensor, counts: Tensor) -> Tensor:
    """(B, 2 C, P): all players without, then only, the first k by falling rank, for C values of k.

    Equal ones go in the order of the players.
    """
    place = ranked.argsort(dim=1, descending=True, stable=True).argsort(1)
    reached = place.unsqueeze(1) < counts.to(place).view(1, -1, 1)
    return torch.cat([~reached, reached], 1)


def subsets(players: int, count: int, seed: int) -> Tensor:
    """Random sets of players, 1 = in: (C, P).

    Each has a share of its own, drawn uniformly: small and large ones come up alike.
    """
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(count, 1, generator=generator)
    return (torch.rand(count, players, generator=generator) < share).double()


def infidelity(sample: Sample, parts: Tensor, removed: Tensor) -> float:
    """What the parts of removed players miss of the logit's fall (Yeh et al., NeurIPS 2019).

    E (Σ parts of I − (f(x) − f(x without I)))² over rows and sets I, which are at the baseline in x
    without I. It is divided by E (f(x) − f(x without I))², so that models compare: 0 is perfect,
    and 1 is no better than parts of zero. The parts are not rescaled, as the authors do to be fair
    to methods without units: here all are in logits. Not finite if no set moves a logit.

    Args:
        sample: B rows.
        parts: (B, P).
        removed: (C, P), 1 = in the set.
    """
    whole = removed.new_zeros(1, removed.shape[1])
    logits = sample.logits(1 - torch.cat([whole, removed]))
    fall = logits[:, :1] - logits[:, 1:]
    missed = double(parts) @ removed.to(fall).T - fall
    return (missed.square().mean() / fall.square().mean()).item()


def removals(games: Mapping[str, Iterable[Game]]) -> pd.DataFrame:
    """What removing all inputs of a kind does, whoever the players are.

    Args:
        games: the rows beside what replaces them, some at a time, by the replacement's name.

    Returns:
        one row for each kind that the model reads and each replacement: removed (dense, fields or
        history), replacement, positive_before, positive_after (shares of
        rows with a logit above 0: predicted clicks), mean_logit_before, mean_logit_after.
    """
    return pd.concat([_removed(*each) for each in games.items()], ignore_index=True)


def _removed(replacement: str, games: Iterable[Game]) -> pd.DataFrame:
    """One row a kind of inputs, as in `removals`."""
    kinds, found = zip(*(_without_each_kind(game) for game in games), strict=True)
    logits = torch.cat(found)
    positive, mean = (logits > 0).double().mean(0).tolist(), logits.mean(0).tolist()
    return pd.DataFrame(
        {
            "removed": kinds[0],
            "replacement": replacement,
            "positive_before": positive[0],
            "positive_after": positive[1:],
            "mean_logit_before": mean[0],
            "mean_logit_after": mean[1:],
        }
    )


def _without_each_kind(game: Game) -> tuple[tuple[str, ...], Tensor]:
    """The kinds K of inputs that there are; the logits (B, 1 + K) with all, and without each."""
    sizes = {name: part[0].numel() for name, part in game.inputs._asdict().items()}
    kinds = tuple(name for name, size in sizes.items() if size and name != "steps")
    places = [kinds.index(name) if name in kinds else -1 for name in sizes]
    owner = torch.tensor(places).repeat_interleave(torch.tensor(list(sizes.values())))
    view = Gates(kinds, owner.to(game.inputs.dense.device))
    settings = torch.cat([torch.ones(1, len(kinds)), 1 - torch.eye(len(kinds))])
    return kinds, replace(game, gates=view).logits(settings)
