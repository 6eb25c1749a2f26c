"""The whole story: train -> explain -> prune -> evaluate, in one directory.

Each stage asks the run for its artifacts, and the run makes only those that are missing or were
made from something else. So a stage can be asked for alone, again, or after a crash, and a change
of one setting makes again what depends on it and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from annotated_types import Ge, MinLen
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from glassrec.artifacts import (
    Artifact,
    Attributions,
    Candidates,
    Certificate,
    Metrics,
    Picture,
    PrunePlan,
    Table,
    Weights,
)
from glassrec.data.dataset import Dataset, Source, Split
from glassrec.data.schema import Schema
from glassrec.evaluate.cost import cost
from glassrec.evaluate.quality import headline, quality
from glassrec.explain.stage import Explain
from glassrec.models.base import Recommender
from glassrec.prune.stage import Prune
from glassrec.report import figures
from glassrec.report.pairs import feature_pairs
from glassrec.report.steps import explains_steps, time_steps
from glassrec.run import Run, experiment, flat, is_path, key_of, trusted_sha256
from glassrec.tracking import Log, Tracker
from glassrec.training.memory import needed
from glassrec.training.objective import Objective
from glassrec.training.trainer import CHECKPOINT, Trained, Trainer

A = TypeVar("A", bound=Artifact)

STAGES = ("train", "explain", "prune", "evaluate")


@dataclass(frozen=True)
class Pipeline:
    """One experiment. Its fields are the root of the configuration, in the order of `run.yaml`.

    `seeds` is for the command line, which makes a pipeline for each: here it is None.
    """

    run: Run
    seed: Annotated[int, Ge(0)]
    seeds: Annotated[Sequence[Annotated[int, Ge(0)]], MinLen(1)] | None
    data: Source
    model: Callable[[Schema], Recommender]
    objective: Objective
    optimizer: Callable[[Iterable[Parameter]], Optimizer]
    table_optimizer: Callable[[Iterable[Parameter]], Optimizer] | None
    trainer: Trainer
    explain: Explain
    prune: Prune
    tracker: Tracker

    def __post_init__(self) -> None:
        if self.seeds is not None:
            raise ValueError(f"seeds: {self.seeds} is not allowed; make a pipeline for each")

    def execute(self, stage: str) -> None:
        """Make all that is missing up to `stage`, everything for `run`, and say where it lies.

        Raises:
            ValueError: the data, the settings or a saved file do not allow it.
        """
        last = STAGES[-1] if stage == "run" else stage
        with self.tracker.open(self.run.dir, self.run.config) as log:
            story = Story(self, log)
            for name in STAGES[: STAGES.index(last) + 1]:
                with self.run.working_on(name):
                    getattr(story, name)()
        if not self.run.made:
            print("nothing to make: all of it is there and up to date")
        print(f"results   {self.run.dir}")


class Story:
    """The four stages of a pipeline, and the artifacts between them, each made when asked for."""

    def __init__(self, pipeline: Pipeline, log: Log) -> None:
        self.settings = pipeline
        self.run = pipeline.run
        self.log = log

    def train(self) -> None:
        """Train, or go on where a killed run stopped; keep the best epoch."""
        epochs, size = len(self.history.frame), self.weights.bytes / 2**20
        (self.run.dir / CHECKPOINT).unlink(missing_ok=True)
        _say(
            "train", f"{epochs} epochs, {size:.1f} MiB of weights; the best on validation are kept"
        )

    def explain(self) -> None:
        """Attribute the logit to the inputs and to every neuron."""
        attributions, neurons = self.attributions, self.neurons.frame
        self._figure(
            "feature_importance",
            ["attributions.safetensors"],
            lambda: figures.feature_importance(attributions),
        )
        if explains_steps(attributions):
            self._figure(
                "time_steps",
                ["attributions.safetensors"],
                lambda: time_steps(attributions, self._explained_histories()),
            )
        if len(neurons):
            self._figure(
                "neuron_importance",
                ["neurons.parquet", "attributions.safetensors"],
                lambda: figures.neuron_importance(neurons, attributions),
            )
        first = ", ".join(attributions.importance().index[:3])
        missed = f"the parts miss {attributions.relative_delta:.2%} of the logit difference"
        silent = int((neurons["max_abs"] == 0).sum())
        _say("explain", f"{first} move the prediction most; {missed}")
        self._explain_pairs()
        _say("explain", f"{silent:,} of {len(neurons):,} neurons have no conductance")

    def _explain_pairs(self) -> None:
        """Say which features act together, where there are any two."""
        pairs, about = self.pairs.frame, self.attributions
        if len(pairs) > 1:
            rows = min(self.settings.explain.pair_rows, len(about.logits))
            self._figure(
                "feature_pairs",
                ["pairs.parquet", "attributions.safetensors"],
                lambda: feature_pairs(pairs, rows, about),
            )
        if len(pairs):
            _say("explain", f"{pairs['first'].iloc[0]} × {pairs['second'].iloc[0]} interact most")

    def prune(self) -> None:
        """Cut the neurons that do nothing, and certify what that changed."""
        plan, certificate = self.plan, self.certificate
        rows = sum(certificate.rows.values())
        cuts = plan.layers.values()
        proposed, stay = sum(cut.proposed for cut in cuts), sum(cut.refuted for cut in cuts)
        found = f"conductance proposed {proposed:,} neurons; {stay:,} are needed elsewhere and stay"
        _say("prune", found)
        _say("prune", f"{plan.dropped:,} of {plan.units:,} neurons are gone (level {plan.level})")
        largest = certificate.max_abs_logit_difference
        _say("prune", f"largest difference of a logit on all {rows:,} rows: {largest:.1e}")

    def evaluate(self) -> None:
        """Measure quality and size before and after the cut."""
        values = self.metrics.values
        self.log.summary(values)
        test = "test/"
        shown = headline([name.removeprefix(test) for name in values if name.startswith(test)])
        self._figure(
            "before_and_after",
            ["metrics.json", "plan.json", "certificate.json"],
            lambda: figures.before_and_after(values, shown, self.plan, self.certificate),
        )
        for name in (*(f"test/{metric}" for metric in shown), "parameters"):
            form = ",.0f" if name == "parameters" else ".4f"
            before, after = (f"{values[key]:{form}}" for key in (name, f"pruned/{name}"))
            _say("evaluate", f"{name} {before} as trained, {after} pruned")
        if "test/auroc" in values:
            low, high = values["test/auroc_low"], values["test/auroc_high"]
            _say("evaluate", f"test/auroc lies between {low:.4f} and {high:.4f} (95 % confidence)")

    # What the stages hand to each other, in the order in which it is made.

    @cached_property
    def given(self) -> dict[str, Any]:
        """The hashes of all that comes from outside: data files, and what the model starts from.

        A path among the model's settings is a file, or the directory of a trained run.
        """
        start = {}
        for name, value in flat(self.run.config["model"]).items():
            if is_path(value):
                file = Path(value) if Path(value).is_file() else Path(value, "weights.safetensors")
                if not file.is_file():
                    raise ValueError(f"model.{name}: {value} holds no {file.name}; train it first")
                start[name] = trusted_sha256(file)
        return {"data": self.settings.data.fingerprint(), "model": start}

    @cached_property
    def dataset(self) -> Dataset:
        """The data, with the evaluation candidates that were stored when it was first loaded."""
        print("loading the data ...", flush=True)
        dataset = self.settings.data.load(self.settings.seed)
        if not dataset.ranked:
            return dataset
        lists = self._once("candidates.safetensors", Candidates, lambda: _candidates(dataset))
        return replace(
            dataset,
            validation=_with_candidates(dataset.validation, lists, "val"),
            test=_with_candidates(dataset.test, lists, "test"),
        )

    @cached_property
    def explainer(self) -> Explain:
        """How to explain: the first task that is learnt, where none is named."""
        explain, targets = self.settings.explain, self.dataset.schema.targets
        return replace(explain, task=explain.task or self.settings.objective.first(targets).name)

    @cached_property
    def trained(self) -> Trained:
        """The outcome of training, or of the rest of a training that was killed."""
        self.run.describe(self.given["data"])
        settings, model = self.settings, self._new_model()
        self.explainer.check(model, self.dataset)
        optimizers = settings.optimizer, settings.table_optimizer
        resumes = (self.run.dir / CHECKPOINT).is_file()
        told = needed(settings.trainer, model, self.dataset, *optimizers, resumes=resumes)
        _say("memory", str(told))
        return settings.trainer.fit(
            model,
            self.dataset,
            settings.optimizer,
            table_optimizer=settings.table_optimizer,
            seed=settings.seed,
            directory=self.run.dir,
            origin=key_of({"experiment": experiment(self.run.config), "given": self.given}),
            objective=settings.objective,
            validate=partial(quality, name="val"),
            on_epoch=self.log.epoch,
        )

    @cached_property
    def history(self) -> Table:
        """One row an epoch."""
        return self._once("history.csv", Table, lambda: Table(self.trained.history))

    @cached_property
    def weights(self) -> Weights:
        """The weights of the epoch that was best on the validation split."""
        return self._once("weights.safetensors", Weights, lambda: Weights(self.trained.weights))

    @cached_property
    def trained_model(self) -> Recommender:
        """The model as trained, on the trainer's device."""
        return self._loaded(self.weights, "weights.safetensors")

    @cached_property
    def attributions(self) -> Attributions:
        """What each input contributed to the logit."""
        doing = "attributing the predictions to the inputs"
        return self._explained(
            "attributions.safetensors", Attributions, Explain.attributions, doing
        )

    @cached_property
    def neurons(self) -> Table:
        """What each neuron of each layer contributed to the logit."""
        doing = "taking the conductance of every neuron"
        return self._explained("neurons.parquet", Table, Explain.neurons, doing)

    @cached_property
    def pairs(self) -> Table:
        """What every two features contributed to the logit together."""
        doing = "looking for features that act together"
        return self._explained("pairs.parquet", Table, Explain.pairs, doing)

    @cached_property
    def plan(self) -> PrunePlan:
        """Which neurons go."""
        return self._once(
            "plan.json",
            PrunePlan,
            lambda: self.settings.prune.plan(self.trained_model, self.neurons, self.dataset),
            slot="prune",
            inputs=["weights.safetensors", "neurons.parquet"],
            doing="watching every neuron on all rows",
        )

    @cached_property
    def pruned(self) -> Weights:
        """The weights of the smaller model."""
        return self._once(
            "pruned.safetensors",
            Weights,
            lambda: self.settings.prune.cut(self.trained_model, self.plan),
            inputs=["weights.safetensors", "plan.json"],
        )

    @cached_property
    def certificate(self) -> Certificate:
        """What the cut changed."""
        pruned = self.pruned
        return self._once(
            "certificate.json",
            Certificate,
            lambda: self.settings.prune.certify(
                self.trained_model, pruned, self.plan, self.dataset,
                self.run.sha256_of("weights.safetensors"),
            ),
            inputs=["weights.safetensors", "plan.json", "pruned.safetensors"],
            doing="comparing both models on all rows",
        )  # fmt: skip

    @cached_property
    def metrics(self) -> Metrics:
        """Quality and size of both models, and what the stages between found."""
        self.certificate  # noqa: B018  made first: it is one of the inputs
        self.attributions  # noqa: B018
        return self._once(
            "metrics.json",
            Metrics,
            self._measure,
            inputs=["weights.safetensors", "attributions.safetensors", "certificate.json"],
            doing="measuring quality on the validation and the test split",
        )

    def _measure(self) -> Metrics:
        small = self._loaded(self.pruned, "pruned.safetensors")
        values = self._quality_and_cost(self.trained_model)
        values |= {f"pruned/{k}": v for k, v in self._quality_and_cost(small).items()}
        certificate = self.certificate
        values |= {
            "pruned/units": float(self.plan.dropped),
            "pruned/max_abs_logit_difference": certificate.max_abs_logit_difference,
            "pruned/p999_abs_logit_difference": certificate.p999_abs_logit_difference,
            "pruned/rows_changed": float(certificate.rows_changed),
            "explain/relative_delta": self.attributions.relative_delta,
        }
        return Metrics(values)

    def _quality_and_cost(self, model: Recommender) -> dict[str, float]:
        values = cost(model)
        for name in ("val", "test"):
            found = quality(model, self.dataset, name)
            values |= {f"{name}/{metric}": value for metric, value in found.items()}
        return values

    def _explained(
        self,
        name: str,
        kind: type[A],
        make: Callable[[Explain, Recommender, Dataset, int], A],
        doing: str,
    ) -> A:
        """The artifact `name` of the trained model; loads the data only to make it."""
        return self._once(
            name,
            kind,
            lambda: make(self.explainer, self.trained_model, self.dataset, self.settings.seed),
            slot="explain",
            inputs=["weights.safetensors"],
            doing=doing,
        )

    def _once(
        self,
        name: str,
        kind: type[A],
        make: Callable[[], A],
        *,
        slot: str | None = None,
        inputs: Iterable[str] = (),
        doing: str = "",
    ) -> A:
        """The artifact `name`, made of the experiment, one slot's settings and other artifacts.

        `doing` tells who watches what takes so long, if it has to be made.
        """

        def told() -> A:
            if doing:
                print(f"{doing} ...", flush=True)
            return make()

        config = self.run.config
        made_from = {"experiment": experiment(config), "given": self.given}
        if slot is not None:
            made_from[slot] = config[slot]
        return self.run.once(name, kind, made_from, tuple(inputs), told)

    def _figure(self, name: str, inputs: Iterable[str], draw: Callable[[], Picture]) -> None:
        path = f"figures/{name}.png"
        self._once(path, Picture, draw, inputs=inputs)
        self.log.figure(name, self.run.dir / path)

    def _explained_histories(self) -> Tensor:
        """(N, T): the histories of the explained rows."""
        split = self.dataset.splits[self.attributions.facts["split"]]
        return split.batch.history[self.attributions.rows]

    def _new_model(self) -> Recommender:
        """The model with its first weights; they depend on the seed alone."""
        torch.manual_seed(self.settings.seed)
        return self.settings.model(self.dataset.schema)

    def _loaded(self, weights: Weights, name: str) -> Recommender:
        model = self._new_model()
        model.load(weights.tensors, str(self.run.dir / name))
        return model.to(self.settings.trainer.device).eval()


def _say(stage: str, line: str) -> None:
    print(f"{stage:<9} {line}", flush=True)


def _candidates(dataset: Dataset) -> Candidates:
    lists = {n: s for n, s in dataset.splits.items() if s.query is not None}
    return Candidates(
        {name: split.batch.ids for name, split in lists.items()},
        {name: split.query for name, split in lists.items() if split.query is not None},
    )


def _with_candidates(split: Split, lists: Candidates, name: str) -> Split:
    return Split(split.batch._replace(ids=lists.ids[name]), lists.query[name])
