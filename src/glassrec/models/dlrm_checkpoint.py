"""Checkpoints of facebookresearch/dlrm: into a DLRM, and out of it again.

The layout is `emb_l.N.weight` (rows, E) of table N, and `bot_l.N` and `top_l.N`, linear layers of
both towers at even N, with activations in between: ReLU, and a sigmoid at the end of the top one,
which is left out here. Pairs of the interaction stand in the same order there as here.
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from glassrec.data.torch_file import load_state_dict
from glassrec.models.layers import Affine

if TYPE_CHECKING:
    from glassrec.models.dlrm import DLRM


def checkpoint_sizes(file: Path) -> tuple[int, list[int], list[int]]:
    """The width of the vectors and the hidden layers of both towers, as arguments of `DLRM`;
    ValueError if there are too few layers.
    """
    state, found = load_state_dict(file), []
    for tower, least in (("bot_l", 1), ("top_l", 2)):
        names = [f"{tower}.{2 * n}.weight" for n in range(len(state) + 1)]
        found.append([len(state[name]) for name in takewhile(state.__contains__, names)])
        if len(found[-1]) < least:
            raise ValueError(f"{file} has no {names[len(found[-1])]}, as facebookresearch/dlrm has")
    bottom, top = found
    return bottom[-1], bottom[:-1], top[:-1]


@torch.no_grad()
def load_checkpoint(model: DLRM, file: Path) -> None:
    """Take the weights of a checkpoint over, rounded to the precision of the unpruned model.

    Raises:
        ValueError: a key is unknown or missing, or a tensor has another shape than here.
    """
    state, own = load_state_dict(file), to_layout(model)
    for name in [*state, *own]:
        there, here = (tuple(s[name].shape) if name in s else "missing" for s in (state, own))
        if there != here:
            raise ValueError(
                f"{file}: {name} is {there} there, and {here} here; take the data of that model, "
                "data=dlrm_batches; of variants, only dot products of two vectors and sums are read"
            )
    for name, tensor in own.items():
        tensor.copy_(state[name])


@torch.no_grad()
def to_layout(model: DLRM) -> dict[str, Tensor]:
    """The state dict of a DLRM in the layout, which gives the same logits; views where it can.

    Pruned hidden neurons are gone. Where pairs or dense values were pruned, the first top layer has
    columns of zeros, and the last bottom layer has neurons of weight 0 whose bias is the constant.
    The first row of each table is that of unseen ids, where there are any.

    Raises:
        ValueError: the layout cannot hold the model.
    """
    if any(target.kind != "click" for target in model.schema.targets):
        raise ValueError("the layout ends in a sigmoid, and not all tasks of this model are clicks")
    if not model.rectified:
        raise ValueError("the layout has ReLUs, and the towers of this model other activations")
    for field in model.schema.fields:
        if field.values > 1 and not model.schema.summed:
            raise ValueError(f"the layout sums the vectors of {field.name}, and here is their mean")
    names, inner = model.schema.field_names, model.interaction
    found = {f"emb_l.{n}.weight": model.table.vectors(name) for n, name in enumerate(names)}
    for tower, layers in {"bot_l": [*model.bottom], "top_l": [*model.top, model.output]}.items():
        for n, layer in enumerate(layers):
            affine = cast(Affine, getattr(layer, "affine", layer))
            found |= {
                f"{tower}.{2 * n}.weight": affine.weight,
                f"{tower}.{2 * n}.bias": affine.bias,
            }
    last = f"bot_l.{2 * len(model.bottom) - 2}"
    weight, bias, top = (found[n] for n in (f"{last}.weight", f"{last}.bias", "top_l.0.weight"))
    if len(inner.columns) < inner.width:
        zeros = weight.new_zeros(inner.width, weight.shape[1])
        found[f"{last}.weight"] = zeros.index_copy(0, inner.columns, weight)
        found[f"{last}.bias"] = inner.constants.to(bias).index_copy(0, inner.columns, bias)
    if len(inner.units) < inner.size:
        zeros = top.new_zeros(len(top), inner.size)
        found["top_l.0.weight"] = zeros.index_copy(1, inner.units, top)
    return {name: tensor.detach() for name, tensor in found.items()}
