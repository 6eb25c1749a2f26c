"""Explanations against stock Captum calls for the same values, and against the pure passes.

All arms of a comparison take turns in one process; printed are the medians of the turns and the
median of the turns' ratios, by the processor's time and by the wall's. Captum's LIME and KernelSHAP
go row by row: they run on a few rows, and their time is scaled to all. Weights and rows are drawn
at random, since no value of them changes the time. `by 1` is how Captum's samplers are called by
default, one perturbation a forward pass; `by 100` lets them pass all of a row at once. The pure
passes are the forward and the backward over the same nodes, without any explanation.

    python benchmarks/explain.py --threads 2
"""

from __future__ import annotations

import argparse
import platform
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

import torch
from captum import attr
from captum._utils.models.linear_model import SkLearnLinearRegression
from torch import Tensor, nn

from glassrec.data.schema import Field, Schema
from glassrec.explain.features import Granularity, build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.methods.coalitions import Shapley
from glassrec.explain.methods.kernel_shap import KernelShap
from glassrec.explain.methods.lime import Lime
from glassrec.explain.neurons import Conductance
from glassrec.explain.path import path_chunks, straight_path, trapezoid
from glassrec.models.base import Inputs, Recommender
from glassrec.models.dcn import DCN
from glassrec.models.dlrm import DLRM
from glassrec.models.ncf import NeuMF

ROWS = 497
"""As many as are explained in Captum's tutorial on DLRM."""
FEW = 10
"""Rows of the row-by-row loops."""
STEPS = (10, 50)

Arm = Callable[[], object]


