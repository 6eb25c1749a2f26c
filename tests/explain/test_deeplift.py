"""DeepLIFT: exact sums on all models, and Captum's values where Captum's rules do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from captum.attr import DeepLift as Captum
from captum.attr import DeepLiftShap as CaptumShap
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.features import Granularity, build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.deeplift import DeepLift, DeepLiftShap
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender
from glassrec.models.sasrec import SASRec


def _game(
    model: Recommender,
    batch: Batch,
    granularity: Granularity = "fields",
    kind: str = "mean",
    task: int = 0,
) -> MaskedModel:
    inputs = Inputs(*(part.detach() for part in model.embed(batch)))
    base = build_baseline(model, kind, inputs).expand_to(inputs)
    return MaskedModel(
        model,
        build_feature_mask(model.schema, model.width, granularity, model.device),
        inputs,
        base,
        task,
    )


def _error(view: MaskedModel) -> float:
    """The largest error of a row's sum, as a share of the mean difference."""
    delta = DeepLift().attribute(view, 0).double().sum(1) - view.difference
    assert view.difference.abs().mean() > 0.05
    return (delta.abs().max() / view.difference.abs().mean()).item()


@pytest.mark.parametrize("kind", ["zero", "mean", "unseen"])
@pytest.mark.parametrize("task", [0, 1])
def test_parts_add_up_on_every_model(
    model: Recommender, batch: Batch, kind: str, task: int
) -> None:
    if isinstance(model, SASRec):
        with pytest.raises(ValueError, match="no rule for `layer_norm`"):
            _error(_game(model, batch, kind=kind, task=task))
        return
    assert _error(_game(model, batch, kind=kind, task=task)) < 1e-5


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dcn", {"cross_layers": 3}),
        ("dcn", {"cross_layers": 3, "structure": "parallel"}),
        ("dcn", {"cross_layers": 2, "projection_dim": 4}),
        ("dcn", {"cross_layers": 2, "projection_dim": 4, "structure": "parallel"}),
        ("dcn", {"cross_layers": 2, "deep": []}),
        ("lstm", {"cell": "gru"}),
    ],
)
@pytest.mark.parametrize("granularity", ["fields", "dimensions"])
def test_parts_add_up_in_every_form_of_a_model(
    build: Callable[..., Recommender],
    batch: Batch,
    name: str,
    settings: dict[str, object],
    granularity: Granularity,
) -> None:
    assert _error(_game(build(name, **settings), batch, granularity)) < 1e-5


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.parametrize("name", ["mlp", "dnn", "two_tower"])
def test_without_products_they_are_captums(
    build: Callable[..., Recommender], batch: Batch, name: str
) -> None:
    view = _game(build(name), batch)
    scored = _Scored(view)
    read = tuple(part.requires_grad_() for part in view.inputs[:2])
    theirs = Captum(scored).attribute(read, view.masked_out[:2])
    expected = torch.cat([theirs[0], theirs[1].sum(2)], 1)
    torch.testing.assert_close(DeepLift().attribute(view, 0), expected, rtol=0, atol=1e-5)
    assert expected.abs().mean() > 0.01


class _Scored(nn.Module):
    """The logit of dense columns and fields, all of them read."""

    def __init__(self, view: MaskedModel) -> None:
        super().__init__()
        self.model, self.task = view.model, view.task

    def forward(self, dense: Tensor, fields: Tensor) -> Tensor:
        none = fields.new_zeros(len(fields), 0, fields.shape[2])
        # Captum needs a gradient of everything that it varies.
        unread = dense.sum(1) * 0
        return (
            self.model.task_logits(Inputs(dense, fields, none, none[:, :, 0]))[:, self.task]
            + unread
        )


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_over_a_background_it_is_captums_deep_lift_shap(
    build: Callable[..., Recommender], batch: Batch
) -> None:
    model = build("mlp")
    rows, pool = (
        Inputs(*(part.detach() for part in model.embed(batch.slice(*at))))
        for at in ((0, 5), (5, 12))
    )
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    every, each = torch.arange(5).repeat_interleave(7), torch.arange(7).repeat(5)
    view = MaskedModel(
        model, mask, *(Inputs(*(p[at] for p in x)) for x, at in ((rows, every), (pool, each)))
    )
    found = DeepLiftShap().attribute(view, 0).view(5, 7, -1).mean(1)
    theirs = CaptumShap(_Scored(view)).attribute(rows[:2], pool[:2])
    torch.testing.assert_close(found, theirs[1].sum(2), rtol=0, atol=1e-5)


