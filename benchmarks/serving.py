"""Milliseconds from one user and 500 items to the ten best with their attributions.

A DLRM of the size published for Criteo Kaggle: 13 numbers, 26 fields of its table sizes (each at
most --ids, which hardly changes the time), vectors of 16, towers 512-256-64-16 and 512-256-1.
Criteo's columns are anonymous: here the last 13 fields are the item's, all else is the user's.
Weights and rows are drawn at random, since no value of them changes the time.

Each request has another user and other items of a catalogue. All arms take turns in one process,
in random order; slow ones, with a *, take part in every 20th turn. Then the requests are served
alone, one after another. Stock Captum and shap explain ten rows of the same model against the same
baseline; the time to score the items is not in theirs.

    python benchmarks/serving.py --threads 1 [--compile]
"""

from __future__ import annotations

import argparse
import platform
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from glassrec.data.batch import Batch
    from glassrec.inference.serving import ItemLists
    from glassrec.models.base import Inputs
    from glassrec.models.dlrm import DLRM

KAGGLE = (1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27,
          14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572)  # fmt: skip
"""Distinct values of the 26 fields of Criteo Kaggle."""

ITEM_FIELDS, CATALOGUE, BEST, TARGET = 13, 10_000, 10, 10.0
WARM_UP, SLOW = 20, 20
"""Turns that do not count, and of how many turns one has the slow arms."""


@dataclass(frozen=True)
class Request:
    """A user (1 row), its candidates (N,) of the catalogue, and both as whole rows."""

    user: Batch
    places: Tensor
    rows: Batch


Arm = Callable[[Any], Any]
Times = list[tuple[float, float]]
"""Milliseconds of each turn, by the wall's clock and by the processor's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--items", type=int, default=500, help="candidates of a request")
    parser.add_argument("--ids", type=int, default=500_000, help="of a field, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile too (minutes)")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model, items, requests = drawn(options)
    lists = served(model, items)
    print(
        f"{options.items} items, {model.parameter_count:,} parameters, {options.requests} requests"
    )
    print(f"torch {torch.__version__}, {options.threads} thread(s), {cpu()}")
    explained = ten_rows(lists, requests[0])
    check(lists, requests, explained)
    arms = {**ours(lists, model, options), **captums(model, explained, lists)}
    served_alone = next(iter(arms.items()))
    show(measured(arms, requests), measured(dict([served_alone]), requests)[served_alone[0]])


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return next(iter(names), platform.machine())


def drawn(options: argparse.Namespace) -> tuple[DLRM, Batch, list[Request]]:
    """The model, the catalogue and the requests."""
    import torch

    from glassrec.data.batch import Batch
    from glassrec.data.schema import Field, Schema
    from glassrec.models.dlrm import DLRM

    fields = tuple(Field(f"C{at}", min(size, options.ids)) for at, size in enumerate(KAGGLE, 1))
    side = tuple(field.name for field in fields[-ITEM_FIELDS:])
    schema = Schema(tuple(f"I{at}" for at in range(1, 14)), fields, item_side=side)

    def rows(count: int) -> Batch:
        ids = [torch.randint(field.size, (count,)) + offset
               for field, offset in zip(fields, schema.offsets, strict=True)]  # fmt: skip
        none = torch.zeros(count, 0, dtype=torch.long)
        return Batch(torch.randn(count, 13), torch.stack(ids, 1), none, torch.zeros(count, 1))

    items, users = rows(CATALOGUE), rows(options.requests + WARM_UP)
    requests = []
    for user in users.chunks(1):
        places = torch.randperm(CATALOGUE)[: options.items]
        whole = Batch(*(part.repeat_interleave(len(places), 0) for part in user))
        whole.ids[:, -ITEM_FIELDS:] = items.ids[places, -ITEM_FIELDS:]
        requests.append(Request(user, places, whole))
    model = DLRM(schema).eval().requires_grad_(False)
    model.table.weight.normal_(std=0.3)  # so that the fields matter as in a trained model
    return model, items, requests


def served(model: DLRM, items: Batch, method: Any = None) -> ItemLists:
    from glassrec.data.dataset import Dataset, Split
    from glassrec.explain.explainer import Explain
    from glassrec.inference.serving import ItemLists

    split = Split(items)
    data = Dataset(model.table._data, split, split, split)
    return ItemLists(Explain().build_explainer(model, data, seed=0), items, method)


def ten_rows(lists: ItemLists, request: Request) -> Inputs:
    """The embedded rows of the ten best items of a request."""
    found = lists.best(request.user, BEST, request.places)
    return lists.scorer.inputs(lists.model.embed(request.user), found.places)


def check(lists: ItemLists, requests: list[Request], rows: Inputs) -> None:
    """Print the differences of logits, of attributions from Captum's, and from completeness."""
    import torch
    from captum import attr

    from glassrec.explain.methods.gradients import IntegratedGradients

    with torch.no_grad():
        apart = max(
            float((lists.scores(each.user, each.places) - lists.model(each.rows)[:, 0]).abs().max())
            for each in requests[:20]
        )
    print(f"largest difference of a logit from that of the whole row: {apart:.1e}")
    assert apart < 1e-5
    base = lists.explainer.bases
    sums = lists.model.task_logits(rows) - lists.model.task_logits(base)
    for method in (lists.method, *(IntegratedGradients(steps) for steps in (4, 8, 32))):
        view = lists.explainer.view_of(rows, 0, lists.explainer.feature_mask)
        error = (method.attribute(view, 0).sum(1) - sums[:, 0]).abs() / sums[:, 0].abs()
        print(f"{method.name}: completeness error {float(error.mean()):.1e} of the difference")
    theirs = attr.IntegratedGradients(logit(lists.model)).attribute(rows[:2], base[:2], n_steps=50)
    expected = torch.cat([theirs[0], theirs[1].sum(2)], 1)
    apart = float((IntegratedGradients(50).attribute(view, 0) - expected).abs().max())
    print(f"integrated gradients, 50 nodes: at most {apart:.1e} from Captum's")


