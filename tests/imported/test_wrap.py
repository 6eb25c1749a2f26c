"""A module from elsewhere behind the seam: the same outputs, and attributions that add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import LayerIntegratedGradients
from plain_modules import MODULES, TwoLookUps, build
from torch import Tensor, nn

import glassrec
from glassrec.explain.captum_methods import CaptumMethod
from glassrec.explain.explainer import Explain
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.methods.kernel_shap import KernelShap
from glassrec.explain.selection import Selection
from glassrec.imported.exported import call
from glassrec.imported.wrapping import WrappedModule

FINE = Explain(method=IntegratedGradients(steps=512), select=Selection(rows=None))

FIELDS = {
    "TwoLookUps": (("user", "item"), ()),
    "DictInput": (("user", "tags"), ("age", "price")),
    "SharedTable": (("x[0]", "x[1]", "x[2]"), ()),
    "Bags": (("ids[0]", "ids[1]"), ("dense[0]", "dense[1]", "dense[2]")),
    "CrossNetwork": (("x[0]", "x[1]"), ("x[2]", "x[3]")),
    "NeuMF": (("user", "item"), ()),
}


def _output(module: nn.Module, batch: Any) -> Tensor:
    with torch.no_grad():
        return module(*call(module, batch).args, **call(module, batch).kwargs).flatten()


@pytest.fixture(scope="module", params=MODULES)
def case(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Any, WrappedModule]:
    module, batch = build(request.param)
    return request.param, module, batch, glassrec.wrap(module, batch)


def test_embed_and_score_equal_the_module(case) -> None:
    name, module, batch, wrapped = case
    logits = wrapped.model.predict(wrapped.rows(batch)).flatten()
    sigmoid = bool(wrapped.model.graph.exported.removed)
    assert sigmoid == (name in ("TwoLookUps", "SharedTable", "Bags"))
    assert ("left out: sigmoid (plain_modules.py:" in str(wrapped)) == sigmoid
    output = _output(module, batch)
    assert (logits.sigmoid() if sigmoid else logits).sub(output).abs().max() < 1e-12
    assert output.std() > 0.001


def test_other_rows_and_fewer_of_them(case) -> None:
    _, module, batch, wrapped = case
    fresh = type(module).example()
    rows = wrapped.rows([fresh, batch])
    expected = torch.cat([_output(module, fresh), _output(module, batch)])
    found = torch.cat([wrapped.model(part) for part in rows.chunks(5)]).flatten()
    if wrapped.model.graph.exported.removed:
        found = found.sigmoid()
    assert (found - expected).abs().max() < 1e-12


def test_fields_and_dense_columns(case) -> None:
    name, _, _, wrapped = case
    schema = wrapped.model.schema
    assert (schema.field_names, schema.dense) == FIELDS[name]


def test_integrated_gradients_add_up_and_equal_captum(case) -> None:
    _, _, batch, wrapped = case
    explainer = wrapped.explainer(batch, FINE)
    found = explainer.attributions()
    assert found.relative_delta < 1e-3
    assert found.logits.sub(found.baseline_logits).abs().mean() > 0.01
    (view,) = explainer.views(explainer.rows[:6], 32)
    captum = CaptumMethod("IntegratedGradients", {"n_steps": 32}).attribute(view, 0)
    # Captum computes the nodes of the path in float32.
    assert IntegratedGradients(32).attribute(view, 0).sub(captum).abs().max() < 1e-7


def test_shapley_values_add_up(case) -> None:
    _, _, batch, wrapped = case
    explainer = wrapped.explainer(batch)
    (view,) = explainer.views(explainer.rows[:6], 32)
    off = KernelShap().attribute(view, 0).sum(1) - view.difference
    assert off.abs().max() < 1e-9


def test_attributions_equal_those_of_captum_on_the_module_itself() -> None:
    module, batch = build("NeuMF")
    user, item = batch["user"], batch["item"]
    tables = [*module.users, *module.items]
    for table in tables:
        nn.init.zeros_(table.weight[0])  # Captum needs an id as the baseline
    explainer = glassrec.wrap(module, batch).explainer(batch, Explain(baseline="zero"))
    (view,) = explainer.views(explainer.rows, 64)
    found = IntegratedGradients(64).attribute(view, 0)
    captum = LayerIntegratedGradients(module, tables)
    zeros = torch.zeros_like(user), torch.zeros_like(item)
    values = captum.attribute((user, item), zeros, n_steps=64)
    by_field = [sum(part.sum(1) for part in values[i : i + 2]) for i in (0, 2)]
    assert found.sub(torch.stack(by_field, 1)).abs().max() < 1e-7  # nodes in float32


def test_the_module_stays_as_it_is() -> None:
    module, batch = build("SharedTable")
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    wrapped = glassrec.wrap(module.train(), batch)
    wrapped.explain(batch)
    assert module.training
    after = module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_float32_and_float64_agree() -> None:
    module, batch = build("TwoLookUps")
    rows = glassrec.wrap(module, batch).rows(batch)
    single = glassrec.wrap(module.float(), batch).model
    double = glassrec.wrap(module.double(), batch).model
    assert single(rows).dtype == torch.float32
    assert single.double()(rows).dtype == torch.float64
    assert single.float()(rows).sub(double(rows)).abs().max() < 1e-5


class Recurrent(nn.Module):
    """The last state of a GRU over a list of ids, and attention over the same list."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.gru = nn.Embedding(9, 4), nn.GRU(4, 5, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(5 + 4, 1)

    def forward(self, history: Tensor) -> Tensor:
        vectors = self.items(history)
        mixed, _ = self.attention(vectors, vectors, vectors, need_weights=False)
        return self.out(torch.cat([self.gru(vectors)[0][:, -1], mixed.mean(1)], 1))


