"""Sections of a report about data, model and training, and how to reproduce the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glassrec.artifacts.file_list import CERTIFICATE, DATA, HISTORY, METRICS
from glassrec.config.user_modules import IMPORTED
from glassrec.data.dataset_metadata import repeats_line
from glassrec.metrics.metadata import best_index
from glassrec.report.blocks import (
    Bar,
    Bars,
    Block,
    Code,
    Details,
    FigurePart,
    Section,
    Sentences,
    TableBlock,
)
from glassrec.report.formatting import fixed, metric_name, metric_text, percent, whole
from glassrec.report.html import texts
from glassrec.report.run_record import RunRecord
from glassrec.run import flat, is_path
from glassrec.spelling import counted, listed

SPLITS = {"train": "training", "val": "validation", "test": "test"}

MAX_OPEN_FIELDS = 12
"""Fields up to which their table is not folded."""

RESULT_GROUPS = (
    "seed", "start", "data", "model", "objective", "optimizer", "table_optimizer", "trainer",
    "explain", "prune",
)  # fmt: skip
"""The settings that results depend on."""

NOT_VERSIONS = ("command", "data", "git_commit", "seed", "restored", "threads")
"""Entries of the provenance that are no versions."""

FIGURES: dict[str, dict[str, str]] = texts("figures")
"""Alternative text and caption of each figure."""


def figure_parts(run: RunRecord, *names: str) -> list[Block]:
    """The figures among `names` that the run has."""
    return [FigurePart(run.figures[n], **FIGURES[n]) for n in names if n in run.figures]


def class_name(node: Mapping[str, Any]) -> str:
    """The name of the class of a config node, or of the callable of the user's own."""
    return str(node.get("factory") or str(node["_target_"]).rpartition(".")[2])


def is_imported(run: RunRecord) -> bool:
    """Whether the model was trained elsewhere."""
    return str(run.config["model"]["_target_"]) == IMPORTED[0]


def source_name(run: RunRecord) -> str:
    """The name of the data: that of its file if it has one."""
    data = run.config["data"]
    return Path(data["path"]).name if data.get("path") else class_name(data)


def data_section(run: RunRecord, descriptions: Mapping[str, str]) -> Section | None:
    """Rows, tasks, fields, and the audit."""
    facts = run.data
    if facts is None:
        return None
    blocks: list[Block] = [
        _splits_table(facts), Sentences([*_tasks(facts), *_origin(run, facts, descriptions)])
    ]  # fmt: skip
    if any(field["values"] is not None for field in facts["fields"]):
        fields = _fields_table(facts)
        folded = Details("How often each field has a value that training does not have", [fields])
        blocks.append(fields if len(facts["fields"]) <= MAX_OPEN_FIELDS else folded)
    blocks += _audit(facts)
    if truth := facts["truth"]:
        effects = [*truth["main"], *truth["pairs"]]
        rows = [[" × ".join(names), fixed(strength, 2)] for *names, strength in effects]
        heads = ["effect", "standard deviation, in logits"]
        table = TableBlock("True effects; all other columns have none", heads, rows)
        blocks.append(Details("The ground truth of these synthetic data", [table]))
    every = f"{whole(sum(facts['rows'].values()))} rows of {source_name(run)}, in three splits."
    text = every if is_imported(run) else _rows(source_name(run), facts)
    return Section("data", "The data", text, blocks)


def _rows(source: str, facts: Mapping[str, Any]) -> str:
    train, val, test = (whole(facts["rows"][name]) for name in SPLITS)
    lists = facts["lists"]
    if "test" in lists:
        each = facts["rows"]["test"] // lists["test"]
        return (
            f"{train} rows of {source} train the model. {whole(lists['val'])} lists of {each} "
            f"items select the epoch, and {whole(lists['test'])} others are the test: each holds "
            "one item that the user really chose."
        )
    return (
        f"{train} rows of {source} train the model, {val} select the epoch, and {test} are the "
        "test split, on which nothing is selected."
    )


