"""Statistics of units over rows, gathered chunk by chunk so that memory does not grow with them."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor


class Spread:
    """Running statistics of values of rows: what a ranking of the U units may rest on.

    Signed values of different rows cancel, so units are ranked by the mean of |·|, and the signed
    mean and the cancellation stand beside it. Where a unit emits several times a row, these are of
    the last emission; `max_abs` alone is of all, so that it is zero only for a unit without effect.
    """

    COLUMNS = ("mean_abs", "max_abs", "mean", "cancellation", "zero_share")

    def __init__(self) -> None:
        self.rows = 0
        self._sum: Tensor | None = None

    def add(self, emissions: Tensor) -> None:
        """Take in the values (C, B, U) of more rows, of C emissions a row."""
        # Apple's GPUs know no float64.
        emissions = (emissions.cpu() if emissions.device.type == "mps" else emissions).double()
        values = emissions[-1]
        size = values.abs()
        sums = torch.stack([size.sum(0), values.sum(0), (values == 0).sum(0).double()])
        largest = emissions.abs().amax((0, 1))
        if self._sum is None:
            self._sum, self._largest = sums, largest
        else:
            self._sum += sums
            self._largest = torch.maximum(self._largest, largest)
        self.rows += values.shape[0]

    def frame(self) -> pd.DataFrame:
        """One row a unit: mean_abs, max_abs, mean, cancellation, zero_share.

        cancellation is 1 − |Σ v| / Σ |v|: 0 where all signs agree, 1 where they cancel out.
        """
        assert self._sum is not None, "no rows were added"
        size, signed, zeros = self._sum.cpu()
        kept = torch.where(size > 0, signed.abs() / size.clamp_min(1e-300), 1.0)
        rows = self.rows
        columns = [size / rows, self._largest.cpu(), signed / rows, 1 - kept, zeros / rows]
        return pd.DataFrame(dict(zip(self.COLUMNS, (c.numpy() for c in columns), strict=True)))
