"""Batches of facebookresearch/dlrm in files of `torch.save`, as of Captum's DLRM tutorial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import FilePath
from torch import Tensor

from glassrec.data.batch import Batch, Split
from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, Source
from glassrec.data.encoding import NO_SCALERS, Scalers
from glassrec.data.schema import ABSENT, Field, Schema
from glassrec.data.splits import Random, Splitter
from glassrec.data.torch_file import load_state_dict, load_torch_file
from glassrec.spelling import one_of


@dataclass(frozen=True)
class DLRMBatches(Source):
    """Rows in the tensors that facebookresearch/dlrm passes to its model.

    The file holds a dict, or a list of several: `X_test` (B, D) float; `lS_o_test` and `lS_i_test`,
    for each table the offsets (B,) of the rows' bags and their ids; and, where there are any, the
    labels `T_test` (B, 1) and the outputs of the model `probs` (B, 1). Columns are d0, d1, … and
    s0, s1, …, where s3 are ids of the table `emb_l.3`, none of which stands for unseen values.

    Attributes:
        path: the file.
        checkpoint: of the model, for the sizes of its tables; None takes the largest ids.
        split: how rows are divided. Nothing needs to be trained, so few rows train.
        log: whether dense values x become log(1 + x). That project does so when it makes batches,
            so files of batches hold logarithms.
        check_probs: whether a model that starts from trained weights must give `probs`.
    """

    path: FilePath
    checkpoint: FilePath | None = None
    split: Splitter = field(default_factory=lambda: Random(validation=0.4, test=0.4))
    log: bool = False
    check_probs: bool = True

    @property
    def paths(self) -> list[Path]:
        """Both files."""
        return [Path(path) for path in (self.path, self.checkpoint) if path]

    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """The rows of the file, divided; values stay as they are, so `scalers` are not used."""
        content = load_torch_file(Path(self.path))
        batches = content if content and isinstance(content, list | tuple) else [content]
        parts = [_read(batch, f"{self.path}, batch {n}") for n, batch in enumerate(batches)]
        tensors, bags = zip(*parts, strict=True)
        dense, targets, probs = (torch.cat(each) for each in zip(*tensors, strict=True))
        dense = dense.log1p() if self.log else dense
        for row, column in (~dense.isfinite()).nonzero()[:1].tolist():
            after = " after log(1 + x)" if self.log else ""
            raise ValueError(f"{self.path}: d{column} is no finite number{after} in row {row}")
        tables = [[torch.cat(x) for x in zip(*t, strict=True)] for t in zip(*bags, strict=True)]
        fields = self._fields(tables)
        names = tuple(f"d{n}" for n in range(dense.shape[1]))
        schema = Schema(names, fields, unseen=False, summed=True)
        padded = []
        for (lengths, own), each, first in zip(tables, fields, schema.offsets, strict=True):
            there = torch.arange(each.values) < lengths.unsqueeze(1)
            padded.append(torch.full(there.shape, ABSENT).masked_scatter(there, own + first))
        ids = torch.cat(padded, 1)
        batch = Batch(dense, ids, ids[:, :0], targets)
        frame = pd.DataFrame({"label": batch.targets[:, 0], "row": np.arange(batch.rows)})
        columns = Columns(label="label", dense=("row",), chronological=True)
        divided = self.split.split(frame, columns, self.split.generator(seed))
        rows = [torch.tensor(part.frame["row"].to_numpy()) for part in divided]
        train, validation, test = (Split(batch.select(index)) for index in rows)
        found = Dataset(schema, train, validation, test)
        if not self.check_probs or probs.isnan().any():
            return found
        by_split = zip(found.splits, rows, strict=True)
        return replace(found, probabilities={name: probs[index] for name, index in by_split})

    def _fields(self, tables: list[list[Tensor]]) -> tuple[Field, ...]:
        """A field a table; ValueError at the first id that its table does not hold."""
        sizes = [int(ids.max()) + 1 if len(ids) else 1 for _, ids in tables]
        if self.checkpoint is not None:
            state = load_state_dict(Path(self.checkpoint))
            expected = [f"emb_l.{n}.weight" for n in range(len(tables))]
            for name in sorted({n for n in state if n.startswith("emb_l")} ^ {*expected})[-1:]:
                raise ValueError(
                    f"{self.path} has ids of {len(tables)} tables, and {self.checkpoint} "
                    f"{'has' if name in state else 'lacks'} {name}; take the batches of that model "
                    "(quotient-remainder and mixed-dimension tables are not read)"
                )
            sizes = [len(state[name]) for name in expected]
        found = []
        for n, ((lengths, ids), size) in enumerate(zip(tables, sizes, strict=True)):
            for at in ((ids < 0) | (ids >= size)).nonzero()[:1, 0].tolist():
                row = int(torch.searchsorted(lengths.cumsum(0), at, right=True))
                raise ValueError(
                    f"{self.path}: s{n} has the id {int(ids[at])} in row {row}, and emb_l.{n} has "
                    f"{size:,} rows, numbered from 0; take the batches of that model"
                )
            # An empty bag has a vector, too: a sum of none.
            width = max(int(lengths.max()), 1 + int((lengths == 0).any()))
            found.append(Field(f"s{n}", size, width))
        return tuple(found)


def _read(batch: Any, where: str) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Dense values (B, D), labels and outputs (B, 1), NaN where there are none; and by table how
    many ids each row has (B,), and all ids (N,).
    """
    if not isinstance(batch, Mapping):
        raise ValueError(f"{where} is of type {type(batch).__name__}; a dict of tensors is needed")
    named = {str(name).removesuffix("_test"): value for name, value in batch.items()}
    for name in ("X", "lS_o", "lS_i"):
        if name not in named:
            raise ValueError(f"{where} has no {name}_test{one_of(f'{name}_test', [*batch])}")
    dense, offsets, ids = named["X"].float(), named["lS_o"], named["lS_i"]
    unknown = torch.full((len(dense), 1), math.nan)
    labels, probs = (named.get(name, unknown).reshape(-1, 1).float() for name in ("T", "probs"))
    if not len(dense) or not 0 < len(offsets) == len(ids):
        sizes = f"{len(dense)} rows, {len(offsets)} tables of offsets and {len(ids)} of ids"
        raise ValueError(f"{where} has {sizes}; give some rows, and ids and offsets of each table")
    for name, rows in {"lS_o_test": offsets[0], "T_test": labels, "probs": probs}.items():
        if len(rows) != len(dense):
            raise ValueError(f"{where}: {name} has {len(rows)} rows, and X_test {len(dense)}")
    tables = []
    for n, (starts, own) in enumerate(zip(offsets, ids, strict=True)):
        lengths = torch.cat([starts, starts.new_tensor([len(own)])]).diff()
        if starts[0] != 0 or (lengths < 0).any():
            row = int((lengths < 0).int().argmax())
            raise ValueError(
                f"{where}: lS_o_test[{n}] must begin at 0, never decrease, and not pass the "
                f"{len(own):,} ids of lS_i_test[{n}]; row {row} begins at {starts[row]}"
            )
        tables.append((lengths.long(), own.long()))
    return [dense, labels, probs], tables
