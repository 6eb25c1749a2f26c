"""Training with an optimiser of its own for the joint table, whose gradients are sparse."""

import re
from functools import partial
from itertools import chain

import pytest
import torch
import training_toy as toy
from safetensors.torch import load_file
from torch.nn.functional import binary_cross_entropy_with_logits
from training_toy import fit

from glassrec.__main__ import main
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import ABSENT, Field, Schema
from glassrec.models.base import Recommender
from glassrec.models.layers import Affine
from glassrec.training.rowwise import RowwiseAdagrad
from glassrec.training.settings import cores
from glassrec.training.trainer import Trainer

ADAM = partial(torch.optim.Adam, lr=0.01)
ROWWISE = partial(RowwiseAdagrad, lr=0.02)
SPARSE_ADAM = partial(torch.optim.SparseAdam, lr=0.01)
BOTH = pytest.mark.parametrize("table", [ROWWISE, SPARSE_ADAM], ids=["rowwise", "sparse_adam"])


def same(left, right):
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


@BOTH
def test_it_is_a_plain_loop_with_two_optimisers_to_the_bit(tmp_path, table):
    model = toy.model()
    model.table.sparse = True
    optimizers = [ADAM(model.output.parameters()), table([model.table.weight])]
    for epoch in range(3):
        for batch in toy.dataset().epoch(1, epoch).chunks(64):
            loss = binary_cross_entropy_with_logits(model(batch), batch.targets)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        toy.average_unseen(model.table.weight)
    trained = fit(tmp_path, table_optimizer=table)
    assert trained.history["val/auroc"].is_monotonic_increasing  # so the best epoch is the last
    assert same(trained.weights, model.state_dict())


@BOTH
def test_it_learns_as_well_as_one_optimiser(tmp_path, table):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = fit(tmp_path / "one", max_epochs=12).history["val/auroc"].max()
    two = fit(tmp_path / "two", max_epochs=12, table_optimizer=table).history["val/auroc"].max()
    assert one > 0.8
    assert two > one - 0.01


SCHEMA = Schema(
    ("x",), (Field("user", 9), Field("genres", 11, values=3), Field("item", 13)),
    user="user", item="item", item_side=("item",), history_length=4,
)  # fmt: skip


class Reader(Recommender):
    """Reads all there is: single ids, several ids in a field, and a history."""

    def __init__(self) -> None:
        super().__init__(SCHEMA, SCHEMA, 4)
        self.output = Affine([16], 1)

    def score(self, inputs):
        return self.output(torch.cat([inputs.fields.flatten(1), inputs.history.sum(1)], 1))


def named_by(rows):
    """80 rows that name some ids of each field, other items in the history, and gaps."""
    generator = torch.Generator().manual_seed(0)

    def among(ids, *shape):
        return torch.tensor(ids)[torch.randint(len(ids), shape, generator=generator)]

    genres = among(rows["genres"], 80, 3)
    genres[:, 1:][torch.rand(80, 2, generator=generator) < 0.5] = ABSENT
    ids = torch.cat([among(rows["user"], 80, 1), genres, among(rows["item"], 80, 1)], 1)
    history = among(rows["history"], 80, 4)
    history[:40, :2] = 0
    click = (torch.rand(80, 1, generator=generator) < 0.5).float()
    split = Split(Batch(torch.zeros(80, 1), ids, history, click))
    return Dataset(SCHEMA, split, split, split)


@BOTH
def test_rows_of_the_table_that_no_training_row_names_stay_to_the_bit(tmp_path, table):
    torch.manual_seed(0)
    model, rows = Reader(), {"user": [2, 5], "genres": [12, 13], "item": [21], "history": [25, 26]}
    before = model.table.weight.detach().clone()
    decaying = partial(torch.optim.SGD, lr=0.1, weight_decay=0.5)
    Trainer(3, 32, monitor="val/log_loss").fit(
        model, named_by(rows), decaying, table_optimizer=table, seed=0, directory=tmp_path,
        validate=toy.validate, on_epoch=lambda row: None,
    )  # fmt: skip
    changed = (model.table.weight != before).any(1).nonzero().squeeze(1).tolist()
    unseen = [0, 9, 20]  # they have the mean of the others
    assert changed == sorted(chain(unseen, *rows.values()))
    for first, named in zip(unseen, ([2, 5], [12, 13], [21, 25, 26]), strict=True):
        expected = model.table.weight[named].mean(0)
        torch.testing.assert_close(model.table.weight[first], expected)
    assert not model.table.sparse  # a later stage takes its gradients as ever


