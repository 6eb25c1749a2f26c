"""The inputs of a module from elsewhere as data: of a callable of the user's own, or of a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import FilePath
from torch import Tensor

from glassrec.artifacts import Tensors
from glassrec.data.batch import Batch, Split
from glassrec.data.columns import Columns
from glassrec.data.content import fingerprint
from glassrec.data.dataset import Dataset, Source
from glassrec.data.encoding import NO_SCALERS, Scalers
from glassrec.data.schema import ABSENT, Schema
from glassrec.data.splits import Random, Splitter
from glassrec.data.torch_file import load_torch_file
from glassrec.imported import factory as code
from glassrec.imported.exported import attribute, call, flatten, map_tensors, operation
from glassrec.imported.imported_model import ImportedModel
from glassrec.imported.look_ups import by_row, count_rows, look_up
from glassrec.imported.wrapping import wrap
from glassrec.process_exit import UsageError
from glassrec.spelling import brief, one_of

CHUNK = 4096  # rows that are checked at once, and those of a batch of a file


@dataclass(frozen=True)
class Batches(Source):
    """Batches of the inputs of a module, whose rows are divided as those of a table.

    `factory` is `my.module:loader`, a callable that returns an iterable of batches in the form that
    `forward` takes: a tensor, a tuple of its arguments, a dict by their names. With `labels`, each
    is a pair (inputs, labels), labels being (B,) or (B, K). Or `path` is a file of torch.save or
    safetensors, of tensors by the names of the arguments, with the labels under `label_key`.
    `names` are those of all columns of the inputs, in their order.
    """

    factory: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    path: FilePath | None = None
    labels: bool = True
    label_key: str = "label"
    names: Sequence[str] | None = None
    split: Splitter = field(default_factory=Random)
    model: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        if (self.factory is None) == (self.path is None):
            raise ValueError("give one of data.factory=my_model:loader and data.path=FILE")

    def of_model(self, model: Any) -> Batches:
        """The source for the module of a model's settings; all callables are imported here."""
        bound = replace(self)
        vars(bound)["model"] = dict(model.keywords)
        bound.fingerprint()
        return bound

    def fingerprint(self) -> dict[str, str]:
        """The sha256 of the file of data, and of the source files of the callables."""
        names = {"model.factory": self.model.get("factory"), "data.factory": self.factory}
        sources = [code.source_file(name, key) for key, name in names.items() if name]
        return fingerprint([*sources, *([] if self.path is None else [Path(self.path)])])

    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """Wrap the module and encode all batches; ValueError names a batch or row to correct."""
        pairs = self._pairs()
        first = next(pairs, None)
        if first is None:
            raise ValueError(f"{self.place} has no batches; it must give one or more")
        with torch.random.fork_rng(devices=[]):  # weights that the factory draws
            torch.manual_seed(seed)
            module = code.build_module(self.model)
        targets = list[Tensor]()
        try:
            wrapped = wrap(module, first[0], kind=self.model.get("kind", "click"))
            model = wrapped.model
            model.schema = self._renamed(model.schema, [*model.graph.names.values()])
            if self.path is not None and model.graph.split.bags:  # it alone knows their rows
                every = self._of_file(self.path, whole=True)
            else:
                every = chain([first], pairs)
            rows = wrapped.rows(self._inputs(model, every, targets))
        except UsageError:
            raise
        except ValueError as error:
            at = "" if self.place in str(error) else f"{self.place}: batch {len(targets) or 1}: "
            raise ValueError(f"{at}{error}") from error
        rows = rows._replace(targets=torch.cat(targets))
        check_values(wrapped.model, rows, self.place)
        return self._divided(wrapped.model, rows, seed)

    @property
    def place(self) -> str:
        """Where the batches come from, for messages."""
        return str(self.path or f"data.factory: {self.factory}")

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        """The inputs and labels of each batch."""
        if self.factory is None:
            assert self.path is not None, "one of them is given"
            yield from self._of_file(self.path)
            return
        made = partial(code.locate(self.factory, "data.factory"), **self.arguments)
        found = code.guarded(made, f"{self.place} fails")
        if not isinstance(found, Iterable) or isinstance(found, Tensor | Mapping | str):
            raise ValueError(f"{self.place} returns no iterable of batches: {type(found).__name__}")
        each, number = iter(found), 0
        while (batch := code.guarded(partial(next, each, self), f"{self.place} fails")) is not self:
            number, pair = number + 1, batch if self.labels else (batch, None)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                text = f"{self.place}: batch {number} is a {type(batch).__name__}, and no pair"
                raise ValueError(f"{text} (inputs, labels); without labels, data.labels=false")
            yield pair[0], pair[1]

    def _of_file(self, path: Path, *, whole: bool = False) -> Iterator[tuple[Any, Any]]:
        safe = path.suffix == ".safetensors"
        content = Tensors.load(path).tensors if safe else load_torch_file(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds a {type(content).__name__}, and no tensors by name")
        if self.labels and self.label_key not in content:
            near = one_of(self.label_key, content)
            raise ValueError(
                f"{path} has no {self.label_key!r}{near}; name the labels by data.label_key, or "
                "set data.labels=false"
            )
        rows = {len(each) if each.ndim else 0 for _, each in flatten(content)}
        if not rows or 0 in rows:
            raise ValueError(f"{path} has no rows, or a tensor without any")
        size = max(rows)
        step = size if whole or len(rows) > 1 else CHUNK
        for start in range(0, max(size - 1, 1), step):  # no batch of one row at the end
            part = slice(start, start + step if start + step < size - 1 else None)
            inputs = map_tensors(content, itemgetter(part))
            yield inputs, inputs.pop(self.label_key, None)

    def _renamed(self, schema: Schema, columns: list[str]) -> Schema:
        names = columns if self.names is None else self.names
        if len(names) != len(columns):
            count = f"{len(names)} names for the {len(columns)} columns {brief(columns)}"
            raise UsageError(f"data.names: there are {count}")
        new = dict(zip(columns, names, strict=True))
        fields = tuple(replace(each, name=new.get(each.name, each.name)) for each in schema.fields)
        return replace(schema, dense=tuple(new[name] for name in schema.dense), fields=fields)

    def _inputs(
        self, model: ImportedModel, pairs: Iterable[tuple[Any, Any]], targets: list[Tensor]
    ) -> Iterator[Any]:
        """The inputs of all batches; `targets` get the labels (B, K) float32, NaN without any."""
        exported, count = model.graph.exported, len(model.schema.targets)
        allowed = "0 or 1, or model.kind=rating" if self.model.get("kind") != "rating" else ""
        for inputs, labels in pairs:
            targets.append(torch.empty(0))  # their number is that of the batch, for messages
            rows = count_rows(exported, exported.inputs(call(model.module, inputs).named))
            found = torch.as_tensor(labels if self.labels else torch.full((rows, count), torch.nan))
            if found.numel() != rows * count or found.shape[:1] != (rows,):
                raise ValueError(f"{rows} rows have labels of shape {tuple(found.shape)}")
            wrong = found[(found != 0) & (found != 1) if allowed else ~found.isfinite()]
            if self.labels and len(wrong):
                raise ValueError(f"a label is {wrong[0]:g}; it must be {allowed or 'a number'}")
            targets[-1] = found.float().reshape(rows, -1)
            yield inputs

    def _divided(self, model: ImportedModel, rows: Batch, seed: int) -> Dataset:
        frame = pd.DataFrame({"label": 0.0, "row": 0.0}, index=range(rows.rows))
        roles = Columns(label="label", dense=("row",), chronological=True)
        parts = self.split.split(frame, roles, torch.Generator().manual_seed(seed))
        train, validation, test = (
            Split(rows.select(torch.tensor(part.frame.index.to_numpy()))) for part in parts
        )
        own, decoder = model.schema, partial(decode_inputs, model)
        schema = code.ImportedSchema(own.dense, own.fields, own.targets, unseen=False, opened=model)
        return Dataset(schema, train, validation, test, decoder=decoder)


def decode_inputs(model: ImportedModel, batch: Batch) -> pd.DataFrame:
    """(N rows) the raw values: numbers of dense columns, and ids as text, joined by commas."""
    graph, columns, found = model.graph, dict[int, Tensor](), dict[str, np.ndarray]()
    parts, split = {True: iter(batch.dense.T), False: iter(batch.ids.T)}, graph.split
    for node in graph.stored:
        own = parts[node.meta["val"].is_floating_point()]
        columns |= {column: next(own) for column in split.columns[node].unique().tolist()}
    rest, bags = [*parts[False]], dict[tuple[int, ...], Tensor]()
    looked = [(cut, look_up(cut.node)) for cut in split.cuts]
    for at, bag in enumerate(split.bags):  # the first ids of all bags, the second ones, and so on
        source = next(c.sources[0] for c, found in looked if found and found[2] is bag.ids)
        bags[source] = torch.stack(rest[at :: len(split.bags)], 1)
    for name, at in zip(model.schema.dense, split.dense, strict=True):
        found[name] = columns[at].double().numpy()
    for name, source in zip(model.schema.field_names, graph.sizes, strict=True):
        ids = bags[source] if source in bags else torch.stack([columns[at] for at in source], 1)
        texts = (", ".join(f"{i:g}" for i in row if i != ABSENT) for row in ids.tolist())
        found[name] = np.array([text or None for text in texts], object)
    return pd.DataFrame(found)


def check_values(model: ImportedModel, rows: Batch, place: str) -> None:
    """ValueError, with column, row and value, for an id without a row, or a missing number."""
    for start, chunk in zip(range(1, rows.rows + 1, CHUNK), rows.chunks(CHUNK), strict=True):
        for row, problem in _outside(model, chunk):
            raise ValueError(f"{place}: row {start + row}: {problem}; correct the id")
        with torch.no_grad():
            dense = model.embed(chunk).dense
        for row, at in (~dense.isfinite()).nonzero()[:1].tolist():
            problem = f"{model.schema.dense[at]} is {dense[row, at]:g}"
            raise ValueError(f"{place}: row {start + row}: {problem}; fill it as in training")


def _outside(model: ImportedModel, rows: Batch) -> Iterator[tuple[int, str]]:
    """The first id of each look-up that has no row in its table: the row, and the problem."""
    exported, split, values = model.graph.exported, model.graph.split, model.input_values(rows)
    fields = dict(zip(model.graph.sizes, model.schema.field_names, strict=True))
    looked = [(cut, found) for cut in split.cuts if (found := look_up(cut.node)) is not None]
    wanted = exported.cone([ids for _, (_, _, ids) in looked], values)
    exported.run([n for n in wanted if n not in values], values, model.module, rows.rows)
    offsets = {bag.ids: values[bag.offsets][: rows.rows] for bag in split.bags}
    for cut, (look, table, ids) in looked:
        if table not in exported.state:
            continue
        size, bag = len(attribute(model.module, exported.state[table])), offsets.get(ids)
        own = values[ids] if bag is not None else by_row(exported, ids, values[ids], rows.rows)
        own = own.reshape(len(own), -1)
        lowest = -size if operation(look) == "index" else 0
        for row, at in ((own < lowest) | (own >= size)).nonzero()[:1].tolist():
            name = fields[cut.sources[at if len(cut.sources) == own.shape[1] else 0]]
            what = (
                f"{name} is {own[row, at]}, and its table {cut.table} has the rows 0 to {size - 1}"
            )
            yield row if bag is None else int((bag <= row).sum()) - 1, what
