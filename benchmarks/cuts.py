"""The time that cuts of each model save, next to the operations that they save.

Random neurons of each layer are pruned. The original and its cuts take turns in one process, in an
order that is drawn anew in each turn; shown are the median of the turns' ratios of processor time
to the original's, and its 95 % bootstrap interval. Weights, rows and pruned neurons are drawn at
random: no value of them changes the time. −0% is a copy of the original, which shows the noise.

    python benchmarks/cuts.py [--quick] [--backends eager,compile,onnx] [--models neumf,mlp]
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from time import process_time

import torch
from torch.utils.flop_counter import FlopCounterMode

from glassrec.data.batch import Batch
from glassrec.data.schema import Field, Schema, Target
from glassrec.metrics.cost import ratio_interval
from glassrec.models.base import Recommender
from glassrec.models.dcn import DCN, DNN
from glassrec.models.dlrm import DLRM
from glassrec.models.lstm import LSTM
from glassrec.models.ncf import GMF, MLP, NeuMF
from glassrec.models.two_tower import TwoTower

SHARES = (0.0, 0.3, 0.5, 0.7, 0.9)
CRITEO = Schema(
    tuple(f"I{place}" for place in range(1, 14)),
    tuple(Field(f"C{place}", 1000) for place in range(1, 27)),
)
PAIRS = (Field("user", 943), Field("item", 1682))
"""Of MovieLens-100K."""
FILMS = Schema((), PAIRS, user="user", item="item")
HISTORIES = Schema((), PAIRS, user="user", item="item", item_side=("item",), history_length=20)
DEMO = Schema(
    ("price", "age", "hour", "load", "latency"),
    tuple(Field(f"C{place}", 200) for place in range(8)),
)
"""The demo's number of dense columns and fields."""
SIDES = Schema(
    (), (*PAIRS, Field("age", 60), Field("genre", 20)),
    (Target("click"), Target("next", "retrieval")), "user", "item", ("item", "genre"),
)  # fmt: skip
# By name; behind a colon, the one layer that is pruned.
MODELS: dict[str, tuple[Callable[[Schema], Recommender], Schema]] = {
    "neumf": (NeuMF, FILMS),
    "neumf, 64 factors": (partial(NeuMF, factors=64), FILMS),
    "mlp": (MLP, FILMS),
    "gmf": (GMF, FILMS),
    "dlrm, demo": (DLRM, DEMO),
    "dlrm, Criteo": (DLRM, CRITEO),
    "dlrm, Criteo: interaction": (DLRM, CRITEO),
    "lstm": (LSTM, HISTORIES),
    "dcn": (partial(DCN, projection_dim=64), CRITEO),
    "dnn": (DNN, CRITEO),
    "two_tower": (TwoTower, SIDES),
}
LARGEST = 0.01
"""The largest constant of a pruned neuron that is not zero."""


def rows(schema: Schema, count: int) -> Batch:
    sizes = zip(schema.fields, schema.offsets, strict=True)
    ids = [torch.randint(field.size, (count,)) + offset for field, offset in sizes]
    history = torch.randint(1, PAIRS[1].size, (count, schema.history_length))
    if schema.item and schema.history_length:
        history += schema.offsets[schema.field_index(schema.item)]
    targets = torch.zeros(count, len(schema.targets))
    return Batch(torch.randn(count, len(schema.dense)), torch.stack(ids, 1), history, targets)


def cut(model: Recommender, share: float, only: str = "") -> Recommender:
    """The model without a random share of the neurons of each layer, or of the layer `only`."""
    small = deepcopy(model)
    for name, layer in small.layers.items():
        if only not in ("", name):
            continue
        units = len(layer.units)
        kept = torch.randperm(units)[int(share * units) :].sort().values
        constants = torch.rand(units) * LARGEST
        layer.keep(kept, constants.where(layer.foldable(constants), 0))
    small.narrow()
    return small


def flops(model: Recommender, batch: Batch) -> int:
    with FlopCounterMode(display=False) as counter:
        model(batch)
    return int(counter.get_total_flops())


def eager(model: Recommender, batch: Batch) -> Callable[[], object]:
    return lambda: model(batch)


def compiled(model: Recommender, batch: Batch) -> Callable[[], object]:
    torch._dynamo.reset()
    run = torch.compile(model, dynamic=False)
    run(batch)
    return lambda: run(batch)


def onnx(model: Recommender, batch: Batch) -> Callable[[], object]:
    import onnxruntime

    from glassrec.artifacts.programs import as_onnx
    from glassrec.stages.program import LOGITS, export_program

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = torch.get_num_threads()
    content = as_onnx(export_program(model, model.table._data), LOGITS)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = {each.name for each in session.get_inputs()}
    given = {name: part.numpy() for name, part in batch._asdict().items() if name in names}
    return lambda: session.run(None, given)


BACKENDS = {"eager": eager, "compile": compiled, "onnx": onnx}


def turns(passes: list[Callable[[], object]], count: int, at_once: int) -> torch.Tensor:
    """(count, passes): the milliseconds of processor time of each pass in each turn."""
    found = torch.empty(count + 3, len(passes), dtype=torch.float64)
    for turn in range(len(found)):
        for place in random.sample(range(len(passes)), len(passes)):
            began = process_time()
            for _ in range(at_once):
                passes[place]()
            found[turn, place] = 1000 * (process_time() - began) / at_once
    return found[3:]  # the first ones warm up


@torch.inference_mode()
def table(name: str, backend: str, options: argparse.Namespace) -> Iterator[str]:
    build, schema = MODELS[name]
    model = build(schema).eval()
    models = [model, *(cut(model, share, name.partition(": ")[2]) for share in SHARES)]
    for size in options.rows:
        batch = rows(schema, size)
        counts = [flops(each, batch) for each in models]
        try:
            passes = [BACKENDS[backend](each, batch) for each in models]
        except Exception as error:
            yield f"| {name} | {size:,} | {backend}: {str(error).splitlines()[0][:60]} | |"
            return
        at_once = 1 if size > 100 else 20 if "lstm" not in name else 4
        times = turns(passes, options.turns, at_once)
        cells = []
        for place in range(1, len(models)):
            middle, low, high = ratio_interval(times[:, 0], times[:, place])
            slower = " **slower**" if low > 1 else ""
            share = counts[place] / counts[0] if counts[0] else 1
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f}){slower}, {share:.2f}")
        yield f"| {name} | {size:,} | {times[:, 0].median():.3f} | {' | '.join(cells)} |"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="30 turns")
    parser.add_argument("--rows", type=lambda text: [*map(int, text.split(","))], default=[1, 4096])
    parser.add_argument("--backends", type=lambda text: text.split(","), default=["eager"])
    parser.add_argument("--models", type=lambda text: text.split(";"), default=[*MODELS])
    options = parser.parse_args()
    options.turns = 30 if options.quick else options.turns
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    random.seed(0)
    print(f"torch {torch.__version__}, {options.threads} thread(s), {processor()}")
    print(f"{options.turns} turns; load of the machine {os.getloadavg()[0]:.1f} at the start")
    print("each cell: time of the cut over that of the original (95 % interval), and its FLOPs")
    for backend in options.backends:
        print(f"\n| {backend} | rows | ms | {' | '.join(f'−{share:.0%}' for share in SHARES)} |")
        print("|---|---|---|" + "---|" * len(SHARES))
        for name in options.models:
            for line in table(name, backend, options):
                print(line, flush=True)
    print(f"\nload of the machine {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