@BOTH
def test_interrupted_it_goes_on_to_the_same_bits(tmp_path, table):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    options = {"max_epochs": 4, "dropout": 0.5, "table_optimizer": table}
    expected = fit(whole, **options)

    def until_second(row):
        if row["epoch"] == 2:
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="power"):
        Trainer(4, 64).fit(
            toy.model(0.5), toy.dataset(), ADAM, table_optimizer=table, seed=1, directory=broken,
            validate=toy.validate, on_epoch=until_second,
        )  # fmt: skip
    found = fit(broken, **options)
    assert same(found.weights, expected.weights)
    assert found.history.equals(expected.history)
    # Both optimisers went on, or the last epochs would have been other ones.
    states = torch.load(broken / "training.ckpt", weights_only=True)["optimizer_states"]
    assert [len(state["parts"]) for state in states] == [2]


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        (ROWWISE, None, "its table optimizer is RowwiseAdagrad .*lr: 0.02.*, not None; delete it"),
        (None, SPARSE_ADAM, "its table optimizer is None, not SparseAdam .*; delete it"),
        (ROWWISE, partial(RowwiseAdagrad, lr=0.2), "lr: 0.02.*, not .*lr: 0.2"),
    ],
)
def test_a_checkpoint_of_another_table_optimiser_is_refused(tmp_path, first, then, said):
    fit(tmp_path, max_epochs=1, table_optimizer=first)
    with pytest.raises(ValueError, match=said):
        fit(tmp_path, max_epochs=1, table_optimizer=then)


def test_a_precision_that_scales_the_loss_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not with trainer\.precision=16-mixed; take bf16-mixed"):
        fit(tmp_path, table_optimizer=ROWWISE, precision="16-mixed")


def test_several_gpus_are_refused(tmp_path, monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: gpu)
    with pytest.raises(ValueError, match=r"not with trainer\.devices=2, as GPUs do not"):
        fit(tmp_path, table_optimizer=ROWWISE, devices=2, accelerator="gpu")


def test_bfloat16_learns_as_well(tmp_path):
    history = fit(tmp_path, table_optimizer=ROWWISE, precision="bf16-mixed", max_epochs=6).history
    assert history["val/auroc"].iloc[-1] > max(0.75, history["val/auroc"].iloc[0])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two cores are needed")
def test_two_processes_do_what_one_does_at_twice_the_batch(tmp_path):
    from test_trainer import result, run_toy

    two, one = tmp_path / "two", tmp_path / "one"
    code, out, error = run_toy(two, devices=2, batch_size=30, sgd=0.5, rowwise=0.1)
    assert (code, error) == (0, "")
    assert len(re.findall("^epoch", out, re.M)) == 3
    assert run_toy(one, batch_size=60, sgd=0.5, rowwise=0.1)[0] == 0
    (left, left_history), (right, right_history) = result(two), result(one)
    for name in right:
        torch.testing.assert_close(left[name], right[name], rtol=1e-4, atol=1e-5)
    for row, expected in zip(left_history, right_history, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


def test_every_model_gives_the_table_the_same_gradient_sparse_as_dense(model, batch):
    gradients = []
    for sparse in (False, True):
        model.zero_grad()
        model.table.sparse = sparse
        model(batch).square().sum().backward()
        gradients.append(model.table.weight.grad)
    dense, sparse = gradients
    assert sparse.is_sparse
    torch.testing.assert_close(sparse.to_dense(), dense)
    touched = dense.any(1).nonzero().squeeze(1)
    assert set(touched.tolist()) <= set(sparse.coalesce().indices()[0].tolist())


def test_the_command_trains_the_table_and_says_what_memory_that_takes(tmp_path, capsys):
    words = ["data.rows=600", "model=mf", "trainer=cpu", "trainer.max_epochs=1"]
    for name in ("none", "rowwise_adagrad"):
        choice = [f"table_optimizer={name}", f"run.dir={tmp_path / name}"]
        assert main(["train", *words, *choice]) == 0
    lines = [e for e in capsys.readouterr().out.splitlines() if e.startswith("memory ")]
    (dense, sparse), stages = lines[::2], lines[1::2]
    assert all(line.startswith("memory    train about ") for line in stages)
    count = load_file(tmp_path / "none" / "weights.safetensors")["table.weight"].numel() + 1
    assert dense.startswith(f"memory    {count:,} parameters ")
    assert sparse.startswith(f"memory    {count:,} parameters ")
    assert dense != sparse
    assert main(["train", f"run.dir={tmp_path / 'none'}", *words, *choice[:1]]) == 2
    assert "table_optimizer._target_: 'glassrec.training.rowwise" in capsys.readouterr().err
