"""Which single rows figures show."""

from __future__ import annotations

import torch

from glassrec.report.row_figures import evenly_spaced


def test_rows_are_taken_at_even_places() -> None:
    logits = torch.tensor([5.0, 1, 4, 2, 3])
    assert evenly_spaced(logits, 3).tolist() == [1, 4, 0]
    assert evenly_spaced(logits, 9).tolist() == [1, 3, 4, 2, 0]
