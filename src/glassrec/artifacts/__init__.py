"""The files of a run: the list of them (`table`), and their contents as frozen dataclasses.

Tensors lie in safetensors, tables in parquet or CSV, facts in JSON. Nothing here depends on the
time of day or on the place of the directory, so that equal runs give equal files, except for
measured times.
"""

from glassrec.artifacts.attributions import AttributionFile, Attributions, Explanation
from glassrec.artifacts.file_list import File
from glassrec.artifacts.formats import Artifact, Binary, Facts, Metrics, Picture, StoredTable, Text
from glassrec.artifacts.pruning import (
    Certificate,
    CertifiedLayer,
    LayerPlan,
    PrunedNeurons,
    PrunePlan,
)
from glassrec.artifacts.tensors import Candidates, Tensors, Weights, digest

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
    "File",
    "LayerPlan",
    "Metrics",
    "Picture",
    "PrunePlan",
    "PrunedNeurons",
    "StoredTable",
    "Tensors",
    "Text",
    "Weights",
    "digest",
]