def logit(model: DLRM) -> Callable[[Tensor, Tensor], Tensor]:
    """The first logit (B,) of dense (B, 13) and fields (B, 26, 16)."""
    from glassrec.models.base import Inputs

    def call(dense: Tensor, fields: Tensor) -> Tensor:
        history, steps = fields.new_zeros(len(fields), 0, 16), fields.new_zeros(len(fields), 0)
        return model.score(Inputs(dense, fields, history, steps))[:, 0]

    return call


def ours(lists: ItemLists, model: DLRM, options: argparse.Namespace) -> dict[str, Arm]:
    """Serving, its parts, and the alternatives to them."""
    import torch

    from glassrec.explain.methods.gradients import IntegratedGradients
    from glassrec.models.item_scorer import ItemScorer

    items = lists.explainer.dataset.train.batch
    plain = ItemScorer(model, items)
    by_path = {steps: served(model, items, IntegratedGradients(steps)) for steps in (8, 32)}

    @torch.no_grad()
    def scored(request: Request, score: Callable[..., Tensor] = plain.logits) -> Tensor:
        return score(model.embed(request.user), request.places)

    @torch.no_grad()
    def whole(request: Request, score: Callable[..., Tensor] = model) -> Tensor:
        return score(request.rows)

    @torch.no_grad()
    def tower_once(request: Request) -> Tensor:
        inputs = plain.inputs(model.embed(request.user), request.places)
        dense = model.bottom(inputs.dense[:1]).expand(inputs.rows, -1)
        return model.output(model.top(model.interaction(dense, inputs.fields)))

    arms: dict[str, Arm] = {
        "serve: score and explain": lambda r: lists.best(r.user, BEST, r.places),
        **{f"  integrated gradients, {steps} nodes": lambda r, o=own: o.best(r.user, BEST, r.places)
           for steps, own in by_path.items()},
        "score alone: first layer by sides": lambda r: lists.scores(r.user, r.places),
        "  items looked up before": scored,
        "  and the bottom tower once": tower_once,
        "  whole rows": whole,
    }  # fmt: skip
    if options.compile:
        factored, rows = (torch.compile(each) for each in (lists.scorer.logits, model))
        arms["  first layer by sides, torch.compile"] = lambda r: scored(r, factored)
        arms["  whole rows, torch.compile"] = lambda r: whole(r, rows)
    return arms


