"""Report: the run as a page, for readers who did not run it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from glassrec.artifacts import Text
from glassrec.artifacts.file_list import FIGURES, REPORT
from glassrec.report.run_record import RunRecord
from glassrec.report.run_report import page
from glassrec.stages.context import Context, PipelineSettings


def report(context: Context) -> str:
    """Write the page, if it is missing or stale, from all that the run has of its inputs."""
    names = {file.name for file in REPORT.inputs}
    there = sorted(
        (file for file in context.run.files if file.name in names or file.name.startswith(FIGURES)),
        key=lambda file: file.name,
    )
    file = replace(REPORT, inputs=tuple(there))
    hashes = {each.name: context.run.sha256_of(each) for each in there}
    return context.once(file, lambda: Text(_page(context, hashes))).text


def _page(context: Context, hashes: dict[str, str]) -> str:
    run = context.run
    record = RunRecord.of_files(run.dir, run.shown, run.provenance, hashes)
    return page(record, _descriptions(context.settings))


def _descriptions(settings: PipelineSettings) -> dict[str, str]:
    made: Callable[..., Any] = getattr(settings.model, "func", settings.model)
    module = inspect.getmodule(made)
    found = [_first_paragraph(module.__doc__ if module else None), _first_paragraph(made.__doc__)]
    split = getattr(settings.data, "split", None)
    words = {"model": " ".join(filter(None, found))}
    return words | ({} if split is None else {"split": _first_paragraph(type(split).__doc__)})


def _first_paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
