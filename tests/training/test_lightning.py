"""Lightning's settings by their effect: against plain PyTorch loops, and in a plain script."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import ClassVar

import lightning.pytorch as lightning
import pandas as pd
import pytest
import torch
import torchmetrics
import training_toy as toy
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.nn.functional import binary_cross_entropy_with_logits
from training_toy import fit

from glassrec import RecommenderDataModule, RecommenderModule
from glassrec.data.schema import Target
from glassrec.metrics.quality import quality
from glassrec.models.ncf import GMF
from glassrec.training.module import evaluate
from glassrec.training.optimizers import LRSchedule
from glassrec.training.rowwise import RowwiseAdagrad
from glassrec.training.settings import cores

ADAM = partial(torch.optim.Adam, lr=0.01)
STEP_LR = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.3)


def by_hand(epochs=2, *, steps=None, clip=None, accumulate=1, batches=None, same=False,
            double=False, schedule=None, interval="epoch"):  # fmt: skip
    """The weights after a plain loop, with one change."""
    model, data = toy.model(), toy.dataset()
    model = model.double() if double else model
    optimizer = ADAM(model.parameters())
    scheduler = schedule(optimizer) if schedule else None
    done = 0
    for epoch in range(epochs):
        parts = [*data.epoch(1, 0 if same else epoch).chunks(64)][:batches]
        for number, batch in enumerate(parts, 1):
            if steps is not None and done == steps:
                break
            if double:
                batch = batch._replace(dense=batch.dense.double(), targets=batch.targets.double())
            loss = binary_cross_entropy_with_logits(model(batch), batch.targets)
            (loss / accumulate).backward()
            if number % accumulate and number < len(parts):
                continue
            if clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if scheduler and interval == "step":
                scheduler.step()
        toy.average_unseen(model.table.weight)
        if scheduler and interval == "epoch":
            scheduler.step()
    state = model.state_dict().items()
    return {name: each.float() if each.is_floating_point() else each for name, each in state}


def same(left, right):
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


def rising():
    """A validation that finds each epoch better than the one before, so that the last is kept."""
    values = iter(range(1000))
    return lambda model, dataset: {"auroc": next(values) / 1000}


def fit_last(folder, given=None, **settings):
    options = {"max_epochs": 2, "quiet": True, "given": {"validate": rising(), **(given or {})}}
    return fit(folder, **(options | settings))


@pytest.mark.parametrize(
    ("settings", "given", "plain"),
    [
        ({"gradient_clip_val": 0.05}, {}, {"clip": 0.05}),
        ({"accumulate_grad_batches": 3}, {}, {"accumulate": 3}),
        ({"limit_train_batches": 2}, {}, {"batches": 2}),
        ({"overfit_batches": 3}, {}, {"batches": 3, "same": True}),
        ({"max_steps": 13}, {}, {"steps": 13}),
        ({"fast_dev_run": True}, {}, {"steps": 1, "epochs": 1}),
        ({"precision": "64-true"}, {}, {"double": True}),
        ({}, {"scheduler": LRSchedule(STEP_LR)}, {"schedule": STEP_LR}),
        ({}, {"scheduler": LRSchedule(STEP_LR, "step")}, {"schedule": STEP_LR, "interval": "step"}),
    ],
    ids=["clip", "accumulate", "limit", "overfit", "max_steps", "fast_dev_run", "double",
         "scheduler by epoch", "scheduler by step"],
)  # fmt: skip
def test_a_setting_trains_as_the_plain_loop_that_does_so(tmp_path, settings, given, plain):
    found, expected = fit_last(tmp_path, given, **settings).weights, by_hand(**plain)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)
    assert any(
        (found[n].float() - each.float()).abs().max() > 1e-5 for n, each in by_hand().items()
    ) or ("double" in plain)


def test_the_training_loss_is_that_of_the_rows_whatever_is_accumulated(tmp_path):
    history = fit_last(tmp_path, max_epochs=1, accumulate_grad_batches=10).history
    data, model = toy.dataset(), toy.model()
    batch = data.epoch(1, 0)
    loss = binary_cross_entropy_with_logits(model(batch), batch.targets).item()
    assert history["train/loss"][0] == pytest.approx(loss, abs=1e-6)  # no step before the last


def test_clipping_works_with_16_bits_and_two_optimisers_share_a_schedule(tmp_path):
    found = fit_last(
        tmp_path,
        {"scheduler": partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.0)},
        table_optimizer=partial(RowwiseAdagrad, lr=0.1), precision="bf16-mixed",
    )  # fmt: skip
    first = fit_last(
        tmp_path / "one", table_optimizer=partial(RowwiseAdagrad, lr=0.1), max_epochs=1,
        precision="bf16-mixed",
    )  # fmt: skip
    assert same(found.weights, first.weights)  # with a rate of 0, the second epoch changes nothing


def test_plateau_lowers_the_rate_when_its_metric_stays(tmp_path):
    class Rates(Callback):
        seen: ClassVar = []

        def on_train_epoch_start(self, trainer, module):
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    plateau = partial(
        torch.optim.lr_scheduler.ReduceLROnPlateau, mode="max", patience=0, factor=0.5
    )
    fit_last(
        tmp_path, max_epochs=4,
        given={"scheduler": LRSchedule(plateau, monitor="val/auroc"), "callbacks": [Rates()],
               "validate": lambda model, dataset: {"auroc": 0.5}},
    )  # fmt: skip
    assert Rates.seen == pytest.approx([0.01, 0.01, 0.005, 0.0025])


class Counter(Callback):
    """Counts epochs and says so in its state; interrupts once."""

    def __init__(self, interrupt_at=None):
        self.epochs, self.interrupt_at, self.deterministic = 0, interrupt_at, None

    def on_train_epoch_start(self, trainer, module):
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        if trainer.current_epoch == self.interrupt_at:
            raise RuntimeError("interrupted")

    def on_train_epoch_end(self, trainer, module):
        self.epochs += 1
        module.log("val/epochs", float(self.epochs))

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict):
        self.epochs = state_dict["epochs"]


def test_callbacks_scheduler_and_metrics_go_on_after_an_interruption(tmp_path):
    given = {"scheduler": LRSchedule(STEP_LR), "metrics": {"f1": torchmetrics.F1Score("binary")}}
    options = {"max_epochs": 4, "gradient_clip_val": 0.05, "accumulate_grad_batches": 2}
    whole = fit(tmp_path / "whole", quiet=True, given=given, **options)
    (tmp_path / "cut").mkdir()
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(tmp_path / "cut", quiet=True, given=given | {"callbacks": Counter(2)}, **options)
    counter = Counter()
    again = fit(tmp_path / "cut", quiet=True, given=given | {"callbacks": counter}, **options)
    assert counter.epochs == 4
    assert again.history["val/epochs"].tolist() == [1, 2, 3, 4]
    assert again.history.drop(columns="val/epochs").equals(whole.history)
    assert same(again.weights, whole.weights)


def test_early_stopping_stops_and_stays_stopped(tmp_path):
    values = [0.5, 0.6, 0.5, 0.4, 0.7]
    for _ in range(2):
        left = iter(values)
        given = {
            "validate": lambda model, dataset, left=left: {"auroc": next(left)},
            "callbacks": [EarlyStopping("val/auroc", mode="max", patience=2)],
        }
        trained = fit(tmp_path, max_epochs=9, quiet=True, given=given)
        assert trained.history["val/auroc"].tolist() == [0.6, 0.5, 0.4]
    assert same(trained.weights, by_hand(1))


def test_validation_every_second_epoch_judges_those_epochs_only(tmp_path):
    trained = fit(tmp_path, max_epochs=4, check_val_every_n_epoch=2, quiet=True)
    assert trained.history["val/auroc"].isna().tolist() == [True, False, True, False]
    model, best = toy.model(), trained.history["val/auroc"].idxmax()
    model.load_state_dict(by_hand(int(best) + 1))
    assert trained.history["val/auroc"][best] == quality(model, toy.dataset(), "val")["auroc"]
    assert same(trained.weights, model.state_dict())


def test_a_training_that_is_cut_off_within_an_epoch_is_validated(tmp_path):
    trained = fit(tmp_path, max_epochs=2, max_steps=4, quiet=True)
    model = toy.model()
    model.load_state_dict(by_hand(1, steps=4))
    assert same(trained.weights, model.state_dict())
    assert trained.history["val/auroc"].tolist() == [quality(model, toy.dataset(), "val")["auroc"]]


def test_a_logger_gets_a_row_of_each_epoch_and_of_every_nth_step(tmp_path):
    loggers = {"a": partial(CSVLogger, name="a"), "b": CSVLogger(tmp_path, name="b", version="")}
    trained = fit(
        tmp_path, max_epochs=2, quiet=True, log_every_n_steps=5, given={"logger": loggers}
    )
    for file in (tmp_path / "logs/a/version_0/metrics.csv", tmp_path / "b/metrics.csv"):
        rows = pd.read_csv(file)
        assert rows["train/step_loss"].dropna().index.size == 4  # 2 epochs of 10 steps, every 5th
        for name in ("val/auroc", "train/loss"):
            expected = trained.history[name].tolist()
            assert rows[name].dropna().tolist() == pytest.approx(expected, abs=1e-6)


def test_torchmetrics_are_those_computed_by_hand_and_may_select_the_epoch(tmp_path):
    model, data = toy.model(), toy.dataset()
    metrics = {
        "f1": torchmetrics.classification.BinaryF1Score(),
        "brier": torchmetrics.MeanSquaredError(),
    }
    trained = fit(
        tmp_path, max_epochs=3, quiet=True, monitor="val/brier", given={"metrics": metrics}
    )
    model.load_state_dict(trained.weights)
    rows = data.validation.batch
    probability, truth = model.predict(rows)[:, 0].double().sigmoid(), rows.targets[:, 0]
    best = trained.history["val/brier"].idxmin()  # lower is better, as the metric itself says
    brier = (probability - truth).square().mean().item()
    assert trained.history["val/brier"][best] == pytest.approx(brier, abs=1e-6)
    said = probability > 0.5
    hits = (said & (truth == 1)).sum().item()
    f1 = 2 * hits / (said.sum() + truth.sum()).item()
    assert trained.history["val/f1"][best] == pytest.approx(f1, abs=1e-6)


def test_ranking_metrics_get_their_lists_and_lists_that_are_cut_are_left_out():
    model, data = toy.model(), toy.dataset()
    query = torch.arange(300) // 10
    split = replace(data.validation, query=query)
    split.batch.targets.zero_()[::10] = 1
    data = replace(data, validation=split)
    reciprocal = {"mrr": torchmetrics.retrieval.RetrievalMRR()}
    found = evaluate(model, data, "val", reciprocal)["mrr"]
    logits = model.predict(split.batch).view(30, 10)
    place = 1 + (logits > logits[:, :1]).sum(1)
    assert found == pytest.approx((1 / place).mean().item(), abs=1e-6)
    rows = torch.arange(205)  # the last list of these is cut
    part = evaluate(model, data, "val", reciprocal, logits.view(-1, 1)[rows], rows)
    assert part["mrr"] == pytest.approx((1 / place[:20]).mean().item(), abs=1e-6)
    with pytest.raises(ValueError, match=r"limit_val_batches.*no whole ranking list; raise"):
        evaluate(model, data, "val", {}, logits.view(-1, 1)[:3], torch.arange(3))


def test_a_metric_that_gives_no_number_is_refused_by_name(tmp_path):
    curve = torchmetrics.classification.BinaryROC()
    with pytest.raises(ValueError, match=r"metrics\.curve: BinaryROC gives no number"):
        fit(tmp_path, given={"metrics": {"curve": curve}})


def test_a_limited_validation_judges_the_first_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("glassrec.training.datamodule.MAX_EVALUATION_ROWS", 100)
    trained = fit(tmp_path, max_epochs=1, limit_val_batches=2, quiet=True)
    model, data = toy.model(), toy.dataset()
    model.load_state_dict(trained.weights)
    first = replace(
        data, validation=replace(data.validation, batch=data.validation.batch.slice(0, 200))
    )
    assert trained.history["val/auroc"][0] == quality(model, first, "val")["auroc"]


def test_compile_goes_through_the_named_backend_and_trains_alike(tmp_path, monkeypatch):
    graphs = []

    def compiling(function, backend):
        def record(graph, inputs):
            graphs.append(graph)
            return graph.forward

        assert backend == "eager"
        return original(function, backend=record)

    original = torch.compile
    monkeypatch.setattr(torch, "compile", compiling)
    found = fit_last(tmp_path, max_epochs=1, compile="eager").weights
    assert graphs
    for name, tensor in by_hand(1).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def test_deterministic_and_a_profiler_take_effect(tmp_path):
    counter = Counter()
    fit_last(
        tmp_path, {"callbacks": [counter]}, deterministic=True, profiler="simple", max_epochs=1
    )
    torch.use_deterministic_algorithms(False)
    assert counter.deterministic
    assert "run_training_batch" in (tmp_path / "fit-profile.txt").read_text()


def test_fast_dev_run_says_that_its_results_are_not_to_be_kept(tmp_path, capsys):
    trained = fit(tmp_path, fast_dev_run=True)
    assert "fast_dev_run" in capsys.readouterr().out
    assert len(trained.history) == 1


def test_an_argument_that_lightning_does_not_have_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"trainer\.gradient_clip_value.*'gradient_clip_val'"):
        fit(tmp_path, gradient_clip_value=1.0)


def test_an_argument_that_lightning_refuses_is_a_plain_error(tmp_path):
    with pytest.raises(ValueError, match=r"trainer: .*gradient_clip_algorithm"):
        fit(tmp_path, gradient_clip_val=1.0, gradient_clip_algorithm="sideways")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two cores are needed")
def test_ddp_validates_on_all_devices_with_the_metrics_of_one(tmp_path):
    from test_trainer import result, run_toy

    code, out, error = run_toy(tmp_path, devices=2, batch_size=32, strategy="ddp", f1=True)
    assert (code, error) == (0, "")
    weights, history = result(tmp_path)
    model = toy.model()
    model.load_state_dict(weights)
    metrics = {"f1": torchmetrics.F1Score("binary")}
    found = evaluate(model, toy.dataset(), "val", metrics)
    best = max(history, key=lambda row: row["val/auroc"])
    assert {f"val/{name}": value for name, value in found.items()} == pytest.approx(
        {name: value for name, value in best.items() if name.startswith("val/")}, abs=1e-6
    )
    sizes = [int(line.split()[1]) for line in out.splitlines() if line.startswith("predicted")]
    assert sizes == [150] * 6 or not sizes  # three epochs, half of the rows on each device


# --- a plain script --------------------------------------------------------------------------


def stock(folder, **settings):
    """A trainer as anybody makes it, but silent."""
    return lightning.Trainer(**({
        "max_epochs": 3, "logger": False, "enable_progress_bar": False, "accelerator": "cpu",
        "enable_model_summary": False, "default_root_dir": folder,
    } | settings))  # fmt: skip


def test_a_stock_trainer_trains_to_the_same_bits_and_its_checkpoint_is_opened(tmp_path):
    data = RecommenderDataModule(toy.dataset(), batch_size=64, seed=1)
    module = RecommenderModule(toy.model(), optimizer=ADAM)
    trainer = stock(tmp_path)
    trainer.fit(module, data)
    assert same(module.model.state_dict(), by_hand(3))
    assert trainer.callback_metrics["val/auroc"].item() == pytest.approx(
        quality(module.model, toy.dataset(), "val")["auroc"], abs=1e-6
    )
    assert {"train/loss", "val/log_loss"} <= trainer.callback_metrics.keys()
    file, *_ = (tmp_path / "checkpoints").iterdir()
    opened = RecommenderModule.load_from_checkpoint(file, model=toy.model())
    assert same(opened.model.state_dict(), module.model.state_dict())


def test_a_checkpoint_rebuilds_the_model_optimisers_metrics_and_schedule(tmp_path):
    data = RecommenderDataModule(toy.dataset(), batch_size=64, seed=1)
    module = RecommenderModule(
        partial(GMF, factors=3), with_users(), table_optimizer=partial(RowwiseAdagrad, lr=0.1),
        scheduler=LRSchedule(STEP_LR, "step"), optimizer=partial(torch.optim.SGD, lr=0.5),
    )  # fmt: skip
    data.source = replace(toy.dataset(), schema=with_users())
    trainer = stock(tmp_path, max_epochs=2, callbacks=[ModelCheckpoint(tmp_path, "last")])
    trainer.fit(module, data)
    opened = RecommenderModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert isinstance(opened.model, GMF)
    batch = toy.dataset().test.batch
    assert torch.equal(opened(batch), module(batch))
    assert opened.scheduler == module.scheduler or opened.scheduler.interval == "step"
    stock(tmp_path, max_epochs=4).fit(opened, data, ckpt_path=tmp_path / "last.ckpt")  # it goes on
    assert opened.trainer.current_epoch == 4
    predicted = stock(tmp_path).predict(opened, data)
    assert torch.equal(torch.cat(predicted), opened.model.predict(batch))
    tested = stock(tmp_path).test(opened, data, verbose=False)[0]
    assert tested["test/auroc"] == pytest.approx(
        quality(opened.model, data.dataset, "test")["auroc"], abs=1e-6
    )


def with_users():
    return replace(toy.SCHEMA, user="user", item="item", targets=(Target("label"),))


def test_a_subclass_overrides_steps_and_optimisers(tmp_path):
    class Mine(RecommenderModule):
        def __init__(self, rate=0.5, **kwargs):
            super().__init__(**kwargs)
            self.save_hyperparameters("rate")
            self.rate = rate

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("train/doubled", 2 * loss, on_epoch=True)
            return 0 * loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.rate)

    module = Mine(model=toy.model(), rate=0.25)
    stock(tmp_path, max_epochs=1).fit(module, RecommenderDataModule(toy.dataset(), seed=1))
    first = toy.model()
    toy.average_unseen(first.table.weight)
    assert same(module.model.state_dict(), first.state_dict())  # a loss of 0 changes nothing
    assert module.trainer.callback_metrics["train/doubled"] > 1
    assert module.trainer.optimizers[0].param_groups[0]["lr"] == 0.25
    file, *_ = (tmp_path / "checkpoints").iterdir()
    assert Mine.load_from_checkpoint(file, model=toy.model()).rate == 0.25


def test_a_recipe_names_no_code_but_that_of_models_and_the_like(tmp_path):
    with pytest.raises(ValueError, match=r"pathlib\.Path is no model"):
        RecommenderModule({"_target_": "pathlib.Path"}, toy.SCHEMA)


def test_the_public_names_are_imported_when_they_are_used():
    code = (
        "import sys, glassrec; assert 'torch' not in sys.modules; glassrec.RecommenderModule; "
        "assert 'lightning' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