def captums(model: DLRM, rows: Inputs, lists: ItemLists) -> dict[str, Arm]:
    """Stock calls that explain ten rows."""
    import numpy as np
    import shap
    import torch
    from captum import attr
    from torch import nn

    call, base = logit(model), lists.explainer.bases
    given, baseline = [part.clone() for part in rows[:2]], [*base[:2]]

    class Logit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, dense: Tensor, fields: Tensor) -> Tensor:
            return call(dense, fields).unsqueeze(1)

    def flat(numbers: np.ndarray) -> np.ndarray:
        dense, fields = torch.from_numpy(numbers).float().split([13, 416], 1)
        with torch.no_grad():
            return call(dense, fields.unflatten(1, (26, 16))).numpy()

    columns = [
        torch.cat([part.flatten(1) for part in each], 1).numpy() for each in (given, baseline)
    ]
    path, product = attr.IntegratedGradients(call), attr.InputXGradient(call)
    arms: dict[str, Arm] = {
        "captum InputXGradient": lambda _: product.attribute(tuple(given)),
        "captum IntegratedGradients, 50 steps *": lambda _: path.attribute(
            tuple(given), tuple(baseline), n_steps=50
        ),
        "shap GradientExplainer, 200 samples *": lambda _: shap.GradientExplainer(
            Logit(), baseline
        ).shap_values(given),
        "shap DeepExplainer *": lambda _: shap.DeepExplainer(Logit(), baseline).shap_values(given),
        "shap KernelExplainer, 429 numbers *": lambda _: shap.KernelExplainer(
            flat, columns[1]
        ).shap_values(columns[0], silent=True),
    }
    for name in [*arms]:
        try:
            arms[name](None)
        except Exception as error:
            print(f"{name.rstrip(' *')} fails: {str(error).splitlines()[0][:160]}")
            del arms[name]
    return arms


def measured(arms: dict[str, Arm], requests: list[Request]) -> dict[str, Times]:
    """Milliseconds of the turns of each arm."""
    times: dict[str, Times] = {name: [] for name in arms}
    order = random.Random(0)
    for turn, request in enumerate(requests):
        for name, arm in order.sample([*arms.items()], len(arms)):
            if name.endswith("*") and turn % SLOW:
                continue
            began, busy = perf_counter(), process_time()
            arm(request)
            took = 1000 * (perf_counter() - began), 1000 * (process_time() - busy)
            if turn >= WARM_UP:
                times[name].append(took)
    return times


def show(times: dict[str, Times], alone: Times) -> None:
    """A table, and whether the target is met."""
    import numpy as np

    served, *_ = times
    first = np.median([wall for wall, _ in times[served]])
    print(
        f"\n{'ms':<40}{'turns':>6}{'p50':>9}{'p95':>9}{'p99':>9}{'p95 CPU':>9}{'p50 / serve':>13}"
    )
    for name, each in (times | {f"{served}, alone": alone}).items():
        half, most, all_but = np.percentile([wall for wall, _ in each], [50, 95, 99])
        busy = np.percentile([cpu for _, cpu in each], 95)
        print(f"{name:<40}{len(each):>6}{half:>9.2f}{most:>9.2f}{all_but:>9.2f}{busy:>9.2f}"
              f"{half / first:>13.2f}")  # fmt: skip
    late, between = (np.percentile([wall for wall, _ in each], 95)
                     for each in (alone, times[served]))  # fmt: skip
    verdict = "met" if late <= TARGET else "missed"
    print(f"\ntarget {verdict}: {late:.2f} ms at the 95th percentile, at most {TARGET:.0f} "
          f"({between:.2f} ms between the other arms)")  # fmt: skip


if __name__ == "__main__":
    main()
