"""What the model has learnt from, and how it was trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from glassrec.data.dataset_metadata import repeats_line
from glassrec.metrics.metadata import best_index
from glassrec.report.formatting import fixed, percent, whole
from glassrec.report.story.found import Found
from glassrec.report.story.parts import Bar, Bars, Listing, More, Part, Section, Sentences, Shown
from glassrec.report.story.words import metric, written
from glassrec.spelling import listed

SPLITS = {"train": "training", "val": "validation", "test": "test"}

FEW = 12
"""Columns that are listed without being asked for."""


def data(found: Found) -> Section | None:
    """Rows, tasks and columns."""
    facts = found.data
    if facts is None:
        return None
    columns = _columns(facts)
    parts: list[Part] = [_splits(facts), Sentences([*_tasks(facts), *_how(found, facts)])]
    few = len(facts["fields"]) <= FEW
    more = More("How often each field has a value that training does not know", [columns])
    known = [columns if few else more] if facts["fields"] else []
    truth = [_truth(facts["truth"])] if facts["truth"] else []
    parts = [*parts, *known, *_audit(facts), *truth]
    return Section("data", "The data", _rows(found, facts), parts)


def _rows(found: Found, facts: Mapping[str, Any]) -> str:
    """What the rows are for."""
    train, val, test = (whole(facts["rows"][name]) for name in SPLITS)
    lists = facts["lists"]
    if "test" in lists:
        each = facts["rows"]["test"] // lists["test"]
        return (
            f"{train} rows of {found.source} train the model. {whole(lists['val'])} lists of "
            f"{each} items choose the epoch that is kept, and {whole(lists['test'])} others test "
            "it at the end: in each, one item is what the user really chose next."
        )
    return (
        f"{train} rows of {found.source} train the model, {val} choose the epoch that is kept, "
        f"and {test}, which nothing is chosen by, test it at the end."
    )


def _tasks(facts: Mapping[str, Any]) -> Iterator[str]:
    """What is to be learnt."""
    for task in facts["tasks"]:
        train, test = task["mean"]["train"], task["mean"]["test"]
        if facts["negatives"] is not None:
            yield (
                f"The task {task['name']}: will the user choose the item? Training knows only what "
                f"was chosen; in each epoch {facts['negatives']} items that were not are drawn "
                "beside each that was."
            )
        elif task["kind"] == "click":
            yield (
                f"The task {task['name']}: yes or no. It is yes in {percent(train)} of the "
                f"training rows and in {percent(test)} of the test rows."
            )
        elif task["kind"] == "rating":
            yield (
                f"The task {task['name']}: a number, {fixed(train, 2)} on average in the training "
                f"rows and {fixed(test, 2)} in the test rows."
            )
        else:
            yield f"The task {task['name']}: to find the row's item among all items."


def _how(found: Found, facts: Mapping[str, Any]) -> Iterator[str]:
    """How it was split, and what else a row has."""
    if split := found.words.get("split"):
        yield f"How it was split: {split}"
    if facts["dense"]:
        yield f"{len(facts['dense'])} columns are numbers: {listed(facts['dense'])}."
    if history := facts["history"]:
        yield (
            f"A row shows up to {history['length']} earlier items of its user, in the training "
            f"rows {fixed(history['items']['train'], 1)} on average."
        )
    if line := repeats_line(facts):
        yield f"{line}, so that a model that only remembers finds them."
    files = [*found.provenance.get("data", {})]
    yield f"It was read from {listed(files)}." if files else "It is generated, from settings alone."


def _splits(facts: Mapping[str, Any]) -> Listing:
    tasks = [] if facts["negatives"] is not None else facts["tasks"]
    tasks = [task for task in tasks if task["kind"] != "retrieval"]
    rows = []
    for name, called in SPLITS.items():
        lists = [whole(facts["lists"].get(name))] if facts["lists"] else []
        means = [fixed(task["mean"][name], 3) for task in tasks]
        rows.append([called, whole(facts["rows"][name]), *lists, *means])
    heads = [*(["lists"] if facts["lists"] else []), *(f"mean {task['name']}" for task in tasks)]
    return Listing("Rows", ["split", "rows", *heads], rows)


def _columns(facts: Mapping[str, Any]) -> Listing:
    rows = []
    for field in facts["fields"]:
        name = field["name"] if field["per_row"] == 1 else f"{field['name']} (several a row)"
        unseen = [percent(field["unseen"][split]) for split in ("val", "test")]
        rows.append([name, whole(field["values"]), *unseen])
    heads = ["field", "values in training", "unknown in validation", "unknown in test"]
    return Listing("Fields", heads, rows)


def _audit(facts: Mapping[str, Any]) -> Iterator[Part]:
    """What the audit of the raw rows found, anomalies first."""
    if facts.get("audit") is None:
        return
    findings = sorted(facts["audit"]["findings"], key=lambda found: not found["anomaly"])
    rows = [
        [found["check"], "anomaly" if found["anomaly"] else "", found["message"]]
        for found in findings
    ]
    title = f"Audit of {whole(facts['audit']['rows'])} raw rows"
    yield (
        Listing(title, ["check", "", "finding"], rows, texts=3)
        if rows
        else Sentences([f"{title}: nothing unusual was found."])
    )


def _truth(truth: Mapping[str, Any]) -> More:
    """The effects that are known."""
    rows = [
        [" × ".join(names), fixed(strength, 2)]
        for *names, strength in [*truth["main"], *truth["pairs"]]
    ]
    heads = ["effect", "standard deviation, in logits"]
    return More(
        "What really acts: these data are generated, so it is known",
        [Listing("True effects; all other columns do nothing", heads, rows)],
    )


def training(found: Found) -> Section | None:
    """The learning curve, and which epoch is kept."""
    history = found.table("history")
    if not len(history) or found.data is None:
        return None
    monitor = found.data["monitor"]
    place = best_index(monitor, history[monitor])
    kept, count = int(history["epoch"].iloc[place]), int((history["epoch"] > 0).sum())
    value = written(monitor, history[monitor].iloc[place])
    name = metric(monitor)
    if kept == 0:
        said = (
            f"The weights that training started from are kept: their {name} on the validation "
            f"split, {value}, is the best, and {count} epoch{'s' * (count > 1)} made it no better."
        )
    elif count == 1:
        said = f"One epoch was trained; its {name} on the validation split is {value}."
    elif kept == count:
        said = (
            f"The last of {count} epochs is kept: its {name} on the validation split, {value}, is "
            "the best so far, so more epochs may do better."
        )
    else:
        said = (
            f"Epoch {kept} of {count} is kept: its {name} on the validation split, {value}, is "
            "the best, and what came after it was no better."
        )
    return Section("training", "Training", said, [*_curve(found), _epochs(found)])


def _curve(found: Found) -> Iterator[Shown]:
    if "learning_curve" in found.pictures:
        yield Shown(
            found.pictures["learning_curve"],
            "two lines over the epochs: the training loss, and the metric of the validation split",
            "The loss on the training rows should fall; the metric on the validation rows, which "
            "training does not see, says when to stop. The ringed epoch is kept.",
        )


def _epochs(found: Found) -> More:
    history = found.table("history")
    names = [name for name in map(str, history) if name != "epoch"]
    rows = [
        [whole(row["epoch"]), *(fixed(row[name]) for name in names)]
        for _, row in history.iterrows()
    ]
    heads = ["epoch", *(name if "/" not in name else metric(name) for name in names)]
    return More("All epochs", [Listing("Training loss, and the validation split", heads, rows)])


def model(found: Found) -> Section | None:
    """What was trained: its layers and its size."""
    plan, count = found.plan, found.numbers.get("parameters")
    if count is None:
        return None
    table = count - found.numbers["tower_parameters"]
    said = found.words.get("model", "")
    said = f"{said} It has {whole(count)} parameters, {percent(table / count)} of them in the "
    said += "table of embeddings"
    if plan is None or not plan.layers:
        return Section("model", f"The model: {found.model}", f"{said.strip()}.", [])
    units = sum(cut.built for cut in plan.layers.values())
    said += f", and {whole(units)} neurons, in {len(plan.layers)} layers, that could be cut."
    widest = max(cut.built for cut in plan.layers.values())
    bars = [Bar(n, cut.built / widest, whole(cut.built)) for n, cut in plan.layers.items()]
    caption = "Layers whose neurons can be cut, from the input to the output, as they were built."
    layers = Bars("Neurons by layer", bars, caption)
    return Section("model", f"The model: {found.model}", said.strip(), [layers])
