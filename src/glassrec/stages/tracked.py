"""The results as the tracker gets them, beside the figures.

A table or a curve is put together only where a tracker listens that has not received it yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pandas as pd

from glassrec.artifacts import File
from glassrec.artifacts import file_list as files
from glassrec.report.statements import significant
from glassrec.run import ReadOnlyRun, experiment
from glassrec.spelling import NAMED
from glassrec.stages.context import Context
from glassrec.stages.explain import ExplainResult
from glassrec.stages.prune import PruneResult
from glassrec.tracking import Log, TablePreview

SAMPLE = 1000
"""Rows, at most, of the table of attributions."""

RANKS = 1000
"""Neurons of a layer, at most, in the curve of their conductance."""

DIFFERENCES = ("max_abs_logit_difference", "p999_abs_logit_difference")

ONE = pd.Series([1])
"""The sizes of a table that has none."""


def track_data(log: Log, context: Context) -> None:
    """The settings of the data and the hashes of its files, without a row of it."""
    settings = experiment(context.run.shown)["data"]
    log.artifact("data", [], {"settings": settings, "files": context.external["data"]})


def track_training(log: Log, context: Context) -> None:
    """The weights, and the hashes of what they were trained on."""
    _files(log, "checkpoint", context.run, (files.WEIGHTS,), context.external)


def track_explanation(log: Log, result: ExplainResult) -> None:
    """Its facts and tables, the conductance of every layer, and the files."""
    run, about = result.trained.context.run, result.about
    names = ("method", "baseline", "selection", "relative_delta", "rank_stability")
    facts: dict[str, float | str] = {name: getattr(about, name) for name in names}
    facts |= {"trusted": float(about.trusted), "constant": float(about.constant)}
    facts["significant"] = ", ".join(significant(result.importance)["player"].head(NAMED))
    log.summary({f"explain/{name}": value for name, value in facts.items()})
    neurons = result.neurons.sort_values("mean_abs", ascending=False, kind="stable")
    frames = {
        "importance": (files.IMPORTANCE, result.importance.sort_values("rank", kind="stable")),
        "neurons": (files.NEURONS, neurons),
        "methods": (files.METHODS, result.methods),
        "pairs": (files.PAIRS, result.pairs),
    }
    for name, (file, frame) in frames.items():
        if len(frame) and frame.get("mean_abs", ONE).any():  # a ranking of zeros is none
            log.table(
                name, run.sha256_of(file), partial(TablePreview, frame, len(frame), file.name)
            )
    log.table("attributions", run.sha256_of(files.ATTRIBUTIONS), lambda: _rows(result))
    log.curve("neuron/rank", run.sha256_of(files.NEURONS), lambda: _by_rank(result.neurons))
    made = (files.ATTRIBUTIONS, files.IMPORTANCE, files.NEURONS, files.EXPLANATION)
    _files(log, "attributions", run, made, _hashes(run, (files.WEIGHTS,)))


def track_pruning(log: Log, result: PruneResult) -> None:
    """The curves, the facts of the certificate, and the smaller model."""
    run, certificate, curves = result.context.run, result.certificate, result.curves
    if curves is not None:
        log.curve("prune/share", run.sha256_of(files.PRUNING_CURVES), lambda: _by_share(curves))
    facts: dict[str, float | str] = {
        "level": certificate.level,
        "exact": float(certificate.exact),
        "rows": float(sum(certificate.rows.values())),
        **{name: getattr(certificate, name) for name in DIFFERENCES},
        "units": float(result.plan.dropped),
    }
    log.summary({f"certificate/{name}": value for name, value in facts.items()})
    made = (files.PRUNED, files.PLAN, files.CERTIFICATE, files.CERTIFICATE_TEXT)
    _files(log, "pruned", run, made, _hashes(run, (files.WEIGHTS, files.NEURONS)))


def _files(
    log: Log, kind: str, run: ReadOnlyRun, made: tuple[File[Any], ...], made_of: Mapping[str, Any]
) -> None:
    facts = {"files": _hashes(run, made), "made_of": made_of}
    log.artifact(kind, [run.dir / file.name for file in made], facts)


def _hashes(run: ReadOnlyRun, made: tuple[File[Any], ...]) -> dict[str, str]:
    return {file.name: run.sha256_of(file) for file in made}


def _rows(result: ExplainResult) -> TablePreview:
    sample = result.attributions.sample(SAMPLE)
    order = list(result.importance.sort_values("rank", kind="stable")["player"])
    values = pd.DataFrame(sample.values.numpy(), columns=list(sample.features))[order]
    about = {"row": sample.rows, "label": sample.labels, "logit": sample.logits}
    facts = pd.DataFrame({name: column.numpy() for name, column in about.items()})
    frame = pd.concat([facts, values], axis=1)
    return TablePreview(frame, result.attributions.rows, files.ATTRIBUTIONS.name)


def _by_rank(neurons: pd.DataFrame) -> Iterator[dict[str, float]]:
    """The mean |conductance| of each layer's neurons, the largest first; one point for a rank."""
    layers = {
        f"neuron/{str(layer).replace('.', '_')}": own["mean_abs"]
        .sort_values(ascending=False)
        .tolist()[:RANKS]
        for layer, own in neurons.groupby("layer", sort=False)
    }
    for place in range(max(map(len, layers.values()), default=0)):
        found = {name: values[place] for name, values in layers.items() if place < len(values)}
        yield {"neuron/rank": place + 1, **found}


def _by_share(curves: pd.DataFrame) -> Iterator[dict[str, float]]:
    """The mean metrics over the draws of each score and variant; one point for a share."""
    metrics = [name for name in map(str, curves) if "/" in name]
    means = curves.groupby(["share", "score", "folded", "epochs"], sort=True)[metrics].mean()
    for share, rows in means.reset_index().groupby("share"):
        point = {"prune/share": float(str(share))}
        for row in rows.to_dict("records"):
            tuned = f"_{row['epochs']}_epochs" if row["epochs"] else ""
            variant = f"{row['score']}{'' if row['folded'] else '_unfolded'}{tuned}"
            point |= {f"prune/{variant}/{name}": float(row[name]) for name in metrics}
        yield point
