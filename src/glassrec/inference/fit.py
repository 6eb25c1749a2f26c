"""A run on a frame of raw rows: train, explain, prune and evaluate, and the run opened."""

from __future__ import annotations

import io
import json
import shutil
import weakref
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml

from glassrec.inference.notebook import TrainedRun, load


def fit(
    rows: pd.DataFrame,
    roles: Mapping[str, Any],
    model: str = "dlrm",
    *settings: str,
    directory: Path | str | None = None,
    quiet: bool = False,
) -> TrainedRun:
    """Train a model on raw rows, explain it, prune it and evaluate both, as `glassrec run` does.

    Args:
        rows: the log, in your own values.
        roles: the roles of its columns, see `glassrec.data.columns.Columns`: `{"label": "clicked",
            "user": "user_id", "item": "sku", "dense": ["price"]}`.
        model: a name of `configs/model`.
        settings: words of the command line, as `trainer.max_epochs=5` or `explain/method=shapley`.
        directory: of the run, for later; None is a temporary one, which is deleted with the run.
        quiet: whether to print nothing.

    Returns:
        the run. The log is not kept: the run predicts, recommends and explains without it, but
        commands that read the data again, as `glassrec verify`, need it as a file.

    Raises:
        ValueError: roles, settings or rows cannot be used; the message names the value.
    """
    with TemporaryDirectory(prefix="glassrec-") as data:
        words = [*_written(rows, roles, Path(data)), f"model={model}", *settings]
        own = mkdtemp(prefix="glassrec-run-") if directory is None else None
        try:
            with redirect_stdout(io.StringIO()) if quiet else nullcontext():
                _execute([*words, f"run.dir={_quoted(Path(own or directory or '').absolute())}"])
            run = load(Path(own or directory or ""))
        except BaseException:
            if own is not None:
                shutil.rmtree(own, ignore_errors=True)
            raise
    if own is not None:
        weakref.finalize(run.opened, shutil.rmtree, own, ignore_errors=True)
    return run


def _written(rows: pd.DataFrame, roles: Mapping[str, Any], folder: Path) -> list[str]:
    """Write the rows and their roles; the words that name the files."""
    table, file = folder / "frame.parquet", folder / "roles.yaml"
    try:
        rows.to_parquet(table, index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(
            f"the frame cannot be stored: {error}; give each column values of one type, and a name "
            "of its own"
        ) from None
    plain = json.loads(json.dumps(dict(roles)))  # tuples become lists
    file.write_text(yaml.safe_dump(plain, allow_unicode=True), encoding="utf-8")
    return ["data=table", f"data.path={_quoted(table)}", f"data.columns={_quoted(file)}"]


def _quoted(path: Path) -> str:
    """A path as a value in Hydra's grammar."""
    escaped = str(path).replace("'", "\\'")
    return f"'{escaped}'"


def _execute(words: Sequence[str]) -> None:
    from glassrec.config import compose
    from glassrec.config.build import build, check_devices
    from glassrec.pipeline import Pipeline

    config = compose.prepare("run", words)
    parts = build(config)
    check_devices(config, parts)
    with closing(compose.open_run(config, ["glassrec.fit", *words])) as run:
        Pipeline(run=run, **parts).execute("run")
