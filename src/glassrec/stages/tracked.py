"""What the tracker is told of each stage, beside its pictures.

A table or a curve is put together only where somebody listens who does not know it yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from glassrec.report.statements import significant
from glassrec.run import experiment
from glassrec.spelling import NAMED
from glassrec.tracking import TablePreview

if TYPE_CHECKING:
    from glassrec.run import Run
    from glassrec.stages.curves import Curving
    from glassrec.stages.explain import Explaining
    from glassrec.stages.prune import Pruning
    from glassrec.stages.stage import Stage
    from glassrec.stages.train import Training

SAMPLE = 1000
"""Rows, at most, of the table of attributions."""

RANKS = 1000
"""Neurons of a layer, at most, in the curve of their conductance."""

ONE = pd.Series([1])
"""What stands for the sizes of a table that has none."""

EXPLANATION = ("attributions.parquet", "importance.parquet", "neurons.parquet", "explanation.json")
PRUNED = ("pruned.safetensors", "plan.json", "certificate.json", "certificate.md")


def data(trained: Training) -> None:
    """What the data is, without a row of it: its settings, and the hashes of its files."""
    settings = experiment(trained.run.shown)["data"]
    trained.log.artifact("data", [], {"settings": settings, "files": trained.given["data"]})


def checkpoint(trained: Training) -> None:
    """The weights, and what they were trained on."""
    _files(trained, "checkpoint", ["weights.safetensors"], made_of=trained.given)


def explanation(found: Explaining) -> None:
    """The trust that it deserves, its tables, every layer's neurons, and the files."""
    run, about = found.run, found.about
    facts: dict[str, float | str] = {
        "method": about.method,
        "baseline": about.baseline,
        "selection": about.selection,
        "relative_delta": about.relative_delta,
        "rank_stability": about.rank_stability,
        "trusted": float(about.trusted),
        "constant": float(about.constant),
        "significant": ", ".join(significant(found.importance)["player"].head(NAMED)),
    }
    found.log.summary({f"explain/{name}": value for name, value in facts.items()})
    frames = {
        "importance": found.importance.sort_values("rank", kind="stable"),
        "neurons": found.neurons.sort_values("mean_abs", ascending=False, kind="stable"),
        "methods": found.methods,
        "pairs": found.pairs,
    }
    for name, frame in frames.items():
        file = f"{name}.parquet"
        if len(frame) and frame.get("mean_abs", ONE).any():  # a ranking of zeros is none
            shown = partial(TablePreview, frame, len(frame), file)
            found.log.table(name, run.sha256_of(file), shown)
    found.log.table("attributions", run.sha256_of("attributions.parquet"), lambda: _rows(found))
    neurons = run.sha256_of("neurons.parquet")
    found.log.curve("neuron/rank", neurons, lambda: _by_rank(found.neurons))
    _files(found, "attributions", EXPLANATION, made_of=_hashes(run, ["weights.safetensors"]))


def pruning_curves(curving: Curving) -> None:
    """What is left of the metrics, over the share that is cut."""
    version = curving.run.sha256_of("pruning_curves.parquet")
    curving.log.curve("prune/share", version, lambda: _by_share(curving.table.frame))


def cut(pruned: Pruning) -> None:
    """The facts of the certificate, and the smaller model."""
    certificate = pruned.certificate
    facts: dict[str, float | str] = {
        "level": certificate.level,
        "exact": float(certificate.exact),
        "rows": float(sum(certificate.rows.values())),
        "max_abs_logit_difference": certificate.max_abs_logit_difference,
        "p999_abs_logit_difference": certificate.p999_abs_logit_difference,
        "units": float(pruned.plan.dropped),
    }
    pruned.log.summary({f"certificate/{name}": value for name, value in facts.items()})
    made_of = _hashes(pruned.run, ["weights.safetensors", "neurons.parquet"])
    _files(pruned, "pruned", PRUNED, made_of=made_of)


def _files(stage: Stage, kind: str, names: Sequence[str], made_of: Mapping[str, Any]) -> None:
    run = stage.run
    facts = {"files": _hashes(run, names), "made_of": made_of}
    stage.log.artifact(kind, [run.dir / name for name in names], facts)


def _hashes(run: Run, names: Sequence[str]) -> dict[str, str]:
    return {name: run.sha256_of(name) for name in names}


def _rows(found: Explaining) -> TablePreview:
    """Some rows, at even places; the players that count most come first."""
    attributions = found.attributions
    sample = attributions.sample(SAMPLE)
    order = list(found.importance.sort_values("rank", kind="stable")["player"])
    values = pd.DataFrame(sample.values.numpy(), columns=list(sample.players))[order]
    about = {"row": sample.rows, "label": sample.labels, "logit": sample.logits}
    facts = pd.DataFrame({name: column.numpy() for name, column in about.items()})
    frame = pd.concat([facts, values], axis=1)
    return TablePreview(frame, attributions.rows, "attributions.parquet")


def _by_rank(neurons: pd.DataFrame) -> Iterator[dict[str, float]]:
    """The mean |conductance| of each layer's neurons, the largest first; one point a rank."""
    layers = {
        f"neuron/{str(layer).replace('.', '_')}": own["mean_abs"]
        .sort_values(ascending=False)
        .tolist()[:RANKS]
        for layer, own in neurons.groupby("layer", sort=False)
    }
    for place in range(max(map(len, layers.values()), default=0)):
        found = {name: values[place] for name, values in layers.items() if place < len(values)}
        yield {"neuron/rank": place + 1, **found}


def _by_share(cuts: pd.DataFrame) -> Iterator[dict[str, float]]:
    """The mean metrics over the draws of each score and way to cut; one point a share."""
    metrics = [name for name in map(str, cuts) if "/" in name]
    means = cuts.groupby(["share", "score", "folded", "epochs"], sort=True)[metrics].mean()
    for share, rows in means.reset_index().groupby("share"):
        point = {"prune/share": float(str(share))}
        for row in rows.to_dict("records"):
            tuned = f"_{row['epochs']}_epochs" if row["epochs"] else ""
            way = f"{row['score']}{'' if row['folded'] else '_unfolded'}{tuned}"
            point |= {f"prune/{way}/{name}": float(row[name]) for name in metrics}
        yield point
