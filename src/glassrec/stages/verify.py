"""Verify: a finished run computed anew from its files alone, and all that differs.

The record and the certificate are checked here; the claims of the other files in `recompute`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from torch import Tensor

from glassrec.aliases import current_keys
from glassrec.artifacts import Artifact, File, Text
from glassrec.artifacts import file_list as files
from glassrec.prune.certificate import TOLERANCE, data_digests, versions
from glassrec.prune.certificate_text import text
from glassrec.run import (
    Lock,
    ReadOnlyRun,
    artifact_key,
    config_text,
    experiment,
    flat,
    holds_results,
    read_entries,
    record_text,
    sha256,
    status_text,
)
from glassrec.stages.check_findings import Finding, Passed, problems_of
from glassrec.stages.context import Context
from glassrec.stages.int8 import compare_int8, int8_copy
from glassrec.stages.recompute import CHECKS, INT8_CLOSE, RecordedRun, differing, unchecked

SKIPPED_FIELDS = ("given", "splits", "versions", "all_pairs.user", "all_pairs.item")
"""The parts of a certificate that the comparison leaves to other checks, or to rounding."""

ROUNDING = 2 * TOLERANCE
"""By how much a difference of logits may differ between machines, relative to the largest |logit|
or to 1. A sum in another order moves a logit by less than `TOLERANCE`; a difference is of two."""

FOLDED = 1e-12
"""By how much, relative to its size or to 1, a bias in float64 may differ between machines: it took
over constants in a sum of some thousand products at most, each of which is rounded at 1e-16."""

OLDER_TITLE, NUMBER = b"# Certificate of a cut\n", re.compile(rb"\d[\w.,]*")
"""The first line of a certificate's text in an older wording, of which the numbers are compared."""


def verify(context: Context, external: Callable[[], dict[str, Any]]) -> list[str]:
    """Make all checks of a run, print those that pass, and return all that differs.

    `external` gives the hashes of all external inputs, as they are now.

    Raises:
        ValueError: the directory holds no run, or a process works in it.
    """
    directory = context.run.dir
    if not holds_results(directory):
        raise ValueError(f"run.dir: {directory} holds no results; run something there first")
    path = directory / files.LOCK
    with closing(Lock(path if path.is_file() else directory / files.CONFIG, shared=True)):
        found = _verify(RecordedRun(context), external)
    if not found:
        print("verify    everything is as recorded", flush=True)
    return [*dict.fromkeys(found)]


def _verify(run: RecordedRun, external: Callable[[], dict[str, Any]]) -> list[str]:
    changed = problems_of(lambda: _files(run))
    problems = changed + [
        problem
        for check in (_beside, _keys, partial(_external, external=external), _layout)
        for problem in problems_of(partial(check, run))
    ]
    try:
        run.context.dataset  # noqa: B018  read once, also if it cannot be
    except (ValueError, OSError) as error:
        return [*problems, f"{error}; so pruning, comparison and metrics were not checked"]
    checks: list[Callable[[RecordedRun], Iterator[Finding]]] = [_rows, _pruning, _comparison]
    if not changed:  # the content of a damaged file is not worth reading
        checks += [check for file, check in CHECKS.items() if file.name in run.run.recorded]
        checks.append(unchecked)
    return problems + [problem for each in checks for problem in problems_of(partial(each, run))]


def _files(recorded: RecordedRun) -> Iterator[Finding]:
    run = recorded.run
    needed = (*files.CERTIFICATE.inputs, files.CERTIFICATE, files.CERTIFICATE_TEXT)
    for file in (each for each in needed if not run.has(each)):
        yield f"{file.name} is not in {files.RECORD}; run `glassrec {file.stage}` first"
    entries = read_entries(run.dir)
    if (run.dir / files.RECORD).read_text(encoding="utf-8") != record_text(entries):
        yield f"{files.RECORD} has been edited: it is not laid out as it was written"
    for name, entry in entries.items():
        if name != files.CONFIG and entry.keys() != {"key", "sha256", "inputs", "settings"}:
            yield f"{files.RECORD} has been edited: {name} has the entries {', '.join(entry)}"
    inputs = {name for entry in entries.values() for name in entry.get("inputs", ())}
    shared = {} if run.parent is None else run.parent.recorded  # of a cut, what it was made of
    known = {run.dir / name: expected for name, expected in run.recorded.items()}
    known |= {
        run.dir.parents[1] / n: shared[n] for n in sorted(inputs & {*shared} - {*run.recorded})
    }
    for path, expected in known.items():
        if not path.is_file():
            yield f"{path.name} is missing, and {files.RECORD} has it"
        elif (found := sha256(path)) != expected:
            yield f"{path.name} has changed: its sha256 is {found[:12]}…, recorded {expected[:12]}…"
    yield Passed(f"{len(known)} files have the sha256 that is recorded")


