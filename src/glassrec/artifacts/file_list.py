"""The list of files: every file of a run, its content, its stage, its inputs and its settings.

A file is up to date while three things are as they were: the experiment (data, model, training) and
the version of Glassrec, on which every file depends; its `inputs`, other files of this list; and
its `settings`. Everything that makes, checks, shows, compares, tracks or documents the files of a
run reads this list. Nothing heavy is imported: the command line reads it, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from glassrec.artifacts.attributions import AttributionFile, Explanation
from glassrec.artifacts.formats import Artifact, Binary, Facts, Metrics, Picture, StoredTable, Text
from glassrec.artifacts.pruning import Certificate, PrunePlan
from glassrec.artifacts.tensors import Tensors, Weights

A = TypeVar("A", bound=Artifact)

STAGES = ("train", "explain", "prune", "evaluate")
"""The stages of a run in their order; `export` may take the place of the last one."""


@dataclass(frozen=True)
class File(Generic[A]):
    """One row of the list.

    Args:
        name: relative to the directory of the run; `{layer}` stands for a part that varies.
        content: what `load` gives and `save` takes.
        stage: makes it.
        about: what is in it, for the documentation.
        inputs: the files that it is made from.
        settings: the settings that it depends on beyond the experiment: `explain.task`, or
            `explain` for all of a group.
        together: whether several processes share the work; if not, the first one makes it.
    """

    name: str
    content: type[A]
    stage: str
    about: str
    inputs: tuple[File[Any], ...] = ()
    settings: tuple[str, ...] = ()
    together: bool = False

    def of(self, **parts: object) -> File[A]:
        """The file with the parts of its name that vary."""
        return replace(self, name=self.name.format(**parts))

    def matches(self, name: str) -> bool:
        """Whether a file of that name is this one, whatever the parts that vary."""
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(self.name))
        return re.fullmatch(pattern, name) is not None


def _of(group: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{group}.{name}" for name in names)


# fmt: off
# --- train ----------------------------------------------------------------------------------------

ENCODER = File("encoder.json", Facts, "train",
    "scalers, roles of columns and separators, which make tensors of raw values")
VOCABULARY = File("vocabulary.parquet", StoredTable, "train",
    "the raw value behind each id")
ROW_KEYS = File("rows.parquet", StoredTable, "train",
    "a key of each row and its split, by which leaks are found")
CATALOGUE = File("catalogue.parquet", StoredTable, "train",
    "each item: display name, training rows, raw side columns; those with an id first, by id",
    (ENCODER, VOCABULARY))
INTERACTIONS = File("interactions.parquet", StoredTable, "train",
    "user, item, time and outcome of each row; a user's lie together, oldest first",
    (ENCODER, VOCABULARY))
LAST_ROWS = File("last_rows.parquet", StoredTable, "train",
    "each user's last row, without the columns of the item", (ENCODER, VOCABULARY))
SAMPLE_ROWS = File("samples.parquet", StoredTable, "train",
    "up to 256 raw validation rows, for the golden rows of an exported bundle",
    (ENCODER, VOCABULARY))
DATA = File("data.json", Facts, "train",
    "rows, columns, anomalies, and the metric that chooses the epoch")
HISTORY = File("history.csv", StoredTable, "train",
    "loss and validation metrics, one row for each epoch", together=True)
WEIGHTS = File("weights.safetensors", Weights, "train",
    "the parameters of the best epoch, with their origin", together=True)
FINISHED = File("finished.ckpt", Binary, "train",
    "weights and optimisers after the last epoch, for more epochs; with trainer.keep_checkpoint",
    (WEIGHTS,))

# --- explain --------------------------------------------------------------------------------------

_ROWS = _of("explain", "task", "baseline", "select")
_FEATURES = (*_ROWS, *_of("explain", "granularity", "groups"))
_METHOD = (*_FEATURES, *_of("explain", "method", "tolerance"))
_JUDGED = (*_METHOD, *_of("explain", "compare", "faithfulness"))
_OTHER_METHOD = tuple("explain.reference" if n == "explain.select" else n for n in _METHOD)

BASELINE = File("baseline.safetensors", Tensors, "explain",
    "the embedded rows that explanations compare with: dense, fields, history, steps",
    (WEIGHTS,), ("explain.baseline",))
ATTRIBUTIONS = File("attributions.parquet", AttributionFile, "explain",
    "the attribution of each feature to each logit; user, item and line of each row",
    (WEIGHTS,), _METHOD, together=True)
EXPLANATION = File("explanation.json", Explanation, "explain",
    "the method, the rows, and how far the explanation can be trusted",
    (ATTRIBUTIONS,), (*_METHOD, *_of("explain", "neurons", "faithfulness")))
IMPORTANCE = File("importance.parquet", StoredTable, "explain",
    "for each feature the statistics of its attributions, the test against chance, and attention",
    (ATTRIBUTIONS,), (*_METHOD, "explain.significance"))
NEURONS = File("neurons.parquet", StoredTable, "explain",
    "for each neuron its layer, its position, its number (`unit`) and its name as the layer was "
    "built, and the statistics of its conductance: mean_abs, max_abs, mean, cancellation, "
    "zero_share",
    (WEIGHTS,), (*_ROWS, "explain.neurons"), together=True)
COMPLETENESS = File("completeness.parquet", StoredTable, "explain",
    "for each layer, whether all flow passes it, and the completeness error of its conductance",
    (WEIGHTS,), (*_ROWS, "explain.faithfulness"))
PAIRS = File("pairs.parquet", StoredTable, "explain",
    "for each pair of features (first, second) the statistics of its interaction, and weight_norm, "
    "the strength that the model's own weights give it, where there is one",
    (WEIGHTS,), (*_FEATURES, "explain.pair_rows"))
METHODS = File("methods.parquet", StoredTable, "explain",
    "for each method its completeness error, faithfulness, stability and time", (WEIGHTS,), _JUDGED)
FAITHFULNESS = File("curves.parquet", StoredTable, "explain",
    "the deletion and insertion curves of each method", (WEIGHTS,), _JUDGED)
AGREEMENT = File("agreement.parquet", StoredTable, "explain",
    "the rank correlation of every two methods", (WEIGHTS,), _JUDGED)
REMOVALS = File("removals.parquet", StoredTable, "explain",
    "the share of the predictions that is left without a whole kind of inputs", (WEIGHTS,), _ROWS)
TRUTH = File("truth.json", Metrics, "explain",
    "how well the explanation finds the effects, where the ground truth is known",
    (WEIGHTS, IMPORTANCE, PAIRS), _FEATURES)
OTHER_ATTRIBUTIONS = File("attributions_against.parquet", AttributionFile, "explain",
    "the attributions of the reference selection", (WEIGHTS,), _OTHER_METHOD, together=True)
OTHER_EXPLANATION = File("explanation_against.json", Explanation, "explain",
    "the facts of the explanation of the reference selection",
    (ATTRIBUTIONS, OTHER_ATTRIBUTIONS), (*_OTHER_METHOD, "explain.neurons"))
SELECTIONS = File("selections.parquet", StoredTable, "explain",
    "for each feature its importance in both selections, and the difference",
    (ATTRIBUTIONS, OTHER_ATTRIBUTIONS))

# --- prune ----------------------------------------------------------------------------------------

_PLANNED = _of("prune", "level", "layers", "score", "share", "budget_unit",
               "max_metric_drop", "rounds", "epochs", "fold", "rows", "max_enumerated_inputs",
               "chunk")

PLAN = File("plan.json", PrunePlan, "prune",
    "the neurons to prune and the constants that replace them", (WEIGHTS, NEURONS), _PLANNED,
    together=True)
PRUNED = File("pruned.safetensors", Weights, "prune",
    "the parameters of the small model", (WEIGHTS, PLAN), together=True)
INT8 = File("int8.onnx", Binary, "prune",
    "the small model in int8, for ONNX runtimes (prune.quantize)", (PRUNED,), ("prune.quantize",),
    together=True)
CERTIFICATE = File("certificate.json", Certificate, "prune",
    "the comparison of the large and the small model on all rows", (WEIGHTS, PLAN, PRUNED),
    ("prune.bound_boxes",), together=True)
CERTIFICATE_TEXT = File("certificate.md", Text, "prune",
    "the certificate for people", (CERTIFICATE,))
PRUNING_CURVES = File("pruning_curves.parquet", StoredTable, "prune",
    "quality against the share that is pruned, by importance score",
    (WEIGHTS, NEURONS), _of("prune", "curves", "layers", "rows", "chunk"))

ROUND_PLAN = replace(PLAN, name="plan_{round}.json", about="the plan of an earlier round")
ROUND_PRUNED = replace(
    PRUNED, name="pruned_{round}.safetensors", about="the model after that round"
)

# --- evaluate, export -----------------------------------------------------------------------------

METRICS = File("metrics.json", Metrics, "evaluate",
    "quality and cost of both models, and the changes between them",
    (WEIGHTS, EXPLANATION, NEURONS, CERTIFICATE), _of("evaluation", "k", "extra", "full_ranking"),
    together=True)
SEGMENTS = File("segments.parquet", StoredTable, "evaluate",
    "the quality of both models by segment of the test split (evaluation.segments)",
    (WEIGHTS, CERTIFICATE), ("evaluation",))
LATENCY = File("latency.json", Metrics, "evaluate",
    "inference times of both models", (WEIGHTS, PRUNED))

PROGRAM = File("model.pt2", Binary, "export",
    "the small model for PyTorch alone, read by torch.export.load", (PRUNED,))
PROGRAM_FACTS = File("model.json", Facts, "export",
    "the inputs and the outputs of the exported model", (PRUNED,))
ONNX = File("model.onnx", Binary, "export", "the same for ONNX runtimes", (PRUNED,))
DLRM_CHECKPOINT = File("dlrm.pt", Binary, "export", "a DLRM for facebookresearch/dlrm", (PRUNED,))

BUNDLE = "bundle/"
"""The folder that scores raw rows without Glassrec."""

BUNDLE_PROGRAM = File(f"{BUNDLE}model.pt2", Binary, "export", "a copy for score.py", (PROGRAM,))
BUNDLE_ENCODER = File(f"{BUNDLE}encoder.json", Facts, "export",
    "the values, scalers and roles that make tensors of raw rows, for score.py",
    (ENCODER, VOCABULARY))
BUNDLE_VOCABULARY = File(f"{BUNDLE}vocabulary.parquet", StoredTable, "export",
    "the same values as a table, for other programs", (VOCABULARY,))
SCORE = File(f"{BUNDLE}score.py", Text, "export", "scores raw rows with torch and pandas alone")
BUNDLE_ONNX = File(f"{BUNDLE}model.onnx", Binary, "export",
    "the small model of raw texts and numbers, for ONNX runtimes", (ONNX, ENCODER, VOCABULARY))
BUNDLE_INT8 = File(f"{BUNDLE}int8.onnx", Binary, "export",
    "the small model of raw texts and numbers in int8", (INT8, ENCODER, VOCABULARY))
SCORE_ONNX = File(f"{BUNDLE}score_onnx.py", Text, "export",
    "scores raw rows with onnxruntime and pandas", (BUNDLE_ONNX,))
GOLDEN = File(f"{BUNDLE}golden.csv", Text, "export",
    "up to 256 raw rows with their logits and predictions",
    (PRUNED, ENCODER, VOCABULARY, SAMPLE_ROWS))
MANIFEST = File(f"{BUNDLE}manifest.json", Facts, "export",
    "the sha256 of the files beside the scripts",
    (BUNDLE_PROGRAM, BUNDLE_ENCODER, BUNDLE_VOCABULARY, BUNDLE_ONNX, BUNDLE_INT8,
     GOLDEN))

# --- figures --------------------------------------------------------------------------------------

CUTS_TABLE = File("cuts/cuts.csv", StoredTable, "evaluate",
    "each cut: its settings, quality with intervals, size and latency", (WEIGHTS,))

FIGURES = "figures/"
"""The folder of the figures."""


def _figure(name: str, stage: str, about: str, *inputs: File[Any]) -> File[Picture]:
    return File(f"{FIGURES}{name}.png", Picture, stage, about, inputs)


LEARNING_CURVE = _figure("learning_curve", "train",
    "loss and validation metrics by epoch", HISTORY, DATA)
FEATURE_IMPORTANCE = _figure("feature_importance", "explain",
    "the features by the size of their attributions", IMPORTANCE, EXPLANATION)
WATERFALLS = _figure("waterfalls", "explain",
    "the attributions of three rows, with their values", ATTRIBUTIONS, EXPLANATION)
BEESWARM = _figure("beeswarm", "explain",
    "the attributions of many rows, coloured by the values", ATTRIBUTIONS, EXPLANATION)
NUMERIC_EFFECTS = _figure("numeric_effects", "explain",
    "the attributions over the values of numeric features", ATTRIBUTIONS, EXPLANATION)
CATEGORY_EFFECTS = _figure("category_effects", "explain",
    "the mean attribution of each category and item, by name", ATTRIBUTIONS, EXPLANATION)
TIME_STEPS = _figure("time_steps", "explain",
    "the attributions of the steps of the history", ATTRIBUTIONS, IMPORTANCE, EXPLANATION)
REMOVED_KINDS = _figure("removals", "explain",
    "what is left without a kind of inputs", REMOVALS, EXPLANATION)
NEURON_IMPORTANCE = _figure("neuron_importance", "explain",
    "the conductance of all neurons, by layer", NEURONS, EXPLANATION)
LAYER_NEURONS = _figure("neurons_{layer}", "explain",
    "the conductance of the neurons of one layer", NEURONS, EXPLANATION)
METHODS_TABLE = _figure("methods", "explain",
    "the methods side by side", METHODS, EXPLANATION)
FAITHFULNESS_CURVES = _figure("faithfulness", "explain",
    "the deletion and insertion curves", FAITHFULNESS, EXPLANATION)
METHODS_AGREEMENT = _figure("agreement", "explain",
    "the agreement of every two methods", AGREEMENT, EXPLANATION)
FEATURE_PAIRS = _figure("feature_pairs", "explain",
    "the interactions of pairs of features", PAIRS, EXPLANATION)
SELECTIONS_COMPARED = _figure("selections", "explain",
    "the features in both selections", SELECTIONS, EXPLANATION, OTHER_EXPLANATION)
CURVES_OF_PRUNING = _figure("pruning_curves", "prune",
    "quality against the share that is pruned", PRUNING_CURVES)
CUTS_COMPARED = _figure("cuts", "evaluate",
    "the quality of all cuts on validation and test", CUTS_TABLE)

# --- the report of all of it ----------------------------------------------------------------------

REPORT = File("report.html", Text, "evaluate",
    "the run on one page, with its figures",
    (DATA, HISTORY, EXPLANATION, IMPORTANCE, NEURONS, COMPLETENESS, PAIRS, METHODS, TRUTH, PLAN,
     CERTIFICATE, PRUNING_CURVES, METRICS, SEGMENTS, LATENCY, CUTS_TABLE),
    ("explain", "prune"))
"""Of its inputs it takes those that the run has, and all figures."""

FILES: tuple[File[Any], ...] = tuple(
    row for row in list(globals().values()) if isinstance(row, File)
)
"""All of them, in the order above."""

# fmt: on
# --- files that no stage makes --------------------------------------------------------------------

CONFIG = "config.yaml"
RECORD = "record.json"
PROVENANCE = "provenance.json"
STATUS = "status.json"
LOCK = ".lock"
CHECKPOINT = "training.ckpt"
TRACKER_STATE = "wandb.json"
SEEDS = "seeds.csv"

BESIDE = {
    CONFIG: "the settings that made the results",
    RECORD: "the sha256 of each file, and a key of what it was made from",
    PROVENANCE: "versions, commit, command, and the sha256 of the data",
    STATUS: "the stage, and whether it is running, finished, failed or stopped",
    LOCK: "held while a process works in the directory",
    CHECKPOINT: "where training continues after it was stopped",
    TRACKER_STATE: "what Weights & Biases has received",
    SEEDS: "beside the runs of several seeds: mean and standard deviation of every metric",
}
"""What these are for."""


def find(name: str) -> File[Any] | None:
    """The row of a file, by its name; None if there is none."""
    exact = (file for file in FILES if file.name == name)
    varying = (replace(file, name=name) for file in reversed(FILES) if file.matches(name))
    return next(exact, None) or next(varying, None)
