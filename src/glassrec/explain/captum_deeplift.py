"""Captum's DeepLIFT, as a reference. It has no rule for products, and its delta tells of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from glassrec.explain.game import Game
from glassrec.explain.methods import Method
from glassrec.models.base import Inputs


@dataclass(frozen=True)
class CaptumDeepLift(Method):
    """`captum.attr.DeepLift` (rescale rule) of the embedded inputs, summed over players.

    It sees nonlinearities that are modules of their own, each called once: no products, no gates of
    recurrent cells, no functions.
    """

    complete: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Whose it is."""
        return "DeepLIFT by Captum"

    def evaluations(self, players: int) -> int:
        """The row and its baseline."""
        return 2

    def attribute(self, game: Game, seed: int) -> Tensor:
        """The inputs' parts; ValueError if the model calls a nonlinear module twice."""
        # Here, as Captum takes a second to import and other methods need nothing of it.
        from captum.attr import DeepLift

        flat = _Flat(game)
        with _as_it_was(game.model):
            try:
                parts = DeepLift(flat).attribute(
                    flat.join(game.inputs).requires_grad_(), flat.join(game.off)
                )
            except RuntimeError as error:
                if "used more than once" not in str(error):
                    raise
                raise ValueError(
                    f"Captum's DeepLIFT cannot explain {type(game.model).__name__}, which calls a "
                    "module of a nonlinearity more than once; take explain/method=deeplift"
                ) from error
        return game.gates.sum_over_players(flat.split(parts.detach()))


class _Flat(nn.Module):
    """The model's logit (B,) of all inputs in one tensor (B, L).

    Captum wants a module, and tensors that all have a gradient, read or not.
    """

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.model = game.model
        self.task = game.task
        self.shapes = [part.shape[1:] for part in game.inputs]

    def forward(self, flat: Tensor) -> Tensor:
        """(B,)."""
        return self.model.task_logits(self.split(flat))[:, self.task]

    def join(self, parts: Inputs) -> Tensor:
        """(B, L)."""
        return torch.cat([part.detach().flatten(1) for part in parts], 1)

    def split(self, flat: Tensor) -> Inputs:
        """The parts of (B, L)."""
        parts = flat.split([shape.numel() for shape in self.shapes], 1)
        return Inputs(
            *(part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True))
        )


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Takes from modules what Captum leaves on those that no gradient reaches.

    It also warns, at each call, that it sets hooks, and that it removes them.
    """
    before = {module: set(vars(module)) for module in model.modules()}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*Setting forward, backward hooks")
            yield
    finally:
        for module, names in before.items():
            for name in {"input", "output", "input_ref"} & (set(vars(module)) - names):
                delattr(module, name)
