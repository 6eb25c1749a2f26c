"""Where training starts: the weights of another run, if they fit this model and this data.

Ids stand for values, so the rows of an embedding table are mapped by value from the vocabulary of
the other run; a value that is new there starts with the vector of the unseen id, with which the
other run scored it. Held-out rows that the weights were trained on would make metrics too good, so
such a start is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec import __version__
from glassrec.artifacts import Facts, StoredTable, Weights
from glassrec.artifacts.file_list import ENCODER, PRUNED, ROW_KEYS, VOCABULARY, WEIGHTS
from glassrec.data.encoding import Encoder, MultiValued, Vocabulary
from glassrec.data.saved_encoder import describe_encoder, overlap, restore_encoder
from glassrec.data.schema import Schema
from glassrec.models.base import Recommender
from glassrec.process_exit import UsageError
from glassrec.run import ReadOnlyRun, experiment, flat, is_path, mask_config, recorded_file


def start_file(start: Path, setting: str = "start") -> Path:
    """The file to start from: `start` itself, or the final model of the run in that directory.

    That is its pruned model, if it has one; its unpruned one can be named as a file.

    Raises:
        UsageError: the directory holds no trained model.
    """
    if start.is_file():
        return start
    for file in (PRUNED, WEIGHTS) if setting == "start" else (WEIGHTS,):
        if (start / file.name).is_file():
            return start / file.name
    raise UsageError(f"{setting}: {start} holds no {WEIGHTS.name}; train it first")


def starts(start: Path | None, model: Mapping[str, Any]) -> dict[str, Start]:
    """The runs that the first weights come from, by the settings that name them.

    They are `start`, a run directory or a file of weights, or directories among the model's
    settings.

    Raises:
        UsageError: a directory holds no trained model, or `start` meets others.
    """
    found = {} if start is None else {"start": Start(start_file(start))}
    for name, value in flat(model).items():
        if is_path(value) and Path(value).is_dir():
            setting = f"model.{name}"
            found[setting] = Start(start_file(Path(value), setting), setting)
    if start is not None and len(found) > 1:
        raise UsageError(
            f"start: {start} cannot be joined with {', '.join([*found][1:])}; leave one of them out"
        )
    return found


def origin_of(
    run: ReadOnlyRun, files: Mapping[str, str], encoder: Encoder, starts: Mapping[str, Start]
) -> dict[str, Any]:
    """The origin that a file of weights keeps, see `Weights`; `files` are the sha256 of the
    data.
    """
    part = experiment(mask_config(run.config, run.shown))  # the file may be passed on
    described = describe_encoder(encoder)
    known = "known" if all(start.complete for start in starts.values()) else "unknown"
    return {
        "version": __version__,
        "seed": run.config["seed"],
        "data": part["data"],
        "files": files,
        "model": part["model"],
        "vocabulary_sha256": described["vocabulary_sha256"],
        "encoder_sha256": described["encoder_sha256"],
        "start": known if starts else None,
    }


@dataclass(frozen=True)
class Start:
    """The weights of another run, in a `file`; `setting` is the key that names them, for
    messages.
    """

    file: Path
    setting: str = "start"

    @cached_property
    def weights(self) -> Weights:
        """On the CPU, each tensor in the precision that it has there; UsageError if damaged."""
        try:
            return Weights.load(self.file)
        except ValueError as error:
            raise UsageError(
                f"{self.setting}: {error}; name a run directory, or a file in safetensors format"
            ) from None

    @cached_property
    def encoder(self) -> Encoder | None:
        """What made the rows that were trained on, if known; UsageError if it is another's."""
        folder, origin = self.file.parent, self.weights.origin
        values, encoder = (recorded_file(folder / file.name) for file in (VOCABULARY, ENCODER))
        known = origin is not None or recorded_file(self.file) is not None
        if values is None or encoder is None or not known:
            return None
        description = Facts.load(encoder).values
        found = description["encoder_sha256"]
        if origin is not None and origin["encoder_sha256"] != found:
            raise UsageError(
                f"{self.setting}: {self.file} was trained on data of another encoder than "
                f"{encoder} (its sha256 is {found[:12]}…, that of the weights "
                f"{origin['encoder_sha256'][:12]}…); name the run that trained it"
            )
        return restore_encoder(StoredTable.load(values).frame, description)

    @cached_property
    def trained_rows(self) -> np.ndarray | None:
        """(M,) uint64: the keys of all rows that the weights were trained on, if that is known."""
        rows = recorded_file(self.file.parent / ROW_KEYS.name)
        if rows is None or self.encoder is None:
            return None
        frame = StoredTable.load(rows).frame
        return frame.loc[frame["split"].isin(["train", "start"]), "key"].to_numpy(np.uint64)

    @property
    def complete(self) -> bool:
        """Whether `trained_rows` are all rows: those of earlier starts may not be known."""
        origin = self.weights.origin
        return origin is not None and origin["start"] != "unknown" and self.trained_rows is not None

    def check_model(self, build: Callable[[Schema], Recommender]) -> None:
        """UsageError unless the model that `build` makes of a schema takes the weights over."""
        origin = self.weights.origin
        if self.encoder is not None:
            model = build(self.encoder.schema)
            here = type(model).__name__
            there = here if origin is None else origin["model"]["_target_"].rpartition(".")[2]
            if there != here:
                raise UsageError(
                    f"{self.setting}: {self.file} holds the weights of another model, {there}, "
                    f"than this {here}; choose that model, or start from a {here}"
                )
            self._load(model, self.weights.tensors)

    def check_data(self, encoder: Encoder, rows: pd.DataFrame, origin: Mapping[str, Any]) -> None:
        """UsageError if ids stand for other things, or held-out rows were trained on.

        `rows` are the keys of the data to train on, see `saved_encoder.row_keys`; `origin` is that
        of the weights that are to be trained.
        """
        if self.encoder is None:
            self._check_unknown(origin)
            return
        for name, there, here in _roles(self.encoder, encoder):
            if there != here:
                raise UsageError(
                    f"{self.setting}: {self.file} was trained on data whose {name} is {there}, and "
                    f"here it is {here}; give the columns the same roles in the same order"
                )
        shared = {name: len(known) for name, known, _ in self._shared(encoder)}
        item = encoder.schema.item
        if shared and not (shared[item] if item in shared else sum(shared.values())):
            raise UsageError(
                f"{self.setting}: no value of {item or 'any field'} is known to the run of "
                f"{self.file}; its embeddings are of other things: train afresh, or write ids as "
                "that run's data does"
            )
        if self.trained_rows is not None:
            self._check_leak(rows, self.trained_rows)

    def mapped(self, encoder: Encoder | None, reads: Schema) -> dict[str, Tensor]:
        """The weights for the ids of another encoder; the very tensors where no id changes.

        `reads` are the columns that the model reads, in its order.
        """
        tensors = self.weights.tensors
        if self.encoder is None or encoder is None or "table.read" not in tensors:
            return tensors
        places, start = [], 0
        read, there = tensors["table.read"].any(1).tolist(), self.encoder.schema
        for name, stored in zip(reads.field_names, read, strict=True):
            if stored:
                ids = _ids(self.encoder.vocabularies[name], encoder.vocabularies[name])
                places.append(np.r_[0, ids] + start)
                start += there.fields[there.field_index(name)].size
        index = torch.from_numpy(np.concatenate(places)) if places else torch.arange(0)
        if torch.equal(index, torch.arange(start)):
            return tensors
        return tensors | {"table.weight": tensors["table.weight"][index]}

    def load(self, model: Recommender, encoder: Encoder | None) -> None:
        """Take the weights over, mapped by value; UsageError if they are of another model."""
        self._load(model, self.mapped(encoder, model.schema))

    def report(self, encoder: Encoder | None) -> Iterator[str]:
        """What the weights are, and what of their data is known here, in lines."""
        yield f"{self.file}"
        origin = self.weights.origin
        if origin is None and self.encoder is None:
            yield (
                f"{self.file.name}: origin unknown; not checked: whether its ids stand for the "
                "same values, and whether held-out rows were trained on"
            )
            return
        if self.encoder is not None and encoder is not None:
            changes = [*self._changes(encoder)]
            yield "its values: " + ("; ".join(changes) or "the same as here")
            if any(" 0 new" not in change for change in changes):
                yield "new values start with the vector of unseen ones"
        if not self.complete:
            yield "not checked: whether held-out rows were trained on before that run"

    def _changes(self, encoder: Encoder) -> Iterator[str]:
        for name, known, there in self._shared(encoder):
            new = len(encoder.vocabularies[name].values) - len(known)
            gone = there - len(known)
            if new or gone:
                yield f"{name} {len(known):,} known, {new:,} new, {gone:,} no longer there"

    def _shared(self, encoder: Encoder) -> Iterator[tuple[str, np.ndarray, int]]:
        """Each field: name, the ids there of shared values, and the number of values there."""
        assert self.encoder is not None, "asked for only if it is known"
        for name, here in encoder.vocabularies.items():
            there = self.encoder.vocabularies[name]
            ids = _ids(there, here)
            yield name, ids[ids > 0], len(there.values)

    def _check_unknown(self, origin: Mapping[str, Any]) -> None:
        """Without the run beside them the weights say enough if their data is the same."""
        there = self.weights.origin
        if there is None:
            return
        names = ("vocabulary_sha256", "data", "files", "seed")
        differing = [name for name in names if there[name] != origin[name]]
        if differing:
            raise UsageError(
                f"{self.setting}: {self.file} was trained with another {differing[0]} "
                f"({there[differing[0]]}, here {origin[differing[0]]}), and without "
                f"{VOCABULARY.name} and {ROW_KEYS.name} beside it values cannot be mapped, nor "
                "leaks be found; name the directory of its run"
            )

    def _check_leak(self, rows: pd.DataFrame, trained: np.ndarray) -> None:
        """Refuse if more held-out rows were trained on than equal rows explain.

        Rows may be equal by chance, as the new training rows show: a held-out row equals one of M
        rows at most as often as M grows. Three standard deviations of a Poisson count are left to
        chance beyond.
        """
        growth = max(1.0, len(trained) / int((rows["split"] == "train").sum()))
        for name, count, leaked, natural in overlap(rows, trained):
            expected = natural * growth
            if leaked > expected + 3 * sqrt(expected + 1):
                raise UsageError(
                    f"{self.setting}: {leaked:,} of the {count:,} {name} rows "
                    f"({leaked / count:.1%}) are rows that {self.file} was trained on, so metrics "
                    f"would be too good ({natural:,} equal a new training row); take the seed and "
                    "the split of that run, or a split that holds out newer rows"
                )

    def _load(self, model: Recommender, weights: Mapping[str, Tensor]) -> None:
        try:
            model.load(weights, str(self.file))
        except ValueError as error:
            raise UsageError(f"{self.setting}: {error}") from None