def test_recurrent_layers_and_attention_are_explained() -> None:
    torch.manual_seed(0)
    module, history = Recurrent().double().eval(), torch.randint(9, (6, 3))
    wrapped = glassrec.wrap(module, history)
    logits = wrapped.model.predict(wrapped.rows(history)).flatten()
    assert logits.sub(_output(module, history)).abs().max() < 1e-12
    found = wrapped.explain(history, FINE)
    assert found.features == ("history[0]", "history[1]", "history[2]")
    assert found.relative_delta < 1e-3


class Keywords(nn.Module):
    """Arguments by keyword alone, and one that is not given."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(9, 4), nn.Linear(4, 1)

    def forward(self, ids: Tensor, mask: Tensor | None = None, *, age: Tensor) -> Tensor:
        return self.out(self.table(ids)) + age.unsqueeze(1)


def test_arguments_by_keyword() -> None:
    batch = {"age": torch.rand(5), "mask": None, "ids": torch.arange(5)}
    found = glassrec.wrap(Keywords(), batch).explain(batch)
    assert found.features == ("age", "ids")


def test_several_outputs_are_tasks() -> None:
    module = TwoLookUps()
    module.out = nn.Linear(5, 2)
    module.user_weight, module.item_weight = nn.Embedding(9, 2), nn.Embedding(7, 2)
    wrapped = glassrec.wrap(module, TwoLookUps.example())
    assert [target.name for target in wrapped.model.schema.targets] == ["task0", "task1"]


class TakesAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables, self.out = nn.ModuleList(nn.Embedding(5, 3) for _ in "ab"), nn.Linear(6, 1)

    def forward(self, ids: list[Tensor]) -> Tensor:
        found = [table(each) for table, each in zip(self.tables, ids, strict=True)]
        return self.out(torch.cat(found, 1)).squeeze(1)


def test_a_list_is_one_batch_where_the_example_is_one() -> None:
    module, batch = TakesAList(), [torch.tensor([0, 1, 2]), torch.tensor([3, 4, 0])]
    wrapped = glassrec.wrap(module, batch)
    with torch.no_grad():
        one, two = (wrapped.model(wrapped.rows(each)).flatten() for each in (batch, [batch, batch]))
        torch.testing.assert_close(one, module(batch))
    torch.testing.assert_close(two, one.repeat(2))


class AnyArguments(nn.Module):
    """`*args` and `**kwargs`, as wrappers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(9, 4), nn.Linear(4, 1)

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        ids = [*args, *(kwargs[name] for name in ("user", "item") if name in kwargs)]
        return self.out(sum(torch.relu(self.table(each)) for each in ids))


