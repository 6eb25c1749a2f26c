"""Time and memory of encoding text in Criteo's format into a store, and of reading it again.

    python benchmarks/encoding.py generate --rows 4_000_000 --ids 300_000 --out DIR
    python benchmarks/encoding.py encode DIR    # encode, read again, and polars if it is installed
    python benchmarks/encoding.py train DIR --batch-size 4096

`generate` goes on where it was stopped. The sizes of the vocabularies are in the proportions of the
Kaggle set, values are drawn uniformly. Each measurement is a process of its own; its memory is the
most that it ever had (VmHWM), with the libraries. polars does less: it parses the text and writes
parquet, without vocabularies, scales, splits and checks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time

SIZES = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992,
    5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
"""Of C1 to C26 in the Kaggle set."""

CHUNK = 500_000
"""Rows that are generated at once."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("generate")
    making.add_argument("--rows", type=int, required=True)
    making.add_argument("--ids", type=int, default=300_000)
    making.add_argument("--out", type=Path, required=True)
    for name in ("encode", "train", "store", "load", "polars"):
        each = commands.add_parser(name)
        each.add_argument("folder", type=Path)
        each.add_argument("--batch-size", type=int, default=4096)
        each.add_argument("--epochs", type=int, default=1)
    asked = parser.parse_args()
    if asked.command == "generate":
        generate(asked.rows, asked.ids, asked.out)
    elif asked.command == "encode":
        for name in ("store", "load", "polars"):
            subprocess.run(
                [sys.executable, __file__, name, str(asked.folder)], check=name != "polars"
            )
    elif asked.command == "train":
        train(asked.folder, asked.batch_size)
    else:
        globals()[f"run_{asked.command}"](asked.folder)


def generate(rows: int, ids: int, folder: Path) -> None:
    """Write DIR/train.txt; DIR/progress.json says what is complete."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv

    folder.mkdir(parents=True, exist_ok=True)
    path, progress = folder / "train.txt", folder / "progress.json"
    known = json.loads(progress.read_text()) if progress.exists() else {"rows": 0, "bytes": 0}
    sizes = [max(3, round(size * ids / sum(SIZES))) for size in SIZES]
    texts = [pa.array([f"{(n * 2654435761 + at) % 2**32:08x}" for n in range(size)])
             for at, size in enumerate(sizes)]  # fmt: skip
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(known["bytes"])
        file.seek(known["bytes"])
        for start in range(known["rows"], rows, CHUNK):
            n = min(CHUNK, rows - start)
            random = np.random.default_rng([ids, start])
            columns = [pa.array((random.random(n) < 0.25).astype(np.int8))]
            for _ in range(13):
                counts = random.lognormal(2, 2, n).astype(np.int32)
                columns.append(pa.array(counts, mask=random.random(n) < 0.2))
            columns += [each.take(pa.array(random.integers(0, len(each), n))) for each in texts]
            table = pa.table(columns, names=[str(at) for at in range(40)])
            pa.csv.write_csv(table, file, options)
            file.flush()
            known = {"rows": start + n, "bytes": file.tell()}
            progress.write_text(json.dumps(known))
            print(f"{known['rows']:,} rows, {known['bytes'] / 2**30:.2f} GiB", flush=True)


def source(folder: Path):
    from glassrec.data.criteo import Criteo

    return Criteo(folder, min_count=1)


def memory(kind: str) -> float:
    """MiB of this process: VmHWM, VmRSS or RssAnon."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def run_store(folder: Path) -> None:
    from glassrec.data.store import load_dataset

    base, began, busy = memory("VmHWM"), perf_counter(), process_time()
    data = load_dataset(source(folder), 0, cache=folder / "cache")
    took, worked = perf_counter() - began, process_time() - busy
    rows, most = sum(split.batch.rows for split in data.splits.values()), memory("VmHWM")
    print(f"encode    {rows:,} rows, {data.schema.num_ids:,} ids: {took:.1f} s, {worked:.1f} s of "
          f"processors, at most {most:,.0f} MiB ({base:,.0f} before)", flush=True)  # fmt: skip


def run_load(folder: Path) -> None:
    from glassrec.data.store import load_dataset

    base, began = memory("VmHWM"), perf_counter()
    load_dataset(source(folder), 0, cache=folder / "cache")
    print(
        f"load      {perf_counter() - began:.2f} s, {memory('VmHWM') - base:,.0f} MiB more",
        flush=True,
    )


def run_polars(folder: Path) -> None:
    import polars

    base, began, busy = memory("VmHWM"), perf_counter(), process_time()
    rows = polars.scan_csv(folder / "train.txt", separator="\t", has_header=False)
    rows.sink_parquet(folder / "polars.parquet")
    took, worked = perf_counter() - began, process_time() - busy
    most = memory("VmHWM")
    print(f"polars    {took:.1f} s, {worked:.1f} s of processors, at most {most:,.0f} MiB "
          f"({base:,.0f} before)", flush=True)  # fmt: skip
    (folder / "polars.parquet").unlink()


def train(folder: Path, size: int) -> None:
    """Rows a second of processor time of a DLRM, from the store and from arrays in memory."""
    import torch

    from glassrec.data import dataset as module
    from glassrec.data.batch import Batch, rebatch
    from glassrec.data.store import load_dataset
    from glassrec.models.dlrm import DLRM

    stored = load_dataset(source(folder), 0, cache=folder / "cache")
    module.MAX_EPOCH_BYTES = 0  # blocks, whatever the size
    whole = stored.train.batch.slice(0, min(stored.train.batch.rows, 1_000_000))
    model = DLRM(stored.schema)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(batch: Batch) -> None:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def measured(batches) -> float:
        busy, rows = process_time(), 0
        for batch in batches:
            step(batch)
            rows += batch.rows
        return rows / (process_time() - busy)

    steps = max(1, min(60, whole.rows // size))
    ratios = []
    for turn in range(5):
        sizes = [size] * steps
        one = measured(rebatch(stored.epoch_parts(0, turn), sizes))
        other = measured(whole.slice(at * size, (at + 1) * size) for at in range(steps))
        ratios.append(one / other)
        print(f"turn {turn}: {one:,.0f} rows/s from the store, {other:,.0f} from memory: "
              f"{one / other:.3f}", flush=True)  # fmt: skip
    print(f"median    {sorted(ratios)[2]:.3f}")


if __name__ == "__main__":
    main()