def _keys(recorded: RecordedRun) -> Iterator[Finding]:
    run, certificate = recorded.run, recorded.certificate
    entries, version = read_entries(run.dir), certificate.versions.get("glassrec", "")
    known = ({} if run.parent is None else run.parent.recorded) | run.recorded
    same = {"experiment": experiment(run.config), "given": certificate.given}

    def is_made_so(entry: Mapping[str, Any]) -> bool:
        settings = {
            group: {key: run.config.get(group, {}).get(key) for key in current_keys(group, keys)}
            for group, keys in entry.get("settings", {}).items()
        }
        hashes = {each: known.get(each) for each in entry["inputs"]}
        return artifact_key(same | settings, hashes, version) == entry["key"]

    other = [name for name in run.recorded if not is_made_so(entries[name])]
    names = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if other[3:] else "")
    if other:
        yield f"not made of what {files.CONFIG} and {files.RECORD} say: {names}"
    yield Passed(
        f"each was made with the settings of {files.CONFIG}, and of the others as they are"
    )


def _beside(recorded: RecordedRun) -> Iterator[Finding]:
    run, version = recorded.run, recorded.certificate.versions.get("glassrec", "")
    config = (run.dir / files.CONFIG).read_bytes()
    if config != config_text(yaml.safe_load(config) or {}).encode():
        yield f"{files.CONFIG} has been edited: it is not laid out as it was written"
    entry = read_entries(run.dir).get(files.CONFIG, {})
    if entry and sha256(run.dir / files.CONFIG) not in entry.values():
        yield f"{files.CONFIG} has changed: its sha256 is not the one that is recorded"
    yield from _provenance(run, version)
    yield from _status(run.dir / files.STATUS)
    yield Passed(f"{files.CONFIG}, {files.PROVENANCE} and {files.STATUS} are as they were written")


def _provenance(run: ReadOnlyRun, version: str) -> Iterator[str]:
    try:
        facts = run.provenance
    except ValueError as error:
        yield str(error)
        return
    for name, value in {"glassrec": version, "seed": run.config["seed"]}.items():
        if facts.get(name) != value:
            yield f"{files.PROVENANCE}: {name} is {facts.get(name)}, and the run says {value}"


def _status(path: Path) -> Iterator[str]:
    if not path.is_file():
        yield f"{path.name} is missing"
        return
    content = path.read_bytes()
    try:
        facts = json.loads(content)
        known = facts["state"], facts["stage"], facts.get("problem", "")
    except (ValueError, KeyError, TypeError):
        yield f"{path.name} is damaged"
        return
    if known[0] == "finished" and known[1] in (*files.STAGES, "export"):
        if content != status_text("finished", known[1]).encode():
            yield f"{path.name} has been edited: it is not laid out as it was written"
    else:
        yield f"{path.name}: the last command did not finish: {', '.join(map(str, known))}"


def _external(recorded: RecordedRun, external: Callable[[], dict[str, Any]]) -> Iterator[Finding]:
    found = flat(external())
    count = sum(isinstance(value, str) for value in found.values())
    yield from differing("what came from outside", flat(recorded.certificate.given), found)
    yield Passed(
        f"{count} files from outside have the sha256 that is certified"
        if count
        else "nothing came from outside"
    )


def _layout(recorded: RecordedRun) -> Iterator[Finding]:
    certificate = recorded.certificate
    written: dict[File[Any], Artifact] = {
        files.PLAN: recorded.plan,
        files.CERTIFICATE: certificate,
        files.CERTIFICATE_TEXT: Text(text(certificate)),
    }
    for file, content in written.items():
        if not _is_written(recorded.run.dir / file.name, content):
            yield f"{file.name} has been edited: it is not what Glassrec writes"
    yield Passed(f"{files.CERTIFICATE_TEXT.name} says what {files.CERTIFICATE.name} says")


