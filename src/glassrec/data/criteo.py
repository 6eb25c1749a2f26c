"""Display advertising logs in the format of Criteo's Kaggle challenge (2014)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, MinLen
from pydantic import DirectoryPath

from glassrec.data.cells import NUMBER, TEXT
from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, Source, build_dataset
from glassrec.data.encoding import NO_SCALERS, Scalers
from glassrec.data.row_blocks import RowBlocks, text_blocks
from glassrec.data.splits import ByTime, Splitter
from glassrec.data.text_file import Format, Origin, read_text

DENSE = tuple(f"I{i}" for i in range(1, 14))
CATEGORICAL = tuple(f"C{i}" for i in range(1, 27))
COLUMNS = Columns(
    label="label", dense=DENSE, categorical=CATEGORICAL, missing_ok=DENSE, log=DENSE,
    chronological=True,
)  # fmt: skip
TYPES = {"label": NUMBER} | dict.fromkeys(DENSE, NUMBER) | dict.fromkeys(CATEGORICAL, TEXT)


@dataclass(frozen=True)
class Criteo(Source):
    """Clicks on adverts: a label, counts I1 to I13 and hashed categories C1 to C26.

    The file has no header; cells are separated by tabs and may be empty. Counts become
    log(1 + max(x, 0)), standardised; an empty one becomes the mean. An empty category is a value of
    its own. Rows are in order of time, so a split by time goes by file order.

    Attributes:
        root: the folder of the file.
        file: its name.
        split: how rows are divided.
        min_count: how often a category must occur in training to get an id of its own.
    """

    root: DirectoryPath
    file: Annotated[str, MinLen(1)] = "train.txt"
    split: Splitter = field(default_factory=ByTime)
    min_count: Annotated[int, Ge(1)] = 2

    def row_blocks(self) -> RowBlocks:
        """The rows of the file."""
        read = partial(text_blocks, self._path, Format(), TYPES)
        return RowBlocks(COLUMNS, self.split, self.min_count, read)

    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """The rows of the file, divided."""
        frame = read_text(self._path, TYPES)
        return build_dataset(
            frame, COLUMNS, self.split, seed,
            min_count=self.min_count, scalers=scalers, origin=Origin(self._path),
        )  # fmt: skip

    @property
    def _path(self) -> Path:
        return Path(self.root) / self.file

    @property
    def paths(self) -> list[Path]:
        """The file."""
        return [self._path]
