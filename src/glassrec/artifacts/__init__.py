"""The files of a run: the list of them (`file_list`), and their contents as frozen dataclasses.

Nothing here depends on the time of day or on the place of the directory: equal runs give equal
files, except for measured times.
"""

from glassrec.artifacts.attributions import AttributionFile, Attributions, Explanation
from glassrec.artifacts.file_list import File
from glassrec.artifacts.formats import Artifact, Binary, Facts, Metrics, Picture, StoredTable, Text
from glassrec.artifacts.pruning import (
    AllPairs,
    Certificate,
    CertifiedLayer,
    ChangeBound,
    LayerPlan,
    PrunedNeurons,
    PrunePlan,
)
from glassrec.artifacts.tensors import Tensors, Weights, digest