def with_start(rows: pd.DataFrame, starts: Mapping[str, Start]) -> pd.DataFrame:
    """The keys of a dataset, and, as split `start`, of what starting weights were trained on.

    Rows that are training rows here are not repeated.
    """
    own = rows.loc[rows["split"] == "train", "key"].to_numpy()
    found = [each.trained_rows for each in starts.values() if each.trained_rows is not None]
    others = np.setdiff1d(np.concatenate(found), own) if found else own[:0]
    earlier = pd.DataFrame({"split": "start", "row": 0, "key": others})
    if not len(others):
        return rows
    return pd.concat([rows.astype({"split": str}), earlier], ignore_index=True)


def _roles(there: Encoder, here: Encoder) -> Iterator[tuple[str, Any, Any]]:
    """What must agree: the columns in their order, with their roles, but not their values."""
    one, other = there.schema, here.schema
    yield "dense columns", one.dense, other.dense
    yield "logarithmic columns", {*there.columns.log}, {*here.columns.log}
    yield "fields", one.field_names, other.field_names
    tasks, ours = ([(target.name, target.kind) for target in x.targets] for x in (one, other))
    yield "tasks", tasks, ours
    # Rows are compared by all columns that are read: with others, no leak would be found.
    read, mine = (sorted({*x.columns.all} - {x.columns.split}) for x in (there, here))
    yield "columns", read, mine
    for name in ("user", "item", "item_side", "item_dense", "history_length"):
        yield name, getattr(one, name), getattr(other, name)


def _ids(there: Vocabulary | MultiValued, here: Vocabulary | MultiValued) -> np.ndarray:
    """(V,): the id there of each value here, 0 if it is not known there."""
    known = there.vocabulary if isinstance(there, MultiValued) else there
    values = here.values
    if known.values.dtype.kind != values.dtype.kind:  # numbers and text have nothing in common
        return np.zeros(len(values), np.int64)
    return known.encode(values)
