"""Models of other packages, each with an example of its inputs; the packages are optional.

A builder imports its package, so that a test can skip where it is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

ROWS = 12


def _ids(size: int, *shape: int) -> Tensor:
    return torch.randint(1, size, (ROWS, *shape))


def _deepctr(name: str, **settings: Any) -> tuple[nn.Module, Any]:
    from deepctr_torch import models
    from deepctr_torch.inputs import DenseFeat, SparseFeat

    columns = [SparseFeat(f"C{i}", 7 + i, embedding_dim=4) for i in range(3)]
    columns += [DenseFeat("I0", 1), DenseFeat("I1", 1)]  # type: ignore[list-item]
    model = getattr(models, name)
    built = model(columns, columns, **({"device": "cpu"} | settings))
    inputs = torch.cat([torch.stack([_ids(7 + i) for i in range(3)], 1).float(),
                        torch.randn(ROWS, 2)], 1)  # fmt: skip
    return built, inputs


def _rechub(module: str, name: str, **settings: Any) -> tuple[nn.Module, Any]:
    import importlib

    from torch_rechub.basic.features import DenseFeature, SparseFeature

    ranking = importlib.import_module(f"torch_rechub.models.{module}")
    sparse = [SparseFeature(f"C{i}", vocab_size=7 + i, embed_dim=4) for i in range(3)]
    dense = [DenseFeature("I0"), DenseFeature("I1")]
    x = {f"C{i}": _ids(7 + i) for i in range(3)}
    x |= {f"I{i}": torch.randn(ROWS) for i in range(2)}
    given = {key: value(sparse, dense) if callable(value) else value
             for key, value in settings.items()}  # fmt: skip
    return getattr(ranking, name)(**given), {"x": x}


class _RecBoleData:
    def num(self, field: str) -> int:
        return 9

    inter_feat = None


def _recbole_pair(module: str, name: str, **settings: Any) -> tuple[nn.Module, Any]:
    import importlib

    known: dict[str, Any] = {
        "USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "NEG_PREFIX": "neg_", "LABEL_FIELD": "y",
        "device": torch.device("cpu"), "loss_type": "BPR",
    }  # fmt: skip
    config = _Config(known | settings)
    model = getattr(importlib.import_module(f"recbole.model.general_recommender.{module}"), name)
    built = model(config, _RecBoleData())
    return built, (_ids(9), _ids(9))


class _Config(dict[str, Any]):
    def __missing__(self, key: str) -> None:
        return None


def _both(sparse: list[Any], dense: list[Any]) -> list[Any]:
    return dense + sparse


def _sparse(sparse: list[Any], dense: list[Any]) -> list[Any]:
    return sparse


_MLP = {"dims": [8, 6], "dropout": 0.1, "activation": "relu"}
_HIDDEN = {"dnn_hidden_units": (8, 6)}


def _torchfm(module: str, name: str, *settings: Any) -> tuple[nn.Module, Any]:
    import importlib

    model = getattr(importlib.import_module(f"torchfm.model.{module}"), name)
    sizes = [7, 8, 9]
    return model(sizes, *settings), torch.stack([_ids(size) for size in sizes], 1)


def _rechub_lists(name: str) -> tuple[nn.Module, Any]:
    """A model that pools a padded list of ids."""
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models import ranking

    user, item = SparseFeature("user", 9, embed_dim=4), SparseFeature("item", 11, embed_dim=4)
    pooling = "concat" if name == "DIN" else "mean"
    items = SequenceFeature("history", 11, embed_dim=4, pooling=pooling, padding_idx=0)
    history = _ids(11, 3)
    x = {"user": _ids(9), "history": history}
    if name == "DIN":
        return ranking.DIN([user], [items], [item], {"dims": [8, 6]}, {"dims": [6, 4]}), {
            "x": x | {"item": _ids(11)}
        }
    history[::2, 2] = 0
    return ranking.WideDeep([user, items], [user, items], mlp_params=_MLP), {"x": x}


def _dssm() -> tuple[nn.Module, Any]:
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.models.matching import DSSM

    user, item = SparseFeature("user", 9, embed_dim=4), SparseFeature("item", 7, embed_dim=4)
    towers = {"user_params": {"dims": [8, 4]}, "item_params": {"dims": [8, 4]}}
    return DSSM([user], [item], **towers), {"x": {"user": _ids(9), "item": _ids(7)}}


class _Interaction(nn.Module):
    """A context-aware model of RecBole, whose `predict` takes a dict of fields."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, user: Tensor, item: Tensor, price: Tensor) -> Tensor:
        return self.model.predict({"user": user, "item": item, "price": price})


