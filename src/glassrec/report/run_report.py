"""The report of one run, from its data to the certificate, for readers who did not run it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from glassrec.artifacts.file_list import IMPORTANCE
from glassrec.report.blocks import Report, Section
from glassrec.report.cut_table import cuts_section
from glassrec.report.effect_sections import (
    cost_change,
    importance_section,
    largest_effects,
    neurons_section,
    pruning_section,
    test_metrics,
)
from glassrec.report.formatting import fixed, format_value, metric_name, metric_text, percent, whole
from glassrec.report.html import render, texts
from glassrec.report.run_record import RunRecord, neuron_totals, pruned_share
from glassrec.report.training_sections import (
    class_name,
    data_section,
    is_imported,
    model_section,
    reproduction_section,
    source_name,
    training_section,
)
from glassrec.spelling import counted, listed

SIZES = {"parameters": "parameters", "flops": "FLOPs per row"}

NO_FIGURES = " Its figures are drawn by: glassrec evaluate run.dir=THIS_FOLDER figures=true"

MEANINGS: dict[str, str] = texts("meanings")
"""The meaning of the value of a metric."""

REASONS: dict[str, str] = texts("reasons")
"""Why neurons are pruned, by guarantee."""

TERMS: dict[str, str] = texts("glossary")
"""The definition of each term, in the order in which they are listed."""

ANY_TERM = re.compile(
    rf"(?<![\w/@])({'|'.join(map(re.escape, sorted(TERMS, key=len, reverse=True)))})(?!\w)",
    re.IGNORECASE,
)


def page(run: RunRecord, descriptions: Mapping[str, str]) -> str:
    """The report as one HTML file, with `descriptions` of the model and of the split."""
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
        cuts_section(run),
        reproduction_section(run),
    ]
    sections = [section for section in found if section is not None]
    lines, numbers = [*summary(run)], [*tiles(run)]
    shown = [lines, [label for _, label in numbers]]
    shown += [[section.finding, *_texts(section.blocks)] for section in sections]
    found_terms = {term for text in chain(*shown) for _, term in linked(text)}
    kind = "One run" if run.run is None else f"The cut {run.path.name} of a run"
    return Report(
        title=f"{class_name(run.config['model'])} on {source_name(run)}",
        lead=f"{kind} with seed {run.config['seed']}, from its data to the certificate."
        + ("" if run.figures else NO_FIGURES),
        summary=lines,
        tiles=numbers,
        sections=sections,
        glossary=[(term, text) for term, text in TERMS.items() if term.lower() in found_terms],
    )


def linked(text: str) -> Iterator[tuple[str, str]]:
    """The pieces of a text, each with its term of the glossary, or with nothing."""
    last = 0
    for match in ANY_TERM.finditer(text):
        yield text[last : match.start()], ""
        yield match[0], match[0].lower()
        last = match.end()
    yield text[last:], ""


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
    return test_metrics(run)[::2]  # the first of two for each task


def _trained(run: RunRecord) -> str:
    data, source, epochs = run.data, source_name(run), counted(run.epochs or 0, "epoch")
    length = epochs if run.epochs else "no epoch"
    start = f"The model, {class_name(run.config['model'])}, was trained for {length}"
    if is_imported(run):
        return f"The model, {class_name(run.config['model'])}, was trained elsewhere."
    if data is None:
        return f"{start} on {source}."
    tasks = listed(task["name"] for task in data["tasks"])
    return f"{start} on {whole(data['rows']['train'])} rows of {source} to predict {tasks}."


def _quality(run: RunRecord, name: str) -> str:
    task, _, last = name.rpartition("/")
    value = run.metrics[f"test/{name}"]
    forms = {"percent": percent(value), "value": metric_text(last, value), "fixed": fixed(value)}
    text = MEANINGS.get(last, MEANINGS["default"]).format(name=metric_name(last), **forms)
    low, high = (run.metrics.get(f"test/{name}_{end}") for end in ("low", "high"))
    if low is not None and high is not None:
        form = percent if "{percent}" in MEANINGS.get(last, "") else fixed
        text += f"; the 95 % interval is {form(low)} to {form(high)}"
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
    changes = {label: cost_change(run, name) for name, label in SIZES.items()}
    smaller = [f"{label} {change}" for label, change in changes.items() if change.startswith("−")]
    yield f"{text}, and the model is smaller: {' and '.join(smaller)}." if smaller else f"{text}."
