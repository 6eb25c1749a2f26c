"""Prunable layers, and the affine maps between them.

A `PrunableLayer` gives the activations (B, U) of its neurons, can name them, and can be narrowed to
some of them: the constants of pruned ones are folded into the bias of its consumers. Widths are
read from the weights on loading, so a pruned checkpoint loads like any other.
"""

from glassrec.models.layers.affine import Affine, Consumer, Output, Total, task_biases
from glassrec.models.layers.attention import Attention, StepwiseHidden
from glassrec.models.layers.folding import activations
from glassrec.models.layers.prunable import PrunableLayer
from glassrec.models.layers.tower import (
    Activation,
    Dimensions,
    Dropout,
    Hidden,
    Product,
    Tower,
    over_positions,
)

__all__ = [
    "Activation",
    "Affine",
    "Attention",
    "Consumer",
    "Dimensions",
    "Dropout",
    "Hidden",
    "Output",
    "Product",
    "PrunableLayer",
    "StepwiseHidden",
    "Total",
    "Tower",
    "activations",
    "over_positions",
    "task_biases",
]
