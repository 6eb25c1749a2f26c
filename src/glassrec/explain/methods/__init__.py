"""Attribution methods: how a logit's difference from its baseline is divided among features."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from glassrec.explain.masking import FeatureMask, MaskedModel
from glassrec.explain.path import zero_row
from glassrec.models.base import Recommender


class Method(ABC):
    """An attribution method; a frozen dataclass whose fields are its settings."""

    title: str = ""
    """The name in figures, in which `{field}` is a setting; that of the class if it is empty."""
    complete: bool = False
    """Whether attributions should add up to the logit's difference, so that the completeness error
    is one."""
    sampled: bool = False
    """Whether another seed gives other values, if there are many features; see `draws`."""
    averaged: bool = False
    """Whether it is by definition an average over several baselines, so that one is refused."""

    def draws(self, features: int) -> bool:
        """Whether another seed gives other values with so many features."""
        return self.sampled

    def finer(self) -> Method | None:
        """The method with twice the nodes of its path; None if it cannot be refined."""
        return None

    @property
    def name(self) -> str:
        """The name in figures, with the settings."""
        return self.title.format(**vars(self)) or type(self).__name__

    @abstractmethod
    def evaluations(self, features: int) -> int:
        """Masked rows that pass the model at once for a row; ValueError for too many features."""

    def check(self, model: Recommender, feature_mask: FeatureMask, baselines: int) -> None:
        """ValueError, before anything runs, if the method cannot explain the model, and why.

        Results will be averaged over so many `baselines`; the model need not be trained.
        """
        self.evaluations(len(feature_mask.features))
        if self.averaged and baselines < 2:
            raise ValueError(
                f"{self.name} is an average over training rows, and there is {baselines} baseline; "
                "set explain.baseline=background"
            )

    def attribute_zeros(self, model: Recommender, feature_mask: FeatureMask) -> None:
        """Explain one row of zeros, in evaluation mode: a check of methods with rules."""
        training, row = model.training, zero_row(model)
        try:
            self.attribute(MaskedModel(model.eval(), feature_mask, row, row), 0)
        finally:
            model.train(training)

    @abstractmethod
    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """The attributions (B, P) of the P features of each row.

        Args:
            view: B rows with their baselines, and the features.
            seed: of a sampled method; a row's draws do not depend on the other rows.

        Raises:
            ValueError: the method cannot explain this model, and why.
        """
