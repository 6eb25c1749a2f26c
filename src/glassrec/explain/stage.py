"""How to explain a trained model: which inputs moved the logit, and through which neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from glassrec.data.dataset import Dataset
from glassrec.explain.comparison import Faithfulness
from glassrec.explain.explainer import Explainer
from glassrec.explain.gates import Kind
from glassrec.explain.gradients import IntegratedGradients
from glassrec.explain.methods import Method
from glassrec.explain.neurons import Conductance, NeuronMethod
from glassrec.explain.selection import Selection
from glassrec.models.base import Inputs, Recommender
from glassrec.spelling import one_of

BASELINES = ("zero", "mean", "unseen", "background", "background:N")
"""What `explain.baseline` may be; background alone is background:50."""


@dataclass(frozen=True)
class Explain:
    """How to explain.

    Args:
        task: the target whose logit is explained; the first one if None, in a run the first that
            is learnt.
        method: how the logit's difference from the baseline is divided among the players.
        neurons: what is told of every unit of every layer.
        players: what gets an attribution: each dense column, each field and each step of a history;
            the same with each embedding dimension; the dense columns alone; the steps alone; or
            `groups`. Of several, the first that knows a number owns it.
        groups: by name, the columns `price`, dimensions `user[0:8]`, steps `history[-1]` or kinds
            `dense` that move together.
        baseline: what "nothing known" is: all zeros, the mean embedding of training rows, each
            field's unseen id, or N training rows drawn at random, over which results are averaged.
        select: which rows are explained.
        against: other rows, for which the same explanation is made and compared.
        compare: other methods, judged beside this one.
        faithfulness: how thoroughly methods are judged.
        significance: against what a player's effect is tested: its values exchanged between rows,
            labels permuted over rows, or nothing; None is features, but labels for a retrieval,
            which has no loss of a single row.
        pair_rows: on how many of the rows pairs of features are explained; 0 leaves that out. P
            features take 1 + P (P + 1) / 2 evaluations a row.
        tolerance: of a method whose parts claim to add up, the share of the logit difference that
            they may miss.
        memory: MiB that the rows which pass the model at once may take.
    """

    task: str | None = None
    method: Method = field(default_factory=IntegratedGradients)
    neurons: NeuronMethod = field(default_factory=Conductance)
    players: (
        Literal["fields", "dimensions", "dense", "steps", "groups"]
        | Sequence[Literal["fields", "dimensions", "dense", "steps", "groups"]]
    ) = "fields"
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    baseline: str = "mean"
    select: Selection = field(default_factory=Selection)
    against: Selection | None = None
    compare: Mapping[str, Method] = field(default_factory=dict)
    faithfulness: Faithfulness = field(default_factory=Faithfulness)
    significance: Literal["features", "labels", "none"] | None = None
    pair_rows: Annotated[int, Ge(0)] = 200
    tolerance: Annotated[float, Gt(0)] = 0.05
    memory: Annotated[int, Ge(1)] = 64

    def __post_init__(self) -> None:
        kind, colon, count = self.baseline.partition(":")
        if colon and kind == "background":
            if not count.isdecimal() or int(count) < 1:
                raise ValueError(
                    f"explain.baseline: {self.baseline!r} tells no number of training rows; e.g. "
                    "background:50"
                )
        elif self.baseline not in BASELINES[:-1]:
            raise ValueError(
                f"explain.baseline: no baseline {self.baseline!r}{one_of(self.baseline, BASELINES)}"
            )
        self._check_players()

    def _check_players(self) -> None:
        if not self.players:
            raise ValueError("explain.players: the list is empty; e.g. [groups,fields]")
        grouped = "groups" in ([self.players] if isinstance(self.players, str) else self.players)
        if grouped and not self.groups:
            raise ValueError(
                "explain.players: no group is named; e.g. explain.groups={who: [age, user]}"
            )
        if self.groups and not grouped:
            raise ValueError(
                f"explain.groups: {', '.join(self.groups)} would not be used; "
                "set explain.players=groups, or [groups,fields]"
            )

    @property
    def kind(self) -> Kind:
        """What the baseline is, without the number of its rows."""
        kind: Kind = self.baseline.partition(":")[0]  # type: ignore[assignment]
        return kind

    @property
    def baselines(self) -> int:
        """Over how many baselines results are averaged."""
        _, _, count = self.baseline.partition(":")
        return int(count or 50) if self.kind == "background" else 1

    def of(
        self, model: Recommender, dataset: Dataset, seed: int, baseline: Inputs | None = None
    ) -> Explainer:
        """Who answers about a model and its data.

        Args:
            model: any recommender; it is put into evaluation mode.
            dataset: where rows come from.
            seed: of every random draw.
            baseline: embedded rows of your own in the place of the settings' baseline.

        Raises:
            ValueError: there is no such task, player or group, or the baseline does not fit.
        """
        return Explainer(self, model, dataset, seed, baseline)