def _tasks(facts: Mapping[str, Any]) -> Iterator[str]:
    for task in facts["tasks"]:
        if not task["mean"]:
            yield "There are no labels, so that the quality of the predictions is not known."
            return
        train, test = task["mean"]["train"], task["mean"]["test"]
        if facts["negatives"] is not None:
            yield (
                f"Task {task['name']}: will the user choose the item? Training has positive rows "
                f"only; in each epoch {facts['negatives']} negatives are drawn for each of them."
            )
        elif task["kind"] == "click":
            yield (
                f"Task {task['name']}: yes or no; yes in {percent(train)} of the training rows and "
                f"in {percent(test)} of the test rows."
            )
        elif task["kind"] == "rating":
            yield (
                f"Task {task['name']}: a number, {fixed(train, 2)} on average in the training rows "
                f"and {fixed(test, 2)} in the test rows."
            )
        else:
            yield f"Task {task['name']}: find the row's item among all items."


def _origin(
    run: RunRecord, facts: Mapping[str, Any], descriptions: Mapping[str, str]
) -> Iterator[str]:
    if split := descriptions.get("split"):
        yield f"Split: {split}"
    if facts["dense"]:
        yield f"{counted(len(facts['dense']), 'numeric column')}: {listed(facts['dense'])}."
    if history := facts["history"]:
        yield (
            f"A row has up to {history['length']} earlier items of its user, in the training rows "
            f"{fixed(history['items']['train'], 1)} on average."
        )
    if line := repeats_line(facts):
        yield f"{line}, so that a model that only remembers finds them."
    files = [*run.provenance.get("data", {})]
    yield f"Read from {listed(files)}." if files else "Generated from the settings alone."


def _splits_table(facts: Mapping[str, Any]) -> TableBlock:
    tasks = [] if facts["negatives"] is not None else facts["tasks"]
    tasks = [task for task in tasks if task["kind"] != "retrieval" and task["mean"]]
    columns = {"split": [*SPLITS.values()], "rows": [whole(facts["rows"][n]) for n in SPLITS]}
    if facts["lists"]:
        columns["lists"] = [whole(facts["lists"].get(name)) for name in SPLITS]
    for task in tasks:
        columns[f"mean {task['name']}"] = [fixed(task["mean"][name], 3) for name in SPLITS]
    rows = [[*row] for row in zip(*columns.values(), strict=True)]
    return TableBlock("Rows", [*columns], rows)


def _fields_table(facts: Mapping[str, Any]) -> TableBlock:
    rows = []
    for field in facts["fields"]:
        name = field["name"] if field["per_row"] == 1 else f"{field['name']} (multi-valued)"
        unseen = [percent(field["unseen"][split]) for split in ("val", "test")]
        rows.append([name, whole(field["values"]), *unseen])
    heads = ["field", "values in training", "unseen in validation", "unseen in test"]
    return TableBlock("Fields", heads, rows)


def _audit(facts: Mapping[str, Any]) -> Iterator[Block]:
    """The findings of the audit of the raw rows, anomalies first."""
    if facts.get("audit") is None:
        return
    findings = sorted(facts["audit"]["findings"], key=lambda finding: not finding["anomaly"])
    rows = [[f["check"], "anomaly" if f["anomaly"] else "", f["message"]] for f in findings]
    title = f"Audit of {whole(facts['audit']['rows'])} raw rows"
    if rows:
        yield TableBlock(title, ["check", "", "finding"], rows, texts=3)
    else:
        yield Sentences([f"{title}: nothing unusual was found."])


def model_section(run: RunRecord, descriptions: Mapping[str, str]) -> Section | None:
    """Parameters and layers of the trained model."""
    plan, count = run.plan, run.metrics.get("parameters")
    if count is None:
        return None
    title = f"The model: {class_name(run.config['model'])}"
    table = count - run.metrics["tower_parameters"]
    share = f", {percent(table / count)} of them in the embedding table"
    text = (
        f"{descriptions.get('model', '')} {_columns(run)}It has {whole(count)} parameters"
        f"{'' if is_imported(run) else share}"  # of several tables, one is counted
    ).strip()
    if plan is None or not plan.layers:
        return Section("model", title, f"{text}.", [])
    widths = {name: cut.built for name, cut in plan.layers.items()}
    bars = [Bar(n, width / max(widths.values()), whole(width)) for n, width in widths.items()]
    caption = "Prunable layers from the input to the output, as built."
    layers = counted(len(widths), "prunable layer")
    finding = f"{text}, and {whole(sum(widths.values()))} neurons in {layers}."
    return Section("model", title, finding, [Bars("Neurons by layer", bars, caption)])


