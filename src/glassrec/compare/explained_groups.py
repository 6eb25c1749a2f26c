"""Explanations by group of items and users: how much rows with rare ones rely on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from glassrec.artifacts.file_list import ATTRIBUTIONS, ENCODER, INTERACTIONS
from glassrec.compare.explanation_agreement import heat_table
from glassrec.compare.page_tables import PageTable, SettingView
from glassrec.compare.run_comparison import ComparisonGroup, limited
from glassrec.report.formatting import percent
from glassrec.report.run_record import RunRecord
from glassrec.spelling import listed

THIRDS = ("rarest third", "middle third", "most frequent third")
"""Of the explained items or users, by their rows in the data."""


def group_tables(group: ComparisonGroup, best: Sequence[SettingView]) -> Iterator[PageTable]:
    """For items and for users, the share of the attributions that is theirs, by frequency."""
    for role in ("item", "user"):
        by_run = {each.key: [_by_frequency(run, role) for run in each.runs] for each in best}
        found = {key: pd.DataFrame(runs, columns=THIRDS).mean() for key, runs in by_run.items()}
        frame = pd.DataFrame(found).T.dropna()
        if frame.empty:
            continue
        means = [f"{percent(share)} for the {name}" for name, share in frame.mean().items()]
        note = (
            f"In %: on rows of each group of {role}s, the |attribution| of the {role}’s columns as "
            f"a share of that of all inputs, mean over seeds. Groups are thirds of the explained "
            f"{role}s by their rows in the data.{limited(group)}"
        )
        finding = f"On average over the settings, {listed(means)} of {role}s."
        heading = f"Do the models rely on rare and frequent {role}s alike?"
        yield heat_table(heading, finding, note, best, frame)


def _by_frequency(run: RunRecord, role: str) -> dict[str, float]:
    """The share of |attribution| of the columns of `role`, by third; empty if it is not known."""
    encoder, explained = run.load(ENCODER), run.load(ATTRIBUTIONS)
    path = run.path / INTERACTIONS.name  # read without the run, which would keep it in memory
    try:
        rows = pq.read_table(path, columns=[role]).to_pandas() if path.is_file() else {}
    except (OSError, pa.ArrowException) as error:
        run.unreadable.append(f"{path}: {error}")
        return {}
    if encoder is None or explained is None or role not in rows or not run.trusted:
        return {}
    roles, features, key = encoder.values["roles"], [*explained.features], f"@{role}"
    names = [roles[role], *(roles["item_side"] if role == "item" else ())]
    own = [name for name in features if name in names]
    parts = []
    with pq.ParquetFile(explained.files[0]) as file:
        if not own or key in features or key not in file.schema_arrow.names:
            return {}
        for piece in file.iter_batches(columns=[key, *features]):
            frame = piece.to_pandas()
            sizes = frame[features].abs()
            sums = pd.DataFrame({"own": sizes[own].sum(axis=1), "all": sizes.sum(axis=1)})
            parts.append(sums.groupby(frame[key].astype(str)).sum())
    each = pd.concat(parts).groupby(level=0).sum()
    counts = rows[role].astype(str).value_counts().reindex(each.index, fill_value=0)
    if len(each) < len(THIRDS):
        return {}
    thirds = pd.qcut(counts.rank(method="first"), len(THIRDS), labels=list(THIRDS))
    together = each.groupby(thirds, observed=True).sum()
    return {str(third): row["own"] / row["all"] for third, row in together.iterrows()}
