"""Explanations of plain modules equal those of Glassrec's own models with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import glassrec
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema, Target
from glassrec.explain.explainer import Explain, Explainer
from glassrec.explain.explanation_tables import neuron_scores, pair_table
from glassrec.explain.methods.coalitions import Shapley
from glassrec.explain.methods.deeplift import DeepLift
from glassrec.explain.methods.dlrm_deeplift import DLRMDeepLift
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.methods.kernel_shap import KernelShap
from glassrec.explain.selection import Selection
from glassrec.imported.wrapping import WrappedModule
from glassrec.models.base import Recommender
from glassrec.models.dcn import DCN
from glassrec.models.dlrm import DLRM
from glassrec.models.ncf import NeuMF

SIZES = {"user": 7, "item": 9, "city": 5}
SCHEMA = Schema(
    ("age", "price"), tuple(Field(*pair) for pair in SIZES.items()), (Target("label"),),
    "user", "item",
)  # fmt: skip


class PlainDLRM(nn.Module):
    """Towers of linear layers, and `bmm` of all vectors with each other."""

    def __init__(self, width: int, bottom: tuple[int, ...], top: tuple[int, ...]) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: nn.Embedding(n, width) for name, n in SIZES.items()})
        pairs = len(SIZES) * (len(SIZES) + 1) // 2
        self.bottom, self.top = _tower(2, *bottom, width), _tower(width + pairs, *top)
        self.output = nn.Linear(top[-1], 1)

    def forward(self, age: Tensor, price: Tensor, user: Tensor, item: Tensor, city: Tensor
                ) -> Tensor:  # fmt: skip
        x = _pass(self.bottom, torch.stack([age, price], 1))
        ids = {"user": user, "item": item, "city": city}
        vectors = torch.stack([x, *(self.tables[name](each) for name, each in ids.items())], 1)
        i, j = torch.tril_indices(4, 4, -1)
        pairs = torch.bmm(vectors, vectors.transpose(1, 2))[:, i, j]
        return self.output(_pass(self.top, torch.cat([x, pairs], 1))).squeeze(1)

    def read(self, native: Any) -> None:
        _copy(self.bottom, native.bottom)
        _copy(self.top, native.top)


class PlainDCN(nn.Module):
    """DCN-v2 of full rank, with a deep tower behind the cross layers or beside them."""

    def __init__(self, width: int, crosses: int, deep: tuple[int, ...], parallel: bool) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: nn.Embedding(n, width) for name, n in SIZES.items()})
        self.width, self.parallel = 2 + len(SIZES) * width, parallel
        self.crosses = nn.ModuleList(nn.Linear(self.width, self.width) for _ in range(crosses))
        self.tower = _tower(self.width, *deep)
        self.output = nn.Linear(deep[-1] + parallel * self.width, 1)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        vectors = [table(features[name]) for name, table in self.tables.items()]
        dense = [features[name].unsqueeze(1) for name in ("age", "price")]
        start = x = torch.cat([*dense, *vectors], 1)
        for layer in self.crosses:
            x = start * layer(x) + x
        deep = _pass(self.tower, start if self.parallel else x)
        return self.output(torch.cat([x, deep], 1) if self.parallel else deep)

    def read(self, native: Any) -> None:
        _copy(self.tower, native.tower)
        _copy(self.crosses, native.cross)


class PlainNeuMF(nn.Module):
    """Two look-ups of each id; the product of one pair beside a tower over the other."""

    def __init__(self, factors: int) -> None:
        super().__init__()
        names = [f"{kind}_{name}" for kind in ("mf", "mlp") for name in ("user", "item")]
        widths = {"mf": factors, "mlp": 4 * factors}
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(SIZES[name.split("_")[1]], widths[name.split("_")[0]])
             for name in names}
        )  # fmt: skip
        self.tower = _tower(8 * factors, 4 * factors, 2 * factors, factors)
        self.output = nn.Linear(2 * factors, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        product = self.tables["mf_user"](user) * self.tables["mf_item"](item)
        both = torch.cat([self.tables["mlp_user"](user), self.tables["mlp_item"](item)], -1)
        logit = self.output(torch.cat([product, _pass(self.tower, both)], -1))
        return torch.sigmoid(logit).view(-1)

    def read(self, native: Any) -> None:
        _copy(self.tower, native.tower)


def _tower(*sizes: int) -> nn.ModuleList:
    return nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))


def _pass(tower: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in tower:
        x = torch.relu(layer(x))
    return x


def _copy(tower: nn.ModuleList, native: Any) -> None:
    for layer, other in zip(tower, native, strict=True):
        layer.load_state_dict({name: getattr(other.affine, name) for name in ("weight", "bias")})


PAIRS: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], Recommender]]] = {
    "DLRM": (
        lambda: PlainDLRM(4, (6,), (8, 5)),
        lambda: DLRM(SCHEMA, embedding=4, bottom=(6,), top=(8, 5)),
    ),
    "stacked DCN": (
        lambda: PlainDCN(4, 2, (8, 5), False),
        lambda: DCN(SCHEMA, embedding=4, cross_layers=2, deep=(8, 5)),
    ),
    "parallel DCN": (
        lambda: PlainDCN(4, 2, (8, 5), True),
        lambda: DCN(SCHEMA, embedding=4, cross_layers=2, deep=(8, 5), structure="parallel"),
    ),
    "NeuMF": (lambda: PlainNeuMF(4), lambda: NeuMF(SCHEMA, factors=4)),
}

METHODS = {
    "integrated gradients": IntegratedGradients(32),
    "DeepLIFT": DeepLift(),
    "KernelSHAP": KernelShap(),
    "Shapley": Shapley(),
}

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-6}
"""The largest difference of two explanations, as a share of the largest attribution."""


def _models(name: str, dtype: torch.dtype) -> tuple[nn.Module, Recommender]:
    """Both models, with the weights of the native one."""
    torch.manual_seed(3)
    plain, native = PAIRS[name][0](), PAIRS[name][1]()
    with torch.no_grad():
        nn.init.normal_(native.table.weight)
        for field in native.schema.field_names:
            vectors = native.table.vectors(field)
            kinds = [n for n in ("mf_", "mlp_") if n + field in plain.tables] or [""]
            widths = [plain.tables[kind + field].embedding_dim for kind in kinds]
            for kind, part in zip(kinds, vectors.split(widths, 1), strict=True):
                plain.tables[kind + field].weight.copy_(part)
    plain.read(native)
    state = {key: getattr(native.output, key) for key in ("weight", "bias")}
    plain.output.load_state_dict(state)
    return plain.to(dtype), native.to(dtype)


def _explainers(name: str, dtype: torch.dtype, settings: Explain) -> tuple[Explainer, Explainer]:
    """Explainers of the wrapped module and of the native model, of the same rows."""
    wrapped, inputs, native, data = _opened(name, dtype)
    return wrapped.explainer(inputs, settings), settings.build_explainer(native, data, 0)


@cache
def _opened(
    name: str, dtype: torch.dtype
) -> tuple[WrappedModule, dict[str, Tensor], Recommender, Dataset]:
    """The wrapped module with its inputs, and the native model with the same rows."""
    plain, native = _models(name, dtype)
    generator = torch.Generator().manual_seed(5)
    ids = [torch.randint(n, (40,), generator=generator) for n in SIZES.values()]
    dense = torch.randn(40, 2, generator=generator, dtype=dtype)
    inputs = dict(zip(SIZES, ids, strict=True))
    if name == "NeuMF":
        del inputs["city"]
    else:
        inputs = {"age": dense[:, 0], "price": dense[:, 1]} | inputs
    rows = Batch(
        dense, torch.stack(ids, 1) + torch.tensor(SCHEMA.offsets),
        torch.empty(40, 0, dtype=torch.long), torch.zeros(40, 1),
    )  # fmt: skip
    none = Split(rows.slice(0, 0))
    return glassrec.wrap(plain, inputs), inputs, native, Dataset(SCHEMA, Split(rows), none, none)


def _settings(baseline: str = "mean", **others: Any) -> Explain:
    return Explain(select=Selection(split="train", rows=None), baseline=baseline, **others)


def _same(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert expected.abs().max() > 0.01
    assert found.sub(expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("baseline", ["mean", "zero", "background:3"])
@pytest.mark.parametrize("name", PAIRS)
def test_attributions_equal_those_of_the_native_model(name: str, baseline: str, dtype) -> None:
    imported, native = _explainers(name, dtype, _settings(baseline))
    assert imported.feature_mask.features == native.feature_mask.features
    for method in METHODS.values():
        count = method.evaluations(len(native.feature_mask.features))
        views = zip(
            imported.views(imported.rows, count), native.views(native.rows, count), strict=True
        )
        for view, other in views:
            _same(method.attribute(view, 0), method.attribute(other, 0), dtype)


@pytest.mark.parametrize("name", PAIRS)
def test_deeplift_is_complete(name: str) -> None:
    imported, native = _explainers(name, torch.float64, _settings(method=DeepLift()))
    (view,) = imported.views(imported.rows, 2)
    values = imported.method.attribute(view, 0)
    assert values.sum(1).sub(view.difference).abs().max() < 1e-12
    if name == "DLRM":  # the closed form of the native model
        (other,) = native.views(native.rows, 2)
        _same(values, DLRMDeepLift().attribute(other, 0), torch.float64)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_equal_those_of_the_native_model(name: str, dtype) -> None:
    keys = ["first", "second"]
    found, expected = (
        pair_table(each).set_index(keys).sort_index()
        for each in _explainers(name, dtype, _settings(pair_rows=40))
    )
    assert found.index.equals(expected.index)
    _same(*(torch.tensor(each["mean_abs"].to_numpy()) for each in (found, expected)), dtype)
    _same(*(torch.tensor(each["mean"].to_numpy()) for each in (found, expected)), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", PAIRS)
def test_conductances_equal_those_of_the_native_model(name: str, dtype) -> None:
    imported, native = _explainers(name, dtype, _settings())
    frames = []
    for explainer in (imported, native):
        values = explainer.settings.neurons.values
        (view,) = explainer.views(explainer.rows, 33)
        layers = view.model.layers
        found = values(view.model, view.inputs, view.baseline, 0)
        frames.append({neuron: found[layer][0, :, k] for layer, each in layers.items()
                       for k, neuron in enumerate(each.neuron_names(layer))})  # fmt: skip
    towers = [neuron for neuron in frames[1] if neuron.startswith(("bottom.", "top.", "tower."))]
    assert len(towers) >= 13
    _same(*(torch.stack([frame[neuron] for neuron in towers]) for frame in frames), dtype)


def test_scores_of_neurons_equal_those_of_the_native_model() -> None:
    found, expected = (
        neuron_scores(each).set_index("name")["mean_abs"]
        for each in _explainers("DLRM", torch.float64, _settings())
    )
    towers = [name for name in expected.index if name.startswith(("bottom.", "top."))]
    assert len(towers) == 6 + 4 + 8 + 5
    _same(*(torch.tensor(each[towers].to_numpy()) for each in (found, expected)), torch.float64)


def test_deeplift_refuses_operations_without_a_rule_in_a_graph() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.norm = nn.Embedding(9, 4), nn.LayerNorm(4)
            self.output = nn.Linear(4, 1)

        def forward(self, ids: Tensor) -> Tensor:
            return self.output(self.norm(self.table(ids)))

    ids = torch.arange(9)
    wrapped = glassrec.wrap(Normed(), ids)
    with pytest.raises(ValueError, match="DeepLIFT has no rule for `layer_norm`"):
        wrapped.explain(ids, Explain(method=DeepLift()))
