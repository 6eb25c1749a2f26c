"""Training: against a plain PyTorch loop, through kills and damage, on one and two processes."""

import dataclasses
import json
import math
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import training_toy as toy
from torch.nn.functional import binary_cross_entropy_with_logits
from training_toy import fit

from glassrec import progress
from glassrec.metrics.quality import quality
from glassrec.training.settings import cores
from glassrec.training.trainer import Trainer

TOY = Path(toy.__file__)
ADAM = partial(torch.optim.Adam, lr=0.01)
LINE = r"epoch \d/\d  train/loss \d\.\d{4}  val/auroc \d\.\d{4}  \d+\.\d s"


def plain_loop(epochs, batch_size=64, seed=1, data=None):
    """The same training, written out in PyTorch: weights, and the mean loss of each epoch."""
    model, data, losses = toy.model(), data or toy.dataset(), []
    optimizer = ADAM(model.parameters())
    for epoch in range(epochs):
        total = 0.0
        for batch in data.epoch(seed, epoch).chunks(batch_size):
            loss = binary_cross_entropy_with_logits(model(batch), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * batch.rows
        toy.average_unseen(model.table.weight)
        losses.append(total / data.train.batch.rows)
    return model.state_dict(), losses


def same(left, right):
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


def run_toy(folder, wait=True, **options):
    """Train in a process of its own, as users do."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(TOY), str(folder), json.dumps(options)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    if not wait:
        return process
    out, error = process.communicate(timeout=200)
    out = re.sub(r"^\[Gloo\].*\n", "", out, flags=re.MULTILINE)  # of older versions of torch
    return process.returncode, out, error


def result(folder):
    return torch.load(folder / "trained.pt", weights_only=True)


def test_three_epochs_are_those_of_a_plain_loop_to_the_bit(tmp_path):
    weights, losses = plain_loop(3)
    trained = fit(tmp_path)
    history = trained.history
    assert list(history.columns[:2]) == ["epoch", "train/loss"]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train/loss"].tolist() == pytest.approx(losses, abs=1e-9)
    assert history["val/auroc"].is_monotonic_increasing  # so the best epoch is the last
    assert same(trained.weights, weights)


def test_points_within_an_epoch_are_those_of_a_plain_loop(tmp_path):
    """The mean loss since the last point, and the norm of the gradients of its last step."""
    model, data, expected = toy.model(), toy.dataset(), []
    optimizer, step = ADAM(model.parameters()), 0
    for epoch in range(2):
        losses = []
        for batch in data.epoch(1, epoch).chunks(64):
            loss = binary_cross_entropy_with_logits(model(batch), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            losses, step = [*losses, loss.item()], step + 1
            if step % 2 == 0:
                norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
                expected.append([step, sum(losses) / len(losses), norm, 0.01])
                losses = []
            optimizer.step()
        toy.average_unseen(model.table.weight)
    reports = []
    fit(tmp_path, max_epochs=2, log_every_n_steps=2, given={"on_steps": reports.append})
    names = ("number", "loss", "gradient_norm", "learning_rate")
    points = [point for points in reports for point in points]
    assert len(reports) == 2, "they wait for the end of a short epoch"
    found = [[point[f"step/{name}"] for name in names] for point in points]
    assert found == [pytest.approx(each, rel=1e-5) for each in expected]
    assert all(point["step/rows_per_second"] > 64 for point in points)


def test_the_model_and_the_result_hold_the_best_weights_and_the_history_tells_their_quality(
    tmp_path,
):
    model, data, rows = toy.model(), toy.dataset(), []
    trained = Trainer(4, 64).fit(
        model, data, partial(torch.optim.Adam, lr=0.5), seed=0, directory=tmp_path,
        validate=toy.validate, on_epoch=rows.append,
    )  # fmt: skip
    assert same(trained.weights, model.state_dict())
    assert rows == trained.history.to_dict("records")
    found = quality(model, data, "val")
    best = trained.history["val/auroc"].idxmax()
    assert {f"val/{name}": value for name, value in found.items()} == {
        name: trained.history[name][best] for name in trained.history if name.startswith("val/")
    }


def scripted(name, values):
    """A validation whose metric takes these values, epoch by epoch, after a rehearsal."""
    left = iter([0.5, *values])
    return lambda model, dataset: {name: next(left)}


def fit_scripted(folder, name, values, **settings):
    return Trainer(**({"max_epochs": len(values), "batch_size": 64} | settings)).fit(
        toy.model(), toy.dataset(), ADAM, seed=1, directory=folder,
        validate=scripted(name, values), on_epoch=lambda row: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "values"),
    [("auroc", [0.6, 0.9, 0.9, 0.7]), ("log_loss", [0.6, 0.1, 0.1, 0.7]),
     ("normalized_entropy", [0.6, 0.1, 0.2, 0.7]), ("calibration", [0.6, 1.1, 1.3, 0.7]),
     ("bias", [0.6, -0.1, 0.2, -0.7])],
)  # fmt: skip
def test_the_weights_are_those_of_the_first_best_epoch(tmp_path, metric, values):
    trained = fit_scripted(tmp_path, metric, values, monitor=f"val/{metric}")
    assert same(trained.weights, plain_loop(2)[0])
    assert len(trained.history) == 4


def test_without_an_epoch_nothing_changes_and_nothing_is_written(tmp_path):
    trained = fit(tmp_path, max_epochs=0)
    assert same(trained.weights, toy.model().state_dict())
    assert len(trained.history) == 0
    assert {"epoch", "train/loss", "val/auroc"} <= {*trained.history}
    assert not any(tmp_path.iterdir())


def test_patience_counts_epochs_without_a_better_one(tmp_path):
    trained = fit_scripted(tmp_path, "auroc", [0.6, 0.5, 0.7, 0.6, 0.7, 0.9], patience=2)
    assert trained.history["val/auroc"].tolist() == [0.6, 0.5, 0.7, 0.6, 0.7]


def test_a_run_stopped_by_patience_stays_stopped(tmp_path):
    first = fit_scripted(tmp_path, "auroc", [0.6, 0.5, 0.9], patience=1)
    again = fit_scripted(tmp_path, "auroc", [0.0, 0.0, 0.9], patience=1)
    assert again.history.equals(first.history)
    assert same(again.weights, first.weights)


def test_ranked_data_is_selected_by_ndcg(tmp_path):
    data = toy.dataset()
    split = dataclasses.replace(data.validation, query=torch.arange(300))
    data = dataclasses.replace(data, validation=split)

    def validate(model, dataset):
        logits = model.predict(dataset.validation.batch)
        return {"auroc": 0.5, "ndcg@10": -logits.abs().mean().item()}

    trained = Trainer(3, 64).fit(
        toy.model(), data, ADAM, seed=1, directory=tmp_path, validate=validate,
        on_epoch=lambda row: None,
    )  # fmt: skip
    best = int(trained.history["val/ndcg@10"].idxmax()) + 1
    assert same(trained.weights, plain_loop(best)[0])


def test_a_misspelt_monitor_is_refused_before_training_with_the_nearest_name(tmp_path):
    with pytest.raises(ValueError, match=r"no metric 'val/aurok'; did you mean 'val/auroc'\?"):
        fit(tmp_path, monitor="val/aurok")
    assert not any(tmp_path.iterdir())


def test_a_monitor_that_is_undefined_on_the_validation_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="val/auroc is not defined"):
        Trainer(1, 64).fit(
            toy.model(), toy.dataset(), ADAM, seed=1, directory=tmp_path,
            validate=lambda model, dataset: {"auroc": math.nan}, on_epoch=lambda row: None,
        )  # fmt: skip


@pytest.mark.parametrize("look_every", [1000, 2])
def test_a_loss_that_is_not_finite_names_epoch_and_step(tmp_path, monkeypatch, look_every):
    monkeypatch.setattr("glassrec.training.callbacks.CHECK_EVERY_STEPS", look_every)
    data = toy.dataset()
    data.train.batch.dense[17] = math.nan
    place = data.epoch(1, 0).dense[:, 0].isnan().nonzero().item()
    with pytest.raises(ValueError, match=rf"is nan at epoch 1, step {place // 32 + 1} of 19;"):
        Trainer(1, 32).fit(
            toy.model(), data, ADAM, seed=1, directory=tmp_path,
            validate=toy.validate, on_epoch=lambda row: None,
        )  # fmt: skip
    assert not any(tmp_path.iterdir())


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path):
    runs = []
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        (tmp_path / name).mkdir()
        torch.rand(len(runs) + 1)  # the state of the global generator must not matter
        runs.append(fit(tmp_path / name, dropout=0.5, seed=seed).weights)
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_each_epoch_drops_other_units(tmp_path):
    masks = []

    class Spy(toy.Toy):
        def score(self, inputs):
            masks.append(self.dropout(torch.ones(100)))
            return super().score(inputs)

    Trainer(2, 600).fit(
        Spy(toy.SCHEMA, 4, 0.5), toy.dataset(), ADAM, seed=1, directory=tmp_path,
        validate=toy.validate, on_epoch=lambda row: None,
    )  # fmt: skip
    trained = [mask for mask in masks if not mask.eq(1).all()]  # validation drops nothing
    assert len(trained) == 2
    assert not torch.equal(*trained)


@pytest.mark.long
def test_killed_in_the_second_epoch_it_goes_on_to_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"max_epochs": 4, "dropout": 0.5}
    code, out, error = run_toy(whole, **options)
    assert code == 0
    assert error == ""
    assert [bool(re.fullmatch(LINE, line)) for line in out.splitlines()] == [True] * 4

    process = run_toy(killed, wait=False, pause=0.7, **options)
    assert process.stdout.readline().startswith("epoch 1/4")
    process.kill()
    assert process.wait(20) == -signal.SIGKILL
    process.communicate()
    assert not (killed / "trained.pt").exists()

    code, out, error = run_toy(killed, **options)
    assert (code, error) == (0, "")
    assert [line[:9] for line in out.splitlines()] == ["epoch 2/4", "epoch 3/4", "epoch 4/4"]
    (left, left_history), (right, right_history) = result(killed), result(whole)
    assert same(left, right)
    assert left_history == right_history
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}


def test_after_an_interruption_every_epoch_is_told_once_and_in_order(tmp_path):
    def until_second(row):
        if row["epoch"] == 2:
            raise RuntimeError("the tracker is gone")

    settings = {"seed": 1, "directory": tmp_path, "validate": toy.validate}
    with pytest.raises(RuntimeError, match="tracker is gone"):
        Trainer(4, 64).fit(toy.model(), toy.dataset(), ADAM, on_epoch=until_second, **settings)
    told = []
    again = Trainer(4, 64).fit(toy.model(), toy.dataset(), ADAM, on_epoch=told.append, **settings)
    assert told == again.history.to_dict("records")
    assert [row["epoch"] for row in told] == [1, 2, 3, 4]
    assert same(again.weights, plain_loop(4)[0])


def test_trained_weights_are_epoch_0_and_the_best_where_no_epoch_is_better(tmp_path, capsys):
    values = iter([0.9, 0.6, 0.8, 0.7])
    told, start = [], toy.model()
    trained = Trainer(4, 64, patience=3).fit(
        start, toy.dataset(), ADAM, seed=1, directory=tmp_path, on_epoch=told.append, started=True,
        validate=lambda model, dataset: {"auroc": next(values)},
    )  # fmt: skip
    assert "epoch 0/4 (start)  val/auroc 0.9000" in capsys.readouterr().out
    assert same(trained.weights, toy.model().state_dict())
    assert trained.history["epoch"].tolist() == [0, 1, 2, 3]  # patience counts from the start
    assert trained.history["val/auroc"].tolist() == [0.9, 0.6, 0.8, 0.7]
    assert trained.history["train/loss"].isna().tolist() == [True, False, False, False]
    assert [row["epoch"] for row in told] == [0, 1, 2, 3]


def test_a_training_of_trained_weights_goes_on_to_the_same_bits(tmp_path):
    def until_second(row):
        if row["epoch"] == 2:
            raise RuntimeError("killed")

    settings = {"seed": 1, "validate": toy.validate, "started": True}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    ignore = lambda row: None  # noqa: E731
    found = Trainer(3, 64).fit(
        toy.model(), toy.dataset(), ADAM, directory=whole, on_epoch=ignore, **settings
    )
    with pytest.raises(RuntimeError, match="killed"):
        Trainer(3, 64).fit(
            toy.model(), toy.dataset(), ADAM, directory=killed, on_epoch=until_second, **settings
        )
    again = Trainer(3, 64).fit(
        toy.model(), toy.dataset(), ADAM, directory=killed, on_epoch=ignore, **settings
    )
    assert found.history["epoch"].tolist() == [0, 1, 2, 3]
    assert again.history.equals(found.history)
    assert same(again.weights, found.weights)
    assert same(found.weights, plain_loop(3)[0])


def flipped(content):
    """One bit of one weight is another."""
    place = content.index(plain_loop(3)[0]["table.weight"].numpy().tobytes()) + 100
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda old: old[: len(old) // 2], flipped, lambda old: b"", lambda old: b"# notes"]
)
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, damage):
    fit(tmp_path)
    path = tmp_path / "training.ckpt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"training\.ckpt is damaged .*; delete it"):
        fit(tmp_path)


def test_a_checkpoint_that_is_not_ours_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "training.ckpt")
    with pytest.raises(ValueError, match=r"training\.ckpt is not a training checkpoint; delete it"):
        fit(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 2}, "its seed is 1, not 2"),
        ({"batch_size": 32}, "its trainer is .*'batch_size': 64.*, not .*'batch_size': 32"),
        ({"optimizer": partial(torch.optim.Adam, lr=0.1)}, "its optimizer is .*lr: 0.01.*lr: 0.1"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_with_the_difference(tmp_path, change, said):
    fit(tmp_path)
    with pytest.raises(ValueError, match=f"{said}.*; delete it"):
        fit(tmp_path, **change)


def test_without_a_terminal_each_epoch_is_one_plain_line(tmp_path, capfd):
    fit(tmp_path)
    out, error = capfd.readouterr()
    assert re.fullmatch(f"({LINE}\n){{3}}", out)
    assert error == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_epoch_tells_how_far_it_is(tmp_path, capfd, monkeypatch, terminal):
    monkeypatch.setattr(progress, "FIRST_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    fit(tmp_path)
    out, error = capfd.readouterr()
    assert re.fullmatch(f"({LINE}\n){{3}}", out)
    assert re.search(r"64 of 600 rows, [\d,.]+ rows/s, \d+:\d\d left", error)


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_training_prints_nothing_and_trains_alike(tmp_path, capsys, monkeypatch, terminal):
    loud = fit(tmp_path / "loud")
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    quiet = fit(tmp_path / "quiet", quiet=True)
    heard = capsys.readouterr()
    assert heard.out == heard.err == ""
    assert quiet.history.equals(loud.history)


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_the_device_is_the_processor_where_there_is_no_gpu(accelerator, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert Trainer(1, 1, accelerator).device == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_a_plain_error(tmp_path):
    with pytest.raises(ValueError, match=r"PyTorch finds no GPU.*accelerator=cpu"):
        fit(tmp_path, accelerator="gpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_as_the_processor_does(tmp_path):
    trained = fit(tmp_path, accelerator="gpu")
    for name, expected in plain_loop(3)[0].items():
        torch.testing.assert_close(trained.weights[name], expected, rtol=1e-3, atol=1e-4)


def test_bfloat16_learns_as_well(tmp_path):
    history = fit(tmp_path, precision="bf16-mixed").history
    assert history["val/auroc"].iloc[-1] == pytest.approx(0.8, abs=0.1)
    assert history["val/auroc"].iloc[-1] > history["val/auroc"].iloc[0]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two cores are needed")
def test_two_processes_do_what_one_does_at_twice_the_batch(tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    code, out, error = run_toy(two, devices=2, batch_size=30, sgd=0.5)
    assert (code, error) == (0, "")
    assert re.fullmatch(f"({LINE}\n){{3}}", out)
    assert run_toy(one, batch_size=60, sgd=0.5)[0] == 0
    (left, left_history), (right, right_history) = result(two), result(one)
    for name in right:
        torch.testing.assert_close(left[name], right[name], rtol=1e-5, atol=1e-6)
    for row, expected in zip(left_history, right_history, strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two cores are needed")
def test_in_two_processes_a_lost_loss_is_still_a_plain_error(tmp_path):
    code, _, error = run_toy(tmp_path, devices=2, sgd=1e38)
    assert code == 1
    assert re.match(
        r"ValueError: the training loss is (nan|inf) at epoch 1, step \d", error.splitlines()[-1]
    )


def test_the_settings_can_be_imported_without_lightning():
    code = "import sys, glassrec.training.trainer as t; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Normalised(toy.Toy):
    """Normalises over the rows of a batch."""

    def __init__(self):
        super().__init__(toy.SCHEMA)
        self.norm = torch.nn.BatchNorm1d(1)
        self.sizes = []

    def score(self, inputs):
        if self.training:
            self.sizes.append(inputs.rows)
        return self.norm(super().score(inputs))


def fit_normalised(folder, model, batch_size, **settings):
    return Trainer(1, batch_size, **settings).fit(
        model, toy.dataset(), ADAM, seed=1, directory=folder, validate=toy.validate,
        on_epoch=lambda row: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(599, [600]), (600, [600]), (200, [200] * 3), (598, [598, 2])],
)
def test_a_last_row_that_has_no_variance_joins_the_batch_before(tmp_path, size, sizes):
    model = Normalised()
    fit_normalised(tmp_path, model, size)
    assert model.sizes == sizes


def test_without_batch_normalisation_a_last_row_is_a_batch_of_its_own(tmp_path):
    trained = fit(tmp_path, max_epochs=1, batch_size=599)
    assert same(trained.weights, plain_loop(1, 599)[0])


def test_batches_of_one_row_are_refused_where_they_have_no_variance(tmp_path):
    with pytest.raises(ValueError, match=r"Normalised.*batch_size"):
        fit_normalised(tmp_path, Normalised(), 1)
