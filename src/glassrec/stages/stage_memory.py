"""The memory that each stage needs, estimated before training; what cannot fit is refused."""

from __future__ import annotations

from glassrec import processes
from glassrec.artifacts.file_list import STAGES
from glassrec.explain.path import bytes_of_row, zero_row
from glassrec.failures import OutOfMemoryError, free_memory
from glassrec.models.base import Recommender
from glassrec.stages.context import Context
from glassrec.training.memory import Memory, in_units

MODEL, ROWS = "the size of the model (model.embedding)", "the number of rows of the data"
Stages = dict[str, dict[str, float]]

METRIC_BYTES, BATCH_SHARE = 145.0, 0.75
"""Measured: of a row and a task, logits of both models in float64 and sorted copies; and, of
`bytes_of_row`, in training, as activations are freed while gradients are made."""


def stage_memory(context: Context, model: Recommender, training: Memory) -> Stages:
    """The bytes of each stage, by the setting that lowers them; of several processes the first's.

    Mapped files (data in a store, weights of a run) and the data in memory are not among them.
    """
    settings, rows = context.settings, context.dataset.rows_per_epoch
    counts = {name: split.batch.rows for name, split in context.dataset.splits.items()}
    tasks, one = len(model.schema.targets), bytes_of_row(model, zero_row(model))
    metrics, explain, weights = METRIC_BYTES * tasks, settings.explain, training.parameters
    explained = min(explain.select.rows or rows, counts[explain.select.split])
    features = len(model.schema.dense) + len(model.schema.fields) + model.schema.history_length
    passes = max(explain.method.evaluations(features), explain.neurons.evaluations)
    return dict(zip(STAGES, (
        {MODEL: training.peak - training.rows, ROWS: training.rows + metrics * counts["val"],
         "trainer.batch_size": min(settings.trainer.own_batch_size, rows) * one * BATCH_SHARE},
        {MODEL: weights, "explain.memory": min(
            explain.memory * 2**20, explained * passes * explain.baselines * one)},
        {MODEL: weights, "prune.chunk": min(settings.prune.chunk, max(counts.values())) * one,
         ROWS: 8 * tasks * sum(counts.values()) / processes.count()},
        {MODEL: weights, ROWS: metrics * max(counts["val"], counts["test"])},
    ), strict=True))  # fmt: skip


def check_memory(found: Stages, here: int, last: str) -> str:
    """The stages' memory in words, up to the last; OutOfMemoryError where one does not fit.

    `here` bytes of it are the model, which is made already.
    """
    end = STAGES.index(last) + 1 if last in STAGES else None
    needed = {stage: sum(found[stage].values()) for stage in STAGES[:end]}
    stage = max(needed, key=lambda name: needed[name])
    if needed[stage] - here > (free := free_memory() / processes.on_this_machine()):
        setting = max(found[stage], key=lambda name: found[stage][name])
        raise OutOfMemoryError(
            f"{stage} takes about {in_units(needed[stage])} of memory beside the data, and "
            f"{in_units(free)} are free; lower {setting}, or use a machine with more memory"
        )
    return ", ".join(f"{name} about {in_units(size)}" for name, size in needed.items())