def _is_written(path: Path, content: Artifact) -> bool:
    """Whether a file is, byte for byte, as its content is written, or was in an older wording."""
    with TemporaryDirectory() as folder:
        again = Path(folder, path.name)
        content.save(again)
        there, here = path.read_bytes(), again.read_bytes()
    older = isinstance(content, Text) and there.startswith(OLDER_TITLE)
    return there == here or (older and NUMBER.findall(there) == NUMBER.findall(here))


def _rows(recorded: RecordedRun) -> Iterator[Finding]:
    dataset = recorded.context.dataset
    rows = sum(split.batch.rows for split in dataset.splits.values())
    yield from differing("the rows of the data", recorded.certificate.splits, data_digests(dataset))
    yield Passed(f"{rows:,} rows in {len(dataset.splits)} splits are those that are certified")


def _pruning(recorded: RecordedRun) -> Iterator[Finding]:
    if recorded.plan.finetuned:
        yield Passed("the model was fine-tuned after pruning, which is not repeated")
        return
    prune = recorded.context.settings.prune
    found = prune.prune(recorded.trained.reference_model, recorded.plan).tensors
    there = recorded.pruned.tensors
    differ = [n for n in sorted({*there, *found}) if not _is_equal(there.get(n), found.get(n))]
    for name in differ:
        if not _is_close(there.get(name), found.get(name)):
            yield f"{files.PRUNED.name}: {name} is not as the plan gives it"
    change = f"{files.WEIGHTS.name} to {files.PRUNED.name}"
    yield Passed(f"the plan prunes {change}, {'up to rounding' if differ else 'bit for bit'}")


def _is_equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.dtype != other.dtype:
        return False
    return torch.equal(one, other)


def _is_close(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two biases, of which one took over constants, are equal but for rounding."""
    if one is None or other is None or one.shape != other.shape:
        return False
    if torch.float64 not in (one.dtype, other.dtype):
        return False
    return torch.allclose(one.double(), other.double(), rtol=FOLDED, atol=FOLDED)


def _comparison(recorded: RecordedRun) -> Iterator[Finding]:
    certificate = recorded.certificate
    found = recorded.context.settings.prune.certify(
        recorded.trained.reference_model,
        recorded.pruned,
        recorded.plan,
        recorded.context.dataset,
        files={each.name: sha256(recorded.run.path(each)) for each in files.CERTIFICATE.inputs},
        given=certificate.given,
    )
    found = replace(found, all_pairs=certificate.all_pairs and found.all_pairs)  # none in old ones
    found = replace(found, change_bound=certificate.change_bound and found.change_bound)
    if certificate.int8 is not None:
        content = recorded.run.load(files.INT8)
        found = replace(
            found, int8=compare_int8(recorded.trained, content),
            files=found.files | {files.INT8.name: sha256(recorded.run.path(files.INT8))},
        )  # fmt: skip
        if certificate.versions != versions():
            yield Passed(f"{files.INT8.name} is not made again: other versions made it")
        elif int8_copy(recorded.context, recorded.pruned).content != content.content:
            yield f"{files.INT8.name} is not the int8 copy of {files.PRUNED.name}"
    here, there = (
        {k: v for k, v in flat(asdict(each)).items() if not k.startswith(SKIPPED_FIELDS)}
        for each in (found, certificate)
    )
    yield from differing(
        files.CERTIFICATE.name, there, here, partial(_rounding, found.max_abs_logit)
    )
    yield Passed(
        f"on all {sum(found.rows.values()):,} rows the logits of both models differ by at most "
        f"{found.max_abs_logit_difference:.2g}, as certified"
    )
    if certificate.versions != versions():
        yield Passed(f"certified with {certificate.versions}, verified with {versions()}")


def _rounding(size: float, name: str, value: Any) -> float:
    """By how much a value of a certificate may differ, where logits are of some size."""
    if name.startswith("all_pairs.same"):  # of lists with items of nearly equal logits
        return 0.01
    if name == "change_bound.bound":  # of boxes that are split by size
        return 0.1 * float(value)
    if name.startswith("int8."):  # where onnxruntime rounds another way, a value is one step off
        return INT8_CLOSE * max(1.0, size)
    return ROUNDING * max(1.0, size) * (TOLERANCE if name == "tolerance" else 1)
