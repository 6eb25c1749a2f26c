"""The report of one run, from its data to the certificate, for readers who did not run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from glassrec.artifacts.file_list import HISTORY, IMPORTANCE
from glassrec.report.blocks import Report, Section
from glassrec.report.explanation_sections import (
    importance_section,
    largest_effects,
    neurons_section,
)
from glassrec.report.formatting import fixed, format_value, metric_name, metric_text, percent, whole
from glassrec.report.glossary import TERMS, linked, used_terms
from glassrec.report.html import render, texts
from glassrec.report.pruning_section import cost_change, pruning_section, test_metrics
from glassrec.report.run_record import RunRecord, neuron_totals, pruned_share
from glassrec.report.training_sections import (
    class_name,
    data_section,
    model_section,
    reproduction_section,
    source_name,
    training_section,
)
from glassrec.spelling import counted, listed

MEANINGS: dict[str, Callable[[float], str]] = {
    "auroc": lambda v: (
        "of two test rows, one of label 1 and one of label 0, the model scores the first one "
        f"higher in {percent(v)} of cases (AUROC; 50 % is chance)"
    ),
    "hr@10": lambda v: (
        f"in {percent(v)} of the test lists the held-out item is among the first ten (HR@10)"
    ),
    "rmse": lambda v: f"the RMSE of the estimates on the test rows is {metric_text('rmse', v)}",
    "recall@10": lambda v: (
        f"{percent(v)} of a user's test items are among the first ten of all items (recall@10)"
    ),
}
"""The meaning of the value of a metric."""

REASONS: dict[str, str] = texts("reasons")
"""Why neurons are pruned, by guarantee."""


def page(run: RunRecord, descriptions: Mapping[str, str]) -> str:
    """The report as one HTML file.

    Args:
        run: the record of the run.
        descriptions: of the model and of the split, from their docstrings.
    """
    return render(
        "report/run_report.html.j2",
        report=report(run, descriptions),
        linked=linked,
        meanings={term.lower(): meaning for term, meaning in TERMS.items()},
        ids={term.lower(): f"term-{number}" for number, term in enumerate(TERMS)},
        version=run.provenance.get("glassrec", ""),
    )


def report(run: RunRecord, descriptions: Mapping[str, str]) -> Report:
    """The report; a stage that was not run has no section."""
    found: list[Section | None] = [
        data_section(run, descriptions),
        model_section(run, descriptions),
        training_section(run),
        importance_section(run),
        neurons_section(run),
        pruning_section(run),
        reproduction_section(run),
    ]
    sections = [section for section in found if section is not None]
    lines, numbers = [*summary(run)], [*tiles(run)]
    texts = [*lines, *(label for _, label in numbers)]
    for section in sections:
        texts += [section.finding, *_texts(section.blocks)]
    return Report(
        title=f"{class_name(run.config['model'])} on {source_name(run)}",
        lead=f"One run with seed {run.config['seed']}, from its data to the certificate.",
        summary=lines,
        tiles=numbers,
        sections=sections,
        glossary=[*used_terms(texts)],
    )


def _texts(blocks: object) -> Iterator[str]:
    """All text of some blocks, folded ones included."""
    if isinstance(blocks, str):
        yield blocks
    elif isinstance(blocks, (list, tuple)):
        for block in blocks:
            yield from _texts(block)
    elif hasattr(blocks, "__dataclass_fields__"):
        yield from _texts([*vars(blocks).values()])


def summary(run: RunRecord) -> Iterator[str]:
    """Four or five sentences."""
    yield _trained(run)
    for name in _main_metrics(run):
        yield _quality(run, name)
    if run.explanation is not None and len(run.rows(IMPORTANCE)):
        yield largest_effects(run)
    yield from _pruned(run)


def tiles(run: RunRecord) -> Iterator[tuple[str, str]]:
    """The main numbers, each with its label."""
    metrics, certificate = run.metrics, run.certificate
    for name in _main_metrics(run):
        yield metric_text(name, metrics[f"test/{name}"]), f"{metric_name(name)} on the test split"
    if "parameters" in metrics:
        yield whole(metrics["parameters"]), "parameters as trained"
    if certificate is not None:
        yield " of ".join(map(whole, neuron_totals(certificate))), "neurons pruned"
        for name, label in {"parameters": "parameters", "flops": "FLOPs"}.items():
            if (change := cost_change(run, name)) and neuron_totals(certificate)[0]:
                yield change, f"{label} by pruning"
        yield whole(certificate.rows_changed), "rows whose prediction changed"


def _main_metrics(run: RunRecord) -> list[str]:
    first: dict[str, str] = {}
    for name in test_metrics(run):
        first.setdefault(name.rpartition("/")[0], name)
    return [*first.values()]


def _trained(run: RunRecord) -> str:
    history, data = run.rows(HISTORY), run.data
    epochs = int((history["epoch"] > 0).sum()) if len(history) else 0  # epoch 0 is the start
    start = f"The model, {class_name(run.config['model'])}, was trained for "
    start += counted(epochs, "epoch") if epochs else "no epoch"
    if data is None:
        return f"{start} on {source_name(run)}."
    tasks = listed(task["name"] for task in data["tasks"])
    return (
        f"{start} on {whole(data['rows']['train'])} rows of {source_name(run)} to predict {tasks}."
    )


def _quality(run: RunRecord, name: str) -> str:
    task, _, last = name.rpartition("/")
    value = run.metrics[f"test/{name}"]
    default = f"{metric_name(last)} on the test split is {fixed(value)}"
    text = MEANINGS[last](value) if last in MEANINGS else default
    low, high = (run.metrics.get(f"test/{name}_{end}") for end in ("low", "high"))
    if low is not None and high is not None:
        text += f"; the 95 % interval is {percent(low)} to {percent(high)}"
    return f"For {task}, {text}." if task else f"{text[0].upper()}{text[1:]}."


def _pruned(run: RunRecord) -> Iterator[str]:
    certificate = run.certificate
    if certificate is None:
        return
    pruned, before = neuron_totals(certificate)
    if not pruned:
        yield "No neuron was pruned."
        return
    rows, changed = sum(certificate.rows.values()), certificate.rows_changed
    reason = REASONS[certificate.level].format(rows=whole(rows))
    share = percent(pruned_share(certificate))
    yield f"{whole(pruned)} of its {whole(before)} neurons ({share}) were pruned: {reason}."
    text = "No prediction changes beyond rounding"
    if changed:
        largest = format_value(certificate.max_abs_logit_difference)
        share = percent(changed / rows)
        text = f"{share} of the predictions change, by at most {largest} in the logit"
    labels = {"parameters": "parameters", "flops": "FLOPs per row"}
    smaller = [
        f"{label} {change}"
        for name, label in labels.items()
        if (change := cost_change(run, name)).startswith("−")
    ]
    yield f"{text}, and the model is smaller: {' and '.join(smaller)}." if smaller else f"{text}."
