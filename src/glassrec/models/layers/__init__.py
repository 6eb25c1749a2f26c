"""The homes of prunable neurons, and the affine maps between them.

A `Layer` emits (B, U) activations of U units, can name them, and can be narrowed to some of them
for good: the weights that made a dropped unit go, and the constant that it emitted is folded into
the bias of whatever read it. Widths are read from the weights on loading, so a pruned checkpoint
loads like any other, and `Layer.units` keeps referring to the network as it was built.
"""

from glassrec.models.layers.home import Layer, activations
from glassrec.models.layers.readers import Affine, Consumer, Output, Total, task_biases
from glassrec.models.layers.tower import Hidden, Product, Tower

__all__ = [
    "Affine",
    "Consumer",
    "Hidden",
    "Layer",
    "Output",
    "Product",
    "Total",
    "Tower",
    "activations",
    "task_biases",
]