def _recbole_context(module: str, name: str, **settings: Any) -> tuple[nn.Module, Any]:
    import importlib

    from recbole.utils import FeatureSource, FeatureType

    class Data:  # the part of RecBole's data set that its models read
        field2type: ClassVar[dict[str, Any]] = {
            "user": FeatureType.TOKEN, "item": FeatureType.TOKEN, "price": FeatureType.FLOAT,
        }  # fmt: skip
        field2source: ClassVar[dict[str, Any]] = {
            "user": FeatureSource.USER_ID, "item": FeatureSource.ITEM_ID,
            "price": FeatureSource.ITEM,
        }  # fmt: skip

        def fields(self, source: Any = None, ftype: Any = None) -> list[str]:
            return [*self.field2type]

        def num(self, field: str) -> int:
            return {"user": 9, "item": 7, "price": 2}[field]

    known: dict[str, Any] = {
        "embedding_size": 4, "device": torch.device("cpu"), "LABEL_FIELD": "label",
        "double_tower": False, "numerical_features": ["price"], "mlp_hidden_size": [8, 6],
        "dropout_prob": 0.1, "reg_weight": 1,
    }  # fmt: skip
    package = importlib.import_module(f"recbole.model.context_aware_recommender.{module}")
    model = getattr(package, name)(_Config(known | settings), Data())
    price = torch.stack([torch.rand(ROWS), torch.ones(ROWS)], 1)
    return _Interaction(model), {"user": _ids(9), "item": _ids(7), "price": price}


_DEEP = (4, (8, 6), 0.1)

