"""Explain: the contribution of each input and of each neuron, and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from safetensors.torch import load_file, save_file
from torch import Tensor

from glassrec.artifacts import AttributionFile, Explanation, File, Metrics, StoredTable, Tensors
from glassrec.artifacts import file_list as files
from glassrec.explain import explanation_tables as tables
from glassrec.explain.evaluation.method_comparison import MethodComparison, attention_control
from glassrec.explain.evaluation.significance import ROWS
from glassrec.explain.explainer import Explainer
from glassrec.explain.statistics import RunningStatistics, compare_selections
from glassrec.processes import from_first, is_first
from glassrec.progress import with_progress
from glassrec.run import replacing
from glassrec.stages.context import Context, TrainedModel

SAVED_EVERY = 60.0
"""Seconds after which the statistics of neurons are saved, for a killed process to go on from."""

NONE = pd.DataFrame()
"""A table that is not made, as the explanation found no effects."""


@dataclass(frozen=True)
class ExplainResult:
    """The explanation of a trained model; each table is the file of that name."""

    trained: TrainedModel
    attributions: AttributionFile
    about: Explanation
    importance: pd.DataFrame
    neurons: pd.DataFrame
    pairs: pd.DataFrame
    methods: pd.DataFrame
    truth: dict[str, float]
    """how well effects were found, where they are known; else empty"""
    other: tuple[pd.DataFrame, Explanation] | None
    """the comparison with the reference selection, and the facts of the explanation there"""
    removals: pd.DataFrame
    completeness: pd.DataFrame
    curves: pd.DataFrame
    """deletion and insertion curves of each method"""
    agreement: pd.DataFrame

    @property
    def has_effects(self) -> bool:
        """Whether any feature has an effect; if not, there is nothing to rank or to draw."""
        return _has_effects(self.about, self.importance)


def explain(trained: TrainedModel) -> ExplainResult:
    """Attribute the logit to the inputs and to every neuron, and judge the attributions."""
    context = trained.context
    attributions = _attributions(context, files.ATTRIBUTIONS, lambda: trained.explainer)
    context.once(files.BASELINE, lambda: _baseline(trained.explainer))

    @cache
    def totals() -> tables.AttributionTotals:
        return tables.AttributionTotals(trained.explainer).update(attributions.pieces())

    @cache
    def comparison() -> MethodComparison:
        return tables.method_comparison(trained.explainer)

    def table(
        file: File[StoredTable], make: Callable[[], pd.DataFrame], doing: str = ""
    ) -> pd.DataFrame:
        return context.once(file, lambda: StoredTable(make()), doing).frame

    def importance() -> pd.DataFrame:
        explainer, sample = trained.explainer, attributions.sample(ROWS)
        chance, rows = tables.significance(explainer, sample), explainer.split.batch
        control = attention_control(explainer.model, rows.select(sample.rows), sample)
        return pd.concat([totals().frame(), chance, control], axis=1)

    def methods() -> pd.DataFrame:
        found, truth = comparison(), tables.ground_truth(trained.explainer)
        if truth is None:
            return found.methods
        return found.methods.merge(
            tables.ground_truth_by_method(found.importance, truth), how="left"
        )

    about = context.once(
        files.EXPLANATION, lambda: totals().summary(tables.agreement(trained.explainer))
    )
    features = table(files.IMPORTANCE, importance)
    neurons = table(
        files.NEURONS, lambda: _neurons(trained), "attributing the predictions to every neuron"
    )
    pairs = table(
        files.PAIRS,
        lambda: tables.pair_table(trained.explainer),
        "explaining pairs of features",
    )
    ranked, active = _has_effects(about, features), neurons["max_abs"].any()
    return ExplainResult(
        trained,
        attributions,
        about,
        features,
        neurons,
        pairs,
        methods=table(files.METHODS, methods, "evaluating the method and those compared with it"),
        truth=context.once(
            files.TRUTH,
            lambda: Metrics(tables.ground_truth_metrics(trained.explainer, features, pairs)),
        ).values,
        other=_other_selection(trained, attributions, totals),
        removals=table(files.REMOVALS, lambda: tables.removal_table(trained.explainer))
        if ranked
        else NONE,
        completeness=table(files.COMPLETENESS, lambda: tables.completeness_table(trained.explainer))
        if active
        else NONE,
        curves=table(files.FAITHFULNESS, lambda: comparison().curves) if ranked else NONE,
        agreement=table(files.AGREEMENT, lambda: comparison().agreement) if ranked else NONE,
    )


def _has_effects(about: Explanation, importance: pd.DataFrame) -> bool:
    return not about.constant and bool(importance["mean_abs"].any())


def _baseline(explainer: Explainer) -> Tensors:
    return Tensors({name: part.cpu() for name, part in explainer.bases._asdict().items()})


def _attributions(
    context: Context,
    file: File[AttributionFile],
    explainer: Callable[[], Explainer],
    whose: str = "the predictions",
) -> AttributionFile:
    context.once(
        file,
        lambda: _pieces(context, file, explainer()),
        f"attributing {whose} to the inputs",
    )
    # The pieces that it was made of are deleted.
    return AttributionFile.load(context.run.dir / file.name)


def _pieces(context: Context, file: File[AttributionFile], explainer: Explainer) -> AttributionFile:
    """Piece by piece, from where a killed process stopped."""
    folder = context.parts(file)
    parts = from_first(lambda: sorted(folder.glob("*.parquet")))
    done = from_first(lambda: AttributionFile(tuple(parts)).rows)
    pieces = ((len(piece.rows), piece) for piece in explainer.pieces(done))
    for piece in with_progress(pieces, len(explainer.rows), done):
        parts.append(folder / f"{len(parts):06}.parquet")
        if is_first():
            with replacing(parts[-1]) as temporary:
                AttributionFile.write_piece(temporary, piece, row_keys_of(explainer, piece.rows))
    return AttributionFile(tuple(parts))


def row_keys_of(explainer: Explainer, rows: Tensor) -> dict[str, pa.Array]:
    """`@user` and `@item` in raw values, null where training did not know them, and `@line`: the
    row in its file, from 1, null for a drawn candidate. Nothing for data without raw rows.
    """
    dataset, split = explainer.dataset, explainer.split
    encoder, schema, found = dataset.encoder, dataset.schema, dict[str, pa.Array]()
    for name, column in (("@user", schema.user), ("@item", schema.item)):
        if encoder is not None and column is not None:
            values = encoder.vocabularies[column].values
            offset = schema.offsets[schema.field_index(column)] + 1
            places = split.batch.ids[rows, schema.id_columns(column)[0]].numpy() - offset
            found[name] = pa.array(values).take(pa.array(places, mask=places < 0))
    if dataset.row_keys is not None:
        own = dataset.row_keys["split"] == explainer.settings.select.split
        numbers = dataset.row_keys.loc[own, "row"].to_numpy()
        happened = np.ones(split.batch.rows, bool)
        if split.query is not None:
            happened = (split.batch.targets[:, 0] == 1).numpy()
        if len(numbers) == happened.sum():  # not those of a source that has its own splits
            lines = np.zeros(len(happened), np.int64)
            lines[happened] = numbers
            found["@line"] = pa.array(lines[rows], mask=~happened[rows])
    return found


def _neurons(trained: TrainedModel) -> pd.DataFrame:
    saved = trained.context.parts(files.NEURONS) / "spreads.safetensors"
    last = perf_counter()

    def save(statistics: dict[str, RunningStatistics]) -> None:
        nonlocal last
        if is_first() and perf_counter() - last > SAVED_EVERY:
            _write(saved, statistics)
            last = perf_counter()

    return tables.neuron_scores(trained.explainer, from_first(lambda: _read(saved)), save)


def _other_selection(
    trained: TrainedModel,
    attributions: AttributionFile,
    totals: Callable[[], tables.AttributionTotals],
) -> tuple[pd.DataFrame, Explanation] | None:
    context, settings = trained.context, trained.context.settings.explain
    if settings.reference is None:
        context.run.forget(files.OTHER_ATTRIBUTIONS)
        return None
    selection = settings.reference

    @cache
    def explainer() -> Explainer:
        return trained.explained_by(replace(context.explain, select=selection))

    others = _attributions(
        context, files.OTHER_ATTRIBUTIONS, explainer, "the predictions of the reference selection"
    )

    @cache
    def other_totals() -> tables.AttributionTotals:
        return tables.AttributionTotals(explainer()).update(others.pieces())

    about = context.once(files.OTHER_EXPLANATION, lambda: other_totals().summary(None))
    compared = context.once(
        files.SELECTIONS,
        lambda: StoredTable(
            compare_selections(
                attributions.features, totals().statistics, other_totals().statistics
            )
        ),
    )
    return compared.frame, about


def _write(path: Path, statistics: dict[str, RunningStatistics]) -> None:
    tensors = {
        f"{name}/{part}": tensor.contiguous()
        for name, each in statistics.items()
        for part, tensor in each.state().items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def _read(path: Path) -> dict[str, RunningStatistics]:
    states: dict[str, dict[str, Any]] = {}
    for name, tensor in load_file(path).items() if path.is_file() else ():
        layer, _, part = name.rpartition("/")
        states.setdefault(layer, {})[part] = tensor
    return {layer: RunningStatistics.from_state(state) for layer, state in states.items()}
