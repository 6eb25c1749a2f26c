"""Attributions of the logit to players, by Captum over gates."""

from __future__ import annotations

import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from glassrec.explain.gates import Gates
from glassrec.models.base import Inputs, Recommender


def integrated_gradients(
    model: Recommender,
    gates: Gates,
    inputs: Inputs,
    baseline: Inputs,
    *,
    steps: int,
    task: int = 0,
) -> tuple[Tensor, Tensor]:
    """Integrated gradients (Sundararajan et al., 2017) over the players' gates.

    Args:
        model: in evaluation mode.
        gates: the P players.
        inputs: B embedded rows.
        baseline: one row, or B.
        steps: nodes of the Gauss-Legendre rule.
        task: the column of the logits.

    Returns:
        attributions (B, P) and Captum's convergence delta (B,).
    """
    rows = inputs.rows
    baseline = baseline.beside(inputs)
    # Captum repeats what it scales, the gates, and hands the other arguments on as they are.
    on = inputs.dense.new_ones(rows, len(gates.players))

    def forward(scaled: Tensor) -> Tensor:
        times = scaled.shape[0] // rows
        repeated = Inputs(*(part.repeat(times, *[1] * (part.ndim - 1)) for part in inputs))
        base = Inputs(*(part.repeat(times, *[1] * (part.ndim - 1)) for part in baseline))
        return model.score(gates.apply(scaled, repeated, base))[:, task]

    values, delta = IntegratedGradients(forward).attribute(
        on, torch.zeros_like(on), n_steps=steps, return_convergence_delta=True
    )
    return values.detach(), delta.detach()
