"""Row-wise Adagrad against its formula, row by row, and against Adagrad where they agree."""

import numpy as np
import pytest
import torch
from torch import nn

from glassrec.training.rowwise import RowwiseAdagrad


def table(rows=7, width=3, sparse=True):
    generator = torch.Generator().manual_seed(0)
    embedding = nn.Embedding(rows, width, sparse=sparse)
    with torch.no_grad():
        embedding.weight.copy_(torch.randn(rows, width, generator=generator))
    return embedding


def losses(steps=4, rows=7, width=3, batch=10, touched=6):
    """Ids (batch,), most of them more than once, and weights (batch, width) of their vectors."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        ids = torch.randint(touched, (batch,), generator=generator)
        yield ids, torch.randn(batch, width, generator=generator)


def train(embedding, optimizer, **options):
    for ids, weights in losses(**options):
        optimizer.zero_grad()
        (embedding(ids) * weights).sum().backward()
        optimizer.step()
    return embedding.weight.detach()


@pytest.mark.parametrize("sparse", [True, False])
def test_it_is_the_formula_with_the_entries_of_a_row_added_up_first(sparse):
    embedding = table(sparse=sparse)
    expected = embedding.weight.detach().double().numpy().copy()
    sums = np.zeros(len(expected))
    for ids, weights in losses():
        for row in set(ids.tolist()):
            gradient = weights.double().numpy()[ids.numpy() == row].sum(0)
            sums[row] += (gradient**2).mean()
            expected[row] -= 0.1 * gradient / (np.sqrt(sums[row]) + 1e-3)
    found = train(embedding, RowwiseAdagrad(embedding.parameters(), lr=0.1, eps=1e-3))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert sums[-1] == 0  # the last row is in no batch


def test_with_one_number_a_row_it_is_adagrad():
    ours, theirs = table(width=1), table(width=1)
    optimizer = torch.optim.Adagrad(theirs.parameters(), lr=0.1, eps=1e-8)
    expected = train(theirs, optimizer, width=1)
    found = train(ours, RowwiseAdagrad(ours.parameters(), lr=0.1, eps=1e-8), width=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("sparse", [True, False])
def test_rows_that_no_batch_names_stay_to_the_bit(sparse):
    embedding = table(sparse=sparse)
    before = embedding.weight.detach().clone()
    found = train(embedding, RowwiseAdagrad(embedding.parameters()), touched=4)
    assert torch.equal(found[4:], before[4:])
    assert (found[:4] != before[:4]).all()


def test_its_state_is_one_number_a_row():
    embedding = table()
    optimizer = RowwiseAdagrad(embedding.parameters())
    train(embedding, optimizer)
    (state,) = optimizer.state.values()
    assert {name: value.shape for name, value in state.items()} == {"sum": (7,)}


def test_a_row_whose_gradient_is_zero_stays():
    embedding = table()
    before = embedding.weight.detach().clone()
    (embedding(torch.tensor([2])) * 0).sum().backward()
    RowwiseAdagrad(embedding.parameters()).step()
    assert torch.equal(embedding.weight, before)


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"lr": -1}, {"eps": 0.0}, {"lr": float("nan")}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=r"Invalid .*; must be > 0"):
        RowwiseAdagrad(table().parameters(), **settings)


def test_a_closure_is_called_with_gradients():
    embedding = table()

    def closure():
        loss = embedding(torch.tensor([1])).square().sum()
        loss.backward()
        return loss.item()

    before = closure()
    embedding.weight.grad = None
    optimizer = RowwiseAdagrad(embedding.parameters())
    assert optimizer.step(closure) == before
    assert embedding(torch.tensor([1])).square().sum() < before