class Plain(Recommender):
    """What a user may write: one nonlinearity after the other, in PyTorch's own words."""

    def __init__(self, data: Schema) -> None:
        super().__init__(
            data, data.select(dense=data.dense, fields=data.field_names, history=True), 4
        )
        self.mix = nn.Linear(4, 4)
        self.act = nn.GELU()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def score(self, inputs: Inputs) -> Tensor:
        first, second, *_ = self.act(self.mix(inputs.fields)).unbind(1)
        read = torch.bmm(inputs.history, first.unsqueeze(2)).sigmoid() * inputs.steps.unsqueeze(2)
        pooled = (read * inputs.history).sum(1) / (1 + read.sum(1))
        gate = F.softplus(inputs.dense[:, :1]) * self.scale.exp()
        linear = torch.where(inputs.steps[:, -1:] > 0, second, first)
        logit = (pooled * linear).square().sum(1, keepdim=True) + gate * torch.tanh(first).sum(
            1, True
        )
        return logit.expand(-1, 2)


def test_parts_add_up_on_a_users_own_model(schema: Schema, batch: Batch) -> None:
    torch.manual_seed(0)
    model = Plain(schema).eval()
    nn.init.normal_(model.table.weight)
    assert _error(_game(model, batch)) < 1e-5
    DeepLift().check(model, build_feature_mask(schema, 4, "fields", model.device), 1)


class Attention(Plain):
    """A model that calls a function without a rule."""

    def score(self, inputs: Inputs) -> Tensor:
        return inputs.fields.sum(2).softmax(1)[:, :2]


def test_a_model_without_a_rule_is_refused_before_training(schema: Schema) -> None:
    model = Attention(schema).train()
    with pytest.raises(ValueError, match="no rule for `softmax`"):
        DeepLift().check(model, build_feature_mask(schema, 4, "fields", model.device), 1)
    assert model.training


def test_the_average_over_training_rows_needs_several(build: Callable[..., Recommender]) -> None:
    model = build("gmf")
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    DeepLift().check(model, mask, 1)
    DeepLiftShap().check(model, mask, 2)
    with pytest.raises(ValueError, match=r"there is 1 baseline; set explain\.baseline=background"):
        DeepLiftShap().check(model, mask, 1)


def test_the_model_stays_as_it_is(build: Callable[..., Recommender], batch: Batch) -> None:
    model = build("neumf")
    model.output.bias.requires_grad_(False)
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    DeepLift().attribute(_game(model, batch), 0)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == wanted[name]
        assert parameter.grad is None
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not all(wanted.values())


def test_rows_do_not_depend_on_each_other(build: Callable[..., Recommender], batch: Batch) -> None:
    model = build("dlrm").double()
    view = _game(model, batch._replace(dense=batch.dense.double()))
    together = DeepLift().attribute(view, 0)
    for row in range(view.rows):
        inputs, base = (Inputs(*(p[[row]] for p in x)) for x in (view.inputs, view.baseline))
        alone = DeepLift().attribute(MaskedModel(model, view.feature_mask, inputs, base), 0)
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(model: Recommender, batch: Batch) -> None:
    batch = batch._replace(dense=batch.dense.double())
    here = DeepLift().attribute(_game(model.double(), batch), 0)
    there = DeepLift().attribute(_game(model.cuda(), batch.to(torch.device("cuda"))), 0)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-9)
