"""What the stages hand to each other: frozen dataclasses, each one file of a run directory.

Tensors lie in safetensors, tables in parquet or CSV, facts in JSON. Nothing here depends on the
time of day or on where the directory lies, so equal runs give equal files, but for the seconds that
the methods of an explanation take, and both models.
"""

from glassrec.artifacts.attributions import AttributionFile, Attributions
from glassrec.artifacts.base import Artifact
from glassrec.artifacts.certificate import Certificate, CertifiedLayer, Gone
from glassrec.artifacts.explanation import Explanation
from glassrec.artifacts.plain import Binary, Facts, Metrics, Picture, Table, Text
from glassrec.artifacts.plan import LayerCut, PrunePlan
from glassrec.artifacts.tensors import Candidates, Weights, digest

__all__ = [
    "Artifact",
    "AttributionFile",
    "Attributions",
    "Binary",
    "Candidates",
    "Certificate",
    "CertifiedLayer",
    "Explanation",
    "Facts",
    "Gone",
    "LayerCut",
    "Metrics",
    "Picture",
    "PrunePlan",
    "Table",
    "Text",
    "Weights",
    "digest",
]
