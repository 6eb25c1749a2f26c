"""Adagrad with one number a row: for embedding tables of which a step touches a few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer


class RowwiseAdagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer, JMLR 2011) whose sums are means over a row.

    A row w with the gradient g of a whole batch becomes w - lr · g / (√G + eps), where G, one
    number a row, has first grown by the mean of g²; as FBGEMM's exact row-wise Adagrad does, and
    TorchRec with it (Khudia et al., arXiv:2101.05615). Its state is a row's width times smaller
    than Adagrad's. Rows that a batch does not name stay as they are, to the bit.

    Gradients may be sparse, which is what it is for, or dense. Finding the distinct rows of a
    sparse gradient waits for the device.

    Args:
        params: tensors of at least one dimension, the first being the rows.
        lr: the learning rate.
        eps: keeps a row whose gradient is zero from dividing by it.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: Annotated[float, Gt(0)] = 0.03,
        eps: Annotated[float, Gt(0)] = 1e-8,
    ) -> None:
        for name, value in {"learning rate": lr, "eps": eps}.items():
            if not value > 0:
                raise ValueError(f"Invalid {name}: {value}; must be > 0")
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Descend the gradients that the parameters hold; `closure`, if given, makes them first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._descend(parameter, group["lr"], group["eps"])
        return loss

    def _descend(self, parameter: Parameter, lr: float, eps: float) -> None:
        state = self.state[parameter]
        if not state:
            state["sum"] = parameter.new_zeros(len(parameter))
        rows, values = _touched(parameter.grad)
        sums = state["sum"].index_add_(0, rows, values.flatten(1).square().mean(1))
        steps = sums[rows].sqrt_().add_(eps).reciprocal_().mul_(-lr)
        parameter.index_add_(0, rows, values * steps.view(-1, *[1] * (values.ndim - 1)))


def _touched(gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """The rows (R,) that a gradient is about, each once, and what it says of each (R, ...)."""
    assert gradient is not None
    if gradient.is_sparse:
        gradient = gradient.coalesce()  # what several entries of the batch say of a row, added up
        return gradient.indices()[0], gradient.values()
    rows = gradient.flatten(1).any(1).nonzero().squeeze(1)
    return rows, gradient[rows]