def test_any_arguments() -> None:
    module, user, item = AnyArguments(), torch.arange(9), torch.arange(9).flip(0)
    named = glassrec.wrap(module, {"user": user, "item": item})
    assert named.model.schema.field_names == ("user", "item")
    ordered = glassrec.wrap(module, (user, item))
    assert ordered.model.schema.field_names == ("args[0]", "args[1]")
    swapped = {"item": item, "user": user}  # names count, and not their order
    found = [
        each.explain(rows).values for each, rows in ((named, swapped), (ordered, (user, item)))
    ]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.arange(9),) * 3, r"holds args\[0\], args\[1\] and args\[2\], and the example args"),
        (torch.arange(9), r"holds args\[0\], and the example args\[0\] and args\[1\]"),
        (
            (torch.arange(9), torch.zeros(9, 1).long()),
            r"args\[1\] has the shape \(9, 1\); .*\(9,\)",
        ),
        ([], "there is no batch"),
    ],
)
def test_a_batch_of_another_structure_is_refused(batch, message) -> None:
    wrapped = glassrec.wrap(AnyArguments(), (torch.arange(9), torch.arange(9)))
    with pytest.raises(ValueError, match=message):
        wrapped.explain(batch)


def test_arguments_that_are_no_settings_are_refused() -> None:
    ids = torch.arange(9)
    wrapped = glassrec.wrap(AnyArguments(), (ids, ids))
    with pytest.raises(TypeError, match="Tensor, and not Explain; several inputs are one batch"):
        wrapped.explain(ids, ids)


def test_the_seed_reaches_the_baseline_of_a_plan() -> None:
    module, batch = build("TwoLookUps")
    wrapped = glassrec.wrap(module, batch)
    seeds: list[int] = []

    class Seen(WrappedModule):
        def explainer(self, batches: Any, settings: Explain | None = None, seed: int = 0) -> Any:
            seeds.append(seed)
            return super().explainer(batches, settings, seed)

    Seen(wrapped.model, wrapped.example).plan(batch, seed=7)
    assert seeds == [7]


class Wave(nn.Module):
    """A logit that turns often along the path for ids of large vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 1)
        self.table.weight.data = torch.tensor([[0.1], [0.2], [0.3], [1.0]])

    def forward(self, ids: Tensor, speed: Tensor) -> Tensor:
        return torch.cos(speed * self.table(ids)).sum(1)


def test_rows_far_from_completeness_get_more_nodes_or_a_warning() -> None:
    ids, zero = torch.arange(4), Explain(baseline="zero", select=Selection(rows=None))
    speed = torch.full((4, 1), 1.0)
    wrapped = glassrec.wrap(Wave(), (ids, speed))
    speed[3] = 600.0
    explainer = wrapped.explainer((ids, speed), zero)
    coarse = explainer.attributions()
    assert explainer.method.steps == 128
    assert coarse.delta[3].abs() > 0.05 * (coarse.logits - coarse.baseline_logits).abs().mean()
    found = wrapped.explain((ids, speed), zero)
    assert found.delta.abs().max() < 0.05 * coarse.delta[3].abs()
    assert torch.equal(found.values[:3], coarse.values[:3])
    speed[3] = 60_000.0
    with pytest.warns(UserWarning, match="of 1 of 4 rows, such as 3, exceeds 5.0%"):
        off = wrapped.explain((ids, speed), zero)
    assert off.delta[3].abs() > 0.1


class Counts(nn.Module):
    """A buffer that counts calls."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(9, 4), nn.Linear(4, 1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, ids: Tensor) -> Tensor:
        self.calls += 1
        return self.out(torch.relu(self.table(ids)))


def test_a_buffer_that_forward_changes() -> None:
    torch.manual_seed(0)
    module, ids = Counts(), torch.randint(9, (6,))
    wrapped = glassrec.wrap(module, ids)
    assert not module.calls
    found = wrapped.model(wrapped.rows([ids[:2], ids])).flatten()
    expected = torch.cat([module(ids[:2]), module(ids)]).flatten()
    torch.testing.assert_close(found, expected)
