"""The whole story: train -> explain -> prune -> evaluate, in one directory.

A stage is a function that gives a frozen result. It asks the run for its files, and the run makes
only those that are missing or stale. So a stage can be wanted alone, again, or after a crash, and
a change of one setting makes again what depends on it and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassrec.artifacts.file_list import CERTIFICATE, DATA, REPORT, STAGES, WEIGHTS
from glassrec.data.dataset_metadata import anomaly_lines
from glassrec.failures import memory_needed
from glassrec.metrics.evaluation import DEFAULT
from glassrec.metrics.metadata import primary_metrics
from glassrec.process_exit import UsageError
from glassrec.processes import from_first, is_first
from glassrec.run import flat, is_path, trusted_sha256
from glassrec.stages import lines, outputs
from glassrec.stages.context import Context, PipelineSettings
from glassrec.stages.evaluate import evaluate
from glassrec.stages.explain import ExplainResult, explain
from glassrec.stages.export import export
from glassrec.stages.outputs import report
from glassrec.stages.prune import prune
from glassrec.stages.start import start_file
from glassrec.stages.train import describe, train
from glassrec.stages.verify import verify
from glassrec.tracking import Log, NoTracker
from glassrec.training.settings import OnEpoch

_MODEL = "the size of the model (model.embedding)"
_MEMORY = {
    "train": f"trainer.batch_size or {_MODEL}",
    "explain": f"explain.memory, explain.select.rows or {_MODEL}",
    "prune": _MODEL,
    "evaluate": _MODEL,
    "export": _MODEL,
}
"""The settings that need less memory in a stage, when they are lowered."""


@dataclass(frozen=True)
class Pipeline(PipelineSettings):
    """One experiment, to be made or verified."""

    def execute(self, stage: str, watch: OnEpoch | None = None) -> None:
        """Make all that is missing up to `stage`, everything for `run`, and print where it lies.

        Args:
            stage: one of `STAGES`, `run`, or `export`, which takes the place of `evaluate`.
            watch: gets each row of the training history, and may raise `StoppedEarly`.

        Raises:
            ValueError: the data, the settings or a saved file do not allow it.
            StoppedEarly: `watch` did.
        """
        last = STAGES[-1] if stage == "run" else stage
        tracker = self.tracker if is_first() else NoTracker()
        with tracker.open(self.run.dir, self.run.shown, stage) as log:
            context = Context(self, from_first(lambda: self.external_hashes(stage)))
            self.make(context, last, RunOutput(context, log), watch)
        run = context.writable
        run.save_config()
        if not run.new_files:
            print("nothing to make: all of it is there and up to date")
        print(f"results   {run.dir}")

    def external_hashes(self, stage: str) -> dict[str, Any]:
        """The hashes of all external inputs; where an export cannot read them, the certified ones.

        A pruned run may so be exported where its data is not.
        """
        try:
            return external_hashes(self)
        except UsageError:
            raise
        except (ValueError, OSError) as error:
            if stage != "export" or not self.run.has(CERTIFICATE):
                raise
            print(f"export    {error}; so the data is taken as it was certified", flush=True)
            return self.run.read(CERTIFICATE).given

    def make(
        self, context: Context, last: str, output: RunOutput, watch: OnEpoch | None = None,
        explained: ExplainResult | None = None,
    ) -> ExplainResult | None:  # fmt: skip
        """All stages up to the last; those of a cut come after what was `explained`."""
        log, repeats = output.log, context.run.config["data"].get("repeats")

        def on_epoch(row: Mapping[str, float]) -> None:
            log.epoch(row)
            if watch is not None and row["epoch"]:
                watch(row)

        if explained is None:
            with _stage(context, "train"):
                facts = describe(context)
                outputs.track_data(log, context)
                output.print("data", [*anomaly_lines(facts), *lines.repeats(facts, repeats)])
                training = train(context, on_epoch, log.steps, last)
                output.draw(outputs.train_pictures(training, facts))
                output.print("train", lines.train_lines(training))
                outputs.track_training(log, context)
            if last == "train":
                return None
            with _stage(context, "explain"):
                explained = explain(training.trained)
                output.print("explain", lines.explain_lines(explained))
                output.draw(outputs.explain_pictures(explained, facts))
                outputs.track_explanation(log, explained)
        if last == "explain":
            return explained
        with _stage(context, "prune"):
            pruned = prune(context, explained.trained, explained.neurons)
            context.writable.restore_provenance(context.external["data"])
            output.draw(outputs.prune_pictures(pruned))
            output.print("prune", lines.prune_lines(pruned))
            outputs.track_pruning(log, pruned)
        if last == "export":
            with _stage(context, "export"):
                output.print("export", lines.export_lines(export(pruned)))
        elif last == "evaluate":
            with _stage(context, "evaluate"):
                found = evaluate(explained.trained, explained.about, pruned)
                values, facts = {**found.metrics, **found.latency}, context.run.load(DATA).values
                log.summary(values)
                tests = [name.removeprefix("test/") for name in values if name.startswith("test/")]
                primary = primary_metrics(tests)
                adds = (self.evaluation or DEFAULT).adds
                own = [n for n in tests if n.rpartition("/")[2] in context.metrics or adds(n)]
                output.print("evaluate", lines.evaluate_lines(found, primary, own, facts, repeats))
                report(context, log)
                output.print("evaluate", [f"{REPORT.name} shows this run"])
        return explained

    def verify(self) -> list[str]:
        """The differences between the files of the run and their content when computed anew."""
        return verify(Context(self), lambda: external_hashes(self))


@dataclass(frozen=True)
class RunOutput:
    """Where results are shown: the terminal, the figures of the run, and the tracker."""

    context: Context
    log: Log

    def print(self, stage: str, lines: Iterable[str]) -> None:
        """Print lines of a stage."""
        for line in lines:
            print(f"{stage:<9} {line}", flush=True)

    def draw(self, drawings: Iterable[outputs.Drawing]) -> None:
        """Draw the figures that are missing or stale, and track them."""
        for file, draw in drawings if self.context.settings.draws_figures else ():
            self.context.once(file, draw)
            run, name = self.context.run, Path(file.name).stem
            self.log.figure(name, run.dir / file.name, run.sha256_of(file))


@contextmanager
def _stage(context: Context, name: str) -> Iterator[None]:
    """Record in the status of the run how a stage ends; name settings where memory is short."""
    with context.writable.working_on(name), memory_needed(name, _MEMORY[name]):
        yield


def external_hashes(settings: PipelineSettings) -> dict[str, Any]:
    """The hashes of all external inputs: data files, and the weights that training starts from.

    A path among the model's settings is a file, or the directory of a trained run.
    """
    parts = {}
    for name, value in flat(settings.run.config["model"]).items():
        if is_path(value):
            file = Path(value) if Path(value).is_file() else Path(value, WEIGHTS.name)
            if not file.is_file():
                raise ValueError(f"model.{name}: {value} holds no {file.name}; train it first")
            parts[name] = trusted_sha256(file)
    found: dict[str, Any] = {"data": settings.data.fingerprint(), "model": parts}
    if settings.start is not None:
        file = start_file(settings.start)
        if file.resolve().parent == settings.run.dir.resolve():
            raise UsageError(f"start: {settings.start} is this run; name another run.dir")
        found["start"] = {"weights": trusted_sha256(file)}
    return found