BUILDERS: Mapping[str, Callable[[], tuple[nn.Module, Any]]] = {
    "deepctr_torch:DeepFM": lambda: _deepctr("DeepFM", **_HIDDEN),
    "deepctr_torch:WDL": lambda: _deepctr("WDL", **_HIDDEN),
    "deepctr_torch:DCN": lambda: _deepctr("DCN", **_HIDDEN),
    "deepctr_torch:DCNMix": lambda: _deepctr("DCNMix", **_HIDDEN),
    "deepctr_torch:xDeepFM": lambda: _deepctr("xDeepFM", cin_layer_size=(6, 4), **_HIDDEN),
    "deepctr_torch:AutoInt": lambda: _deepctr("AutoInt", **_HIDDEN),
    "deepctr_torch:NFM": lambda: _deepctr("NFM", **_HIDDEN),
    "deepctr_torch:PNN": lambda: _deepctr_dnn("PNN", **_HIDDEN),
    "deepctr_torch:FiBiNET": lambda: _deepctr("FiBiNET", **_HIDDEN),
    "deepctr_torch:IFM": lambda: _deepctr("IFM", **_HIDDEN),
    "torch_rechub:DeepFM": lambda: _rechub(
        "ranking", "DeepFM", deep_features=_both, fm_features=_sparse, mlp_params=_MLP),
    "torch_rechub:WideDeep": lambda: _rechub(
        "ranking", "WideDeep", wide_features=_sparse, deep_features=_both, mlp_params=_MLP),
    "torch_rechub:DCN": lambda: _rechub(
        "ranking", "DCN", features=_both, n_cross_layers=2, mlp_params=_MLP),
    "torch_rechub:DCNv2": lambda: _rechub(
        "ranking", "DCNv2", features=_both, n_cross_layers=2, mlp_params=_MLP),
    "torch_rechub:FiBiNet": lambda: _rechub(
        "ranking", "FiBiNet", features=_sparse, reduction_ratio=2, mlp_params=_MLP),
    "torch_rechub:AutoInt": lambda: _rechub(
        "ranking", "AutoInt", sparse_features=_sparse, dense_features=lambda s, d: d,
        num_layers=1, num_heads=2, dropout=0.0, mlp_params=_MLP),
    "recbole:NeuMF": lambda: _recbole_pair(
        "neumf", "NeuMF", mf_embedding_size=4, mlp_embedding_size=5, mlp_hidden_size=[8, 6],
        dropout_prob=0.1, mf_train=True, mlp_train=True, use_pretrain=False),
    "recbole:BPR": lambda: _wrapped_bpr(),
    "recbole:DeepFM": lambda: _recbole_context("deepfm", "DeepFM"),
    "recbole:DCNV2": lambda: _recbole_context(
        "dcnv2", "DCNV2", mixed=False, cross_layer_num=2, structure="parallel"),
    "recbole:xDeepFM": lambda: _recbole_context(
        "xdeepfm", "xDeepFM", cin_layer_size=[4, 4], direct=False),
    "recbole:NFM": lambda: _recbole_context("nfm", "NFM"),
    "torch_rechub:DIN": lambda: _rechub_lists("DIN"),
    "torch_rechub:PooledWideDeep": lambda: _rechub_lists("WideDeep"),
    "torch_rechub:DSSM": _dssm,
    "deepctr_torch:DIFM": lambda: _deepctr("DIFM", att_head_num=2, **_HIDDEN),
    "deepctr_torch:ONN": lambda: _deepctr("ONN", **_HIDDEN),
    "deepctr_torch:SharedBottom": lambda: _deepctr_dnn(
        "SharedBottom", bottom_dnn_hidden_units=(8, 6), tower_dnn_hidden_units=(5,)),
    "deepctr_torch:MMOE": lambda: _deepctr_dnn(
        "MMOE", expert_dnn_hidden_units=(8,), gate_dnn_hidden_units=(6,),
        tower_dnn_hidden_units=(5,)),
    "torch_rechub:EDCN": lambda: _rechub(
        "ranking", "EDCN", features=_sparse, n_cross_layers=2, mlp_params=_MLP),
    "torch_rechub:SharedBottom": lambda: _rechub_tasks(
        "SharedBottom", features=_both, bottom_params={"dims": [8]}),
    "torch_rechub:MMOE": lambda: _rechub_tasks(
        "MMOE", features=_both, n_expert=3, expert_params={"dims": [8]}),
    "torch_rechub:PLE": lambda: _rechub_tasks(
        "PLE", features=_both, n_level=1, n_expert_specific=1, n_expert_shared=1,
        expert_params={"dims": [8]}),
    "recbole:DCN": lambda: _recbole_context("dcn", "DCN", cross_layer_num=2),
    "recbole:PNN": lambda: _recbole_context("pnn", "PNN", use_inner=True, use_outer=False),
    "recbole:WideDeep": lambda: _recbole_context("widedeep", "WideDeep"),
    "recbole:FNN": lambda: _recbole_context("fnn", "FNN"),
    "recbole:FM": lambda: _recbole_context("fm", "FM"),
    "recbole:AutoInt": lambda: _recbole_context(
        "autoint", "AutoInt", attention_size=4, n_layers=1, num_heads=2, has_residual=True,
        dropout_probs=[0, 0, 0]),
    "torchfm:DeepFM": lambda: _torchfm("dfm", "DeepFactorizationMachineModel", *_DEEP),
    "torchfm:DCN": lambda: _torchfm("dcn", "DeepCrossNetworkModel", 4, 2, (8, 6), 0.1),
    "torchfm:FNFM": lambda: _torchfm(
        "fnfm", "FieldAwareNeuralFactorizationMachineModel", 4, (8, 6), (0.1, 0.1)),
    "torchfm:AutoInt": lambda: _torchfm(
        "afi", "AutomaticFeatureInteractionModel", 4, 4, 2, 1, (8, 6), (0.1, 0.1, 0.1)),
}  # fmt: skip


def _deepctr_dnn(name: str, **settings: Any) -> tuple[nn.Module, Any]:
    """A model that takes one list of columns."""
    from deepctr_torch import models
    from deepctr_torch.inputs import DenseFeat, SparseFeat

    columns = [SparseFeat(f"C{i}", 7 + i, embedding_dim=4) for i in range(3)]
    columns += [DenseFeat("I0", 1), DenseFeat("I1", 1)]  # type: ignore[list-item]
    inputs = torch.cat([torch.stack([_ids(7 + i) for i in range(3)], 1).float(),
                        torch.randn(ROWS, 2)], 1)  # fmt: skip
    return getattr(models, name)(columns, device="cpu", **settings), inputs


def _rechub_tasks(name: str, **settings: Any) -> tuple[nn.Module, Any]:
    """A model of two tasks."""
    towers = [{"dims": [6]}] * 2
    tasks = ["classification"] * 2
    return _rechub("multi_task", name, task_types=tasks, tower_params_list=towers, **settings)


def _wrapped_bpr() -> tuple[nn.Module, Any]:
    model, inputs = _recbole_pair("bpr", "BPR", embedding_size=4)

    class Score(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, user: Tensor, item: Tensor) -> Tensor:
            users, items = self.model.forward(user, item)
            return (users * items).sum(1)

    return Score(), inputs
