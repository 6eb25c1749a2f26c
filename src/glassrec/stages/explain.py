"""Explain: which inputs moved the predictions, through which neurons, and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from glassrec.artifacts import (
    AttributionFile,
    Attributions,
    Explanation,
    Metrics,
    Picture,
    Table,
)
from glassrec.explain import tables
from glassrec.explain.comparison import Comparison
from glassrec.explain.contrast import compare_selections
from glassrec.explain.explainer import Explainer
from glassrec.explain.selection import Selection
from glassrec.explain.statistics import Spread
from glassrec.progress import told
from glassrec.run import replacing
from glassrec.stages.explain_figures import draw
from glassrec.stages.stage import Stage
from glassrec.stages.train import Training

SAMPLE = 2000
"""Rows, at most, that pictures show one by one."""