def _columns(run: RunRecord) -> str:
    """The columns that the model reads, as far as its explanation knows them."""
    if run.data is None or run.explanation is None:
        return ""
    unread, history = run.explanation.unread, run.data["history"]
    names = [*(field["name"] for field in run.data["fields"]), *run.data["dense"]]
    read = [name for name in names if name not in unread]
    earlier = ", and the user's earlier items" if history and "history" not in unread else ""
    return f"It reads {len(read)} of {counted(len(names), 'column')}: {listed(read)}{earlier}. "


def training_section(run: RunRecord) -> Section | None:
    """The learning curve and the epoch that is kept."""
    history = run.rows(HISTORY)
    if not len(history) or run.data is None:
        return None
    monitor = run.data["monitor"]
    place = best_index(monitor, history[monitor], run.data.get("monitor_mode"))
    kept, count = int(history["epoch"].iloc[place]), int((history["epoch"] > 0).sum())
    quality = (
        f"{metric_name(monitor)} on the validation split, "
        f"{metric_text(monitor, history[monitor].iloc[place])}"
    )
    if kept == 0:
        finding = (
            f"The initial weights are kept: their {quality}, is the best of "
            f"{counted(count, 'epoch')} and the start."
        )
    elif count == 1:
        finding = f"One epoch was trained, with {quality}."
    elif kept == count:
        finding = (
            f"The last of {count} epochs is kept: its {quality}, is the best so far, so more "
            "epochs may improve it."
        )
    else:
        finding = f"Epoch {kept} of {count} is kept: its {quality}, is the best."
    names = [name for name in map(str, history) if name != "epoch"]
    columns = [history["epoch"].map(whole), *(history[name].map(fixed) for name in names)]
    rows = [[*row] for row in zip(*columns, strict=True)]
    heads = ["epoch", *(name if "/" not in name else metric_name(name) for name in names)]
    table = TableBlock("Training loss, and the validation split", heads, rows)
    blocks = [*figure_parts(run, "learning_curve"), Details("All epochs", [table])]
    return Section("training", "Training", finding, blocks)


def reproduction_section(run: RunRecord) -> Section | None:
    """The command, the versions, all settings, and the fingerprints."""
    about = run.provenance
    if not about:
        return None
    commit, seed = about.get("git_commit"), f"Seed {about['seed']}"
    seed += f"; trained with {counted(about['threads'], 'thread')}" if "threads" in about else ""
    settings = flat({n: run.config[n] for n in RESULT_GROUPS if n in run.config})
    versions = [[name, str(value)] for name, value in about.items() if name not in NOT_VERSIONS]
    values = [[name, _value(value)] for name, value in settings.items()]
    blocks: list[Block] = [
        Code(f"{shlex.join(_argument(word) for word in about['command'])}\n"
             "glassrec verify run.dir=THIS_FOLDER"),
        Sentences([
            f"{seed}; the code was at commit {commit}." if commit else f"{seed}.",
            "The second command recomputes the pruning and the comparison from the files in this "
            "folder, and reports differences from the certificate.",
        ]),
        Details("Versions", [TableBlock("Made with", ["package", "version"], versions)]),
        Details("All settings",
                [TableBlock("As in config.yaml", ["setting", "value"], values, texts=2)]),
    ]  # fmt: skip
    names, known = [file.name for file in (CERTIFICATE, METRICS, DATA)], run.hashes or {}
    if hashes := [[name, known[name]] for name in names if name in known]:
        table = TableBlock("Those of data and weights are in the certificate",
                           ["file", "sha256"], hashes, texts=2)  # fmt: skip
        blocks.append(Details("Fingerprints of the results", [table]))
    finding = "The first command repeats this run, with the same numbers on the same machine."
    return Section("reproduce", "How to reproduce it", finding, blocks)


def _value(value: Any) -> str:
    return f"…/{Path(value).name}" if is_path(value) else "none" if value is None else str(value)


def _argument(word: str) -> str:
    """An argument of the command line without the folder of a path."""
    name, equals, value = word.partition("=")
    return f"{name}={_value(value)}" if equals else word
