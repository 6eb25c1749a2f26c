"""What the stages hand to each other: frozen dataclasses, each one file of a run directory.

Tensors lie in safetensors, tables in parquet or CSV, facts in JSON. Nothing here depends on the
time of day or on where the directory lies, so equal runs give equal files, but for the seconds that
the methods of an explanation take, and both models.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from math import nan
from pathlib import Path
from typing import Any, Self, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

T = TypeVar("T")


class Artifact(ABC):
    """Something that a stage makes once and others read."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write everything to one file."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; ValueError if the file is damaged."""


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of named tensors, in the order of their names, in hex.

    It is of names, shapes and numbers, taken in float64, so that it does not depend on how a file
    or a model holds them.
    """
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        tensor = tensor.double() if tensor.is_floating_point() else tensor
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


@dataclass(frozen=True)
class Weights(Artifact):
    """The parameters and buffers of a model, by name."""

    tensors: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write the tensors in safetensors format."""
        save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the tensors to the CPU."""
        return cls(_tensors(path)[0])

    @property
    def bytes(self) -> int:
        """The size of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class Candidates(Artifact):
    """The ranking lists of the evaluation splits: joint rows (N, F) and query (N,) a split."""

    ids: dict[str, Tensor]
    query: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write the tensors in safetensors format, as int32: half the size."""
        tensors = {f"{split}.ids": ids for split, ids in self.ids.items()}
        tensors |= {f"{split}.query": query for split, query in self.query.items()}
        save_file({name: tensor.int().contiguous() for name, tensor in tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the tensors to the CPU."""
        parts: dict[str, dict[str, Tensor]] = {"ids": {}, "query": {}}
        for name, tensor in _tensors(path)[0].items():
            split, kind = name.rsplit(".", 1)
            parts[kind][split] = tensor.long()
        return cls(parts["ids"], parts["query"])


@dataclass(frozen=True)
class Attributions:
    """How much each of P players moved each of N logits away from the baseline's."""

    players: tuple[str, ...]
    values: Tensor
    """(N, P)"""
    logits: Tensor
    """(N,)"""
    baseline_logits: Tensor
    """(N,)"""
    rows: Tensor
    """(N,) the explained rows of the split"""
    labels: Tensor
    """(N,) the true values of the explained task"""

    @classmethod
    def join(cls, parts: Iterable[Attributions]) -> Self:
        """All rows of several, which have the same players."""
        first, *others = parts
        tensors = (
            torch.cat([getattr(part, name) for part in (first, *others)])
            for name in ("values", "logits", "baseline_logits", "rows", "labels")
        )
        return cls(first.players, *tensors)

    def take(self, places: Tensor) -> Attributions:
        """Some of the rows, by their places."""
        tensors = (self.values, self.logits, self.baseline_logits, self.rows, self.labels)
        return Attributions(self.players, *(tensor[places] for tensor in tensors))

    @property
    def delta(self) -> Tensor:
        """(N,): what the players' parts miss of the logit difference; 0 is complete."""
        return self.values.sum(1) - (self.logits - self.baseline_logits)

    @property
    def relative_delta(self) -> float:
        """The mean size of `delta` over the mean size of the logit difference."""
        scale = (self.logits - self.baseline_logits).abs().mean()
        return (self.delta.abs().mean() / scale.clamp_min(torch.finfo(scale.dtype).tiny)).item()

    def importance(self) -> pd.Series:
        """The mean of |attribution| a player, largest first. Signs never cancel."""
        mean = pd.Series(self.values.abs().mean(0).tolist(), index=list(self.players))
        return mean.sort_values(ascending=False, kind="stable")


_ABOUT = ("@row", "@label", "@logit", "@baseline_logit")
"""The columns of an attribution file that are no player's; none of those is called so."""

_PIECE, _TOGETHER = 4096, 4
"""Rows of an attribution file that are read at once, at most, and how many times those are one row
group of the file."""


@dataclass(frozen=True)
class AttributionFile(Artifact):
    """Attributions of any number of rows in parquet: a column a player, beside `_ABOUT`.

    It is written and read piece by piece, so that memory does not grow with the rows. One that is
    not saved yet consists of a file a piece.
    """

    files: tuple[Path, ...]

    @staticmethod
    def write_piece(path: Path, piece: Attributions) -> None:
        """Write the rows of one piece, as one row group."""
        about = (piece.rows, piece.labels, piece.logits, piece.baseline_logits)
        columns = [*about, *piece.values.unbind(1)]
        arrays = [pa.array(column.numpy()) for column in columns]
        table = pa.Table.from_arrays(arrays, [*_ABOUT, *piece.players])
        # No two parts are equal, so a dictionary of them would only take time.
        pq.write_table(table, path, row_group_size=max(1, len(piece.rows)), use_dictionary=False)

    def save(self, path: Path) -> None:
        """Write all pieces to one file, several as one row group: readers keep a note of each."""
        with pq.ParquetWriter(path, pq.read_schema(self.files[0]), use_dictionary=False) as writer:
            batches = self._batches()
            while some := [*islice(batches, _TOGETHER)]:
                writer.write_table(pa.Table.from_batches(some), row_group_size=_TOGETHER * _PIECE)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The file itself; ValueError if it is damaged."""
        try:
            pq.read_schema(path)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{path} is damaged ({error}); delete it to have it made again"
            ) from None
        return cls((path,))

    @property
    def players(self) -> tuple[str, ...]:
        """Who has an attribution."""
        return tuple(pq.read_schema(self.files[0]).names[len(_ABOUT) :])

    @property
    def rows(self) -> int:
        """The number of rows N."""
        return sum(pq.read_metadata(file).num_rows for file in self.files)

    def pieces(self) -> Iterator[Attributions]:
        """All rows, some thousand at a time."""
        players = self.players
        for batch in self._batches():
            rows, labels, logits, baselines, *values = (
                torch.from_numpy(column.to_numpy().copy()) for column in batch.columns
            )
            yield Attributions(players, torch.stack(values, 1), logits, baselines, rows, labels)

    def sample(self, count: int) -> Attributions:
        """At most `count` rows, at even places."""
        wanted = torch.linspace(0, self.rows - 1, min(count, self.rows)).round().long()
        parts, start = [], 0
        for piece in self.pieces():
            inside = wanted[(wanted >= start) & (wanted < start + len(piece.rows))]
            parts.append(piece.take(inside - start))
            start += len(piece.rows)
        return Attributions.join(parts)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for path in self.files:
            with pq.ParquetFile(path) as file:
                # `iter_batches` would keep the whole file, and threads memory of their own.
                for group in range(file.num_row_groups):
                    yield from file.read_row_group(group, use_threads=False).to_batches(_PIECE)
        pa.default_memory_pool().release_unused()  # Arrow would keep it for the next file


@dataclass(frozen=True)
class Explanation(Artifact):
    """What was explained and how, and how far the result can be trusted; titles are made of it."""

    method: str
    neurons: str
    """the method of the neurons"""
    baseline: str
    selection: str
    """which rows: `2,000 of 6,000 val rows at random`"""
    task: str
    rows: int
    mean_logit: float
    mean_baseline_logit: float
    relative_delta: float
    """mean |Σ parts − logit difference| over mean |logit difference|"""
    complete: bool
    """whether the method claims that its parts add up to the logit difference"""
    agreement: float | None
    """the mean rank correlation, over rows, of the parts of two seeds; None if nothing is drawn, or
    no row has parts that can be ranked"""
    rank_stability: float
    """the mean rank correlation of the importance on disjoint random parts of the rows; NaN where
    they rank nothing"""

    def save(self, path: Path) -> None:
        """Write JSON."""
        _write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON; null is not a number, but for the agreement, which may be None."""
        facts: dict[str, Any] = _read_json(path)
        missing = {name: nan for name, v in facts.items() if v is None and name != "agreement"}
        return cls(**(facts | missing))


@dataclass(frozen=True)
class Table(Artifact):
    """A table; parquet, or CSV where the path says so.

    History: one row an epoch. Neuron scores: one row a unit, with the columns layer, position
    (in the layer as it is), unit (in the layer as it was built), name, and statistics of the
    unit's conductance over the explained rows: mean_abs, max_abs, mean, cancellation, zero_share.
    Pairs of features: first, second, the same statistics of their interaction, and weight_norm, the
    model's own view of the pair, where it has one.
    """

    frame: pd.DataFrame

    def save(self, path: Path) -> None:
        """Write the table without its index."""
        if _is_csv(path):
            self.frame.to_csv(path, index=False)
        else:
            self.frame.to_parquet(path, index=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the table."""
        return cls(pd.read_csv(path) if _is_csv(path) else pd.read_parquet(path))


@dataclass(frozen=True)
class LayerCut:
    """What a plan does to one layer; units are numbered as the layer was built."""

    built: int
    """units that the layer was built with"""
    kept: list[int]
    dropped: dict[str, list[int]]
    """by level: domain, data, sample or budget; an exact plan of level data also has units at
    level domain, those that nobody read before anything went"""
    constants: dict[int, float]
    """what readers put in the place of each dropped unit: what it always emitted at the levels
    domain and data, its mean at the levels sample and budget, or 0 if means are not folded"""
    proposed: int
    """units of zero conductance on the sample"""
    refuted: int
    """of those, the ones kept, as they are not constant"""
    tied: int
    """units kept though the level lets them go: a reader does more than weigh and add them"""
    stays: str
    """why the layer keeps all of its units, or its last one; empty if neither is so"""


@dataclass(frozen=True)
class PrunePlan(Artifact):
    """Which units go and what constants they leave, a layer, and how they were found."""

    level: str
    score: str
    """by which units were ranked, at level budget; empty at the others"""
    ground: str
    """what an exact level stands on, in words; empty at the others"""
    passes: int
    """how often the model was watched until nothing more became constant"""
    folded: bool
    """whether readers took over the means of what was cut, where a cut is not exact"""
    finetuned: bool
    """whether the smaller model was trained on: then its weights do not follow from the plan"""
    weights: str
    """sha256 of the tensors of the model that it is of, in the order of their names"""
    layers: dict[str, LayerCut]

    @property
    def dropped(self) -> int:
        """The number of units that go."""
        return sum(len(cut.constants) for cut in self.layers.values())

    @property
    def units(self) -> int:
        """The number of units before the cut."""
        return self.dropped + sum(len(cut.kept) for cut in self.layers.values())

    def save(self, path: Path) -> None:
        """Write JSON."""
        _write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON."""
        return _read_json(path, lambda facts: cls(**(facts | {"layers": _cuts(facts["layers"])})))


def _cuts(layers: Mapping[str, Any]) -> dict[str, LayerCut]:
    cuts = {
        name: LayerCut(**(cut | {"constants": {int(u): c for u, c in cut["constants"].items()}}))
        for name, cut in layers.items()
    }
    for name, cut in cuts.items():
        if sorted(unit for units in cut.dropped.values() for unit in units) != sorted(
            cut.constants
        ):
            raise ValueError(f"it drops other units of {name} than it gives constants for")
    return cuts


@dataclass(frozen=True)
class Gone:
    """Units of a layer that went at one level and left the same constant."""

    level: str
    constant: float
    count: int
    units: str
    """their names as the layer was built: `top.0[0-5, 9]`, `C3×C14, C3×C15`"""


@dataclass(frozen=True)
class CertifiedLayer:
    """What a cut did to one layer."""

    built: int
    """units that the layer was built with"""
    before: int
    """units that it had before the cut"""
    gone: list[Gone]

    @property
    def count(self) -> int:
        """The number of units that went."""
        return sum(gone.count for gone in self.gone)


@dataclass(frozen=True)
class Certificate(Artifact):
    """What a comparison of the large and the small model on all rows found."""

    level: str
    exact: bool
    """whether the level promises equality, and the comparison kept the promise"""
    ground: str
    """in words, how an exact level was proven"""
    rows: dict[str, int]
    """rows compared, a split"""
    max_abs_logit_difference: float
    """in float64"""
    p999_abs_logit_difference: float
    """the 99.9th percentile, in float64"""
    rows_changed: int
    """rows whose logit moved by more than `tolerance`"""
    tolerance: float
    layers: dict[str, CertifiedLayer]
    """which units went, by layer, input side first"""
    weights: str
    """`digest` of the large model's tensors"""
    pruned: str
    """`digest` of the small model's tensors"""
    files: dict[str, str]
    """sha256 of the files of both models and of the plan"""
    given: dict[str, dict[str, str]]
    """sha256 of what comes from outside: of the data's files, and of what the model started from"""
    splits: dict[str, str]
    """`digest` of each split's tensors, so that data made from settings has one too"""
    versions: dict[str, str]
    """of the packages that made the comparison"""

    def save(self, path: Path) -> None:
        """Write JSON."""
        _write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON; null is not a number."""
        return _read_json(path, lambda facts: cls(**_certified(facts)))


def _certified(facts: dict[str, Any]) -> dict[str, Any]:
    missing = {name: nan for name, value in facts.items() if value is None}
    layers = {
        name: CertifiedLayer(**(layer | {"gone": [Gone(**gone) for gone in layer["gone"]]}))
        for name, layer in facts["layers"].items()
    }
    return facts | missing | {"layers": layers}


@dataclass(frozen=True)
class Text(Artifact):
    """Text for people, in UTF-8."""

    text: str

    def save(self, path: Path) -> None:
        """Write the text."""
        path.write_text(self.text, encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the text."""
        return cls(path.read_bytes().decode("utf-8"))


@dataclass(frozen=True)
class Facts(Artifact):
    """Plain values under names, for who reads JSON."""

    values: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write JSON."""
        _write_json(path, self.values)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON."""
        return cls(_read_json(path))


@dataclass(frozen=True)
class Metrics(Artifact):
    """Named numbers, flat: `test/auroc`, `pruned/test/auroc`, `parameters`."""

    values: dict[str, float]

    def save(self, path: Path) -> None:
        """Write JSON, sorted by name."""
        _write_json(path, dict(sorted(self.values.items())))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON; null is not a number."""
        values: dict[str, float | None] = _read_json(path)
        return cls({name: nan if value is None else value for name, value in values.items()})


@dataclass(frozen=True)
class Picture(Artifact):
    """A figure as PNG."""

    png: bytes

    def save(self, path: Path) -> None:
        """Write the bytes."""
        path.write_bytes(self.png)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the bytes."""
        return cls(path.read_bytes())


@dataclass(frozen=True)
class Binary(Artifact):
    """A file for others, which Glassrec does not read."""

    content: bytes

    def save(self, path: Path) -> None:
        """Write the bytes."""
        path.write_bytes(self.content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the bytes."""
        return cls(path.read_bytes())


def _tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to have it made again") from None


def _is_csv(path: Path) -> bool:
    return ".csv" in path.suffixes


def _write_json(path: Path, value: Any) -> None:
    # A number that is not finite has no JSON; null says "no value" to every reader.
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    # A list of a thousand units on one line, not on a thousand.
    text = re.sub(r'\[\s+([^\[\]{}"]*?)\s+\]', lambda m: f"[{' '.join(m[1].split())}]", text)
    path.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value


def _read_json(path: Path, build: Callable[[Any], T] = lambda value: value) -> T:
    """What `build` makes of a JSON file; ValueError if that is damaged, or not what it expects."""
    try:
        return build(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to have it made again") from None