class Time(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float


def clock(arm: Arm, device: torch.device) -> Time:
    if device.type == "cuda":
        torch.cuda.synchronize()
    cpu, wall = process_time(), perf_counter()
    arm()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Time(process_time() - cpu, perf_counter() - wall)


def compare(
    theirs: Arm, ours: dict[str, Arm], options: argparse.Namespace, scale: float = 1
) -> None:
    """Print their time, `scale` times as long as measured, over that of each of ours."""
    device, arms = torch.device(options.device), [theirs, *ours.values()]
    for arm in ours.values():
        arm()  # warms up
    turns = []
    for turn in range(options.repeats):
        order = arms if turn % 2 else arms[::-1]
        turns.append({arm: clock(arm, device) for arm in order})
    peer = scale * median(turn[theirs].wall for turn in turns)
    for name, arm in ours.items():
        wall = median(turn[arm].wall for turn in turns)
        cpu, by_wall = (
            scale * median(turn[theirs][at] / turn[arm][at] for turn in turns) for at in range(2)
        )
        print(
            f"{name:<46} {peer:>9.3f} s {wall:>8.4f} s {cpu:>9.2f} × CPU {by_wall:>9.2f} × wall "
            f"{ROWS / wall:>8,.0f} rows/s",
            flush=True,
        )


def rows_of(model: Recommender) -> tuple[Inputs, Inputs]:
    """Random rows, beside zeros."""
    reads, device = model.schema, model.device
    inputs = Inputs(
        torch.randn(ROWS, len(reads.dense), device=device),
        torch.randn(ROWS, len(reads.fields), model.width, device=device),
        torch.zeros(ROWS, 0, model.width, device=device),
        torch.zeros(ROWS, 0, device=device),
    )
    return inputs, Inputs(*(torch.zeros_like(part) for part in inputs))


def captums(model: Recommender, *parts: Tensor) -> Tensor:
    """The first logit of the parts that the model reads: dense and fields, or fields alone."""
    fields = parts[-1]
    dense = parts[0] if len(parts) > 1 else fields.new_zeros(len(fields), 0)
    history, steps = fields.new_zeros(len(fields), 0, model.width), fields.new_zeros(len(fields), 0)
    return model.score(Inputs(dense, fields, history, steps))[:, 0]


def layer_by_layer(
    model: DLRM, modules: dict[str, nn.Module], rows: Inputs, base: Inputs, steps: int
) -> list[Tensor]:
    return [
        attr.LayerConductance(partial(captums, model), module).attribute(
            rows[:2], base[:2], n_steps=steps
        )
        for module in modules.values()
    ]


def fused(
    model: DLRM, modules: dict[str, nn.Module], rows: Inputs, base: Inputs, steps: int, rule: str
) -> list[Tensor]:
    found = Conductance(steps, rule).values(model, rows, base, modules=modules)
    return [values[-1] for values in found.values()]


def pure(model: DLRM, points: list[Inputs]) -> None:
    """Forward and backward of points that lie ready, as many at a time as in the fused pass."""
    for part in points:
        torch.autograd.grad(model.score(part)[:, 0].sum(), part[:2])


def published_dlrm(device: torch.device) -> DLRM:
    fields = tuple(Field(f"C{at}", 1000) for at in range(1, 27))
    return DLRM(Schema(tuple(f"I{at}" for at in range(1, 14)), fields)).to(device).eval()


def neurons(options: argparse.Namespace) -> None:
    model = published_dlrm(torch.device(options.device))
    rows, base = rows_of(model)
    layers: dict[str, nn.Module] = dict(model.layers)
    every = {
        name: module
        for name, module in model.named_modules()
        if name not in ("", "table", "top", "target_scale") and not isinstance(module, nn.ReLU)
    }
    assert len(every) == 15, "each layer, each affine map in one, the bottom tower, the output"
    rules = ("trapezoid", "captum")
    for modules in (layers, every):
        for steps in STEPS:
            given = (model, modules, rows, base, steps)
            ours = {
                f"{len(modules)} modules, {steps} steps, rule {rule}": partial(fused, *given, rule)
                for rule in rules
            }
            compare(partial(layer_by_layer, *given), ours, options)
    pairs = zip(fused(*given, "captum"), layer_by_layer(*given), strict=True)
    same = all(torch.equal(a, b) for a, b in pairs)
    print(f"rule captum {'equals' if same else 'DOES NOT equal'} Captum bit for bit")
    for steps in STEPS:
        nodes = trapezoid(steps).nodes
        points = [straight_path(*part, nodes) for part in path_chunks(rows, base, len(nodes))]
        found = partial(fused, model, layers, rows, base, steps, "trapezoid")
        compare(partial(pure, model, points), {f"pure passes of {steps + 1} nodes": found}, options)


def lime(model: Recommender, rows: Inputs, at_once: int) -> Tensor:
    kernel = attr._core.lime.get_exp_kernel_similarity_function("euclidean", 1000)
    method = attr.Lime(partial(captums, model), SkLearnLinearRegression(), kernel)
    fields = rows.fields[:FEW]
    return method.attribute(fields, n_samples=100, perturbations_per_eval=at_once)


def kernel_shap(model: Recommender, rows: Inputs, at_once: int) -> Tensor:
    method = attr.KernelShap(partial(captums, model))
    return method.attribute(rows.fields[:FEW], n_samples=256, perturbations_per_eval=at_once)


def shapley(model: Recommender, rows: Inputs) -> Tensor:
    mask = torch.arange(6, device=model.device).view(1, 6, 1).repeat(1, 1, model.width)
    return attr.ShapleyValues(partial(captums, model)).attribute(rows.fields, feature_mask=mask)


def by_ours(model: Recommender, granularity: Granularity, method: Method) -> Arm:
    mask = build_feature_mask(model.schema, model.width, granularity, model.device)
    return partial(method.attribute, MaskedModel(model, mask, *rows_of(model)), 0)


def inputs(options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    schema = Schema((), (Field("user", 6041), Field("item", 3707)), user="user", item="item")
    neumf = NeuMF(schema, factors=8, hidden=(24, 16, 8)).to(device).eval()
    features = ("movie", "user", "zip", "occupation", "gender", "age")
    dcn = DCN(Schema((), tuple(Field(name, 50) for name in features))).to(device).eval()
    loops = (("LIME", Lime(100, "euclidean", 1000), lime, 100),
             ("KernelSHAP", KernelShap(256), kernel_shap, 256))  # fmt: skip
    for name, method, loop, samples in loops:
        for at_once in (1, samples):
            theirs = partial(loop, neumf, rows_of(neumf)[0], at_once)
            title = f"{name}, 64 features, {samples} samples, by {at_once}"
            compare(theirs, {title: by_ours(neumf, "dimensions", method)}, options, ROWS / FEW)
    exact = partial(shapley, dcn, rows_of(dcn)[0])
    compare(exact, {"exact Shapley, 6 features": by_ours(dcn, "fields", Shapley())}, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    on_gpu = options.device.startswith("cuda")
    name = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    print(f"{ROWS} rows, {name}, {options.threads} threads, torch {torch.__version__}")
    print("theirs, ours, theirs / ours by either clock, rows explained by ours")
    warnings.filterwarnings("ignore", module="captum")
    neurons(options)
    inputs(options)


if __name__ == "__main__":
    main()
